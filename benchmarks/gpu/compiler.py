"""What NVIDIA's compiler makes of the kernels: registers, spills, occupancy; it needs no GPU.

    python benchmarks/gpu/compiler.py [--taps 51]

Needs ``nvcc`` (CUDA 12.8 or newer, for sm_120): of a CUDA toolkit, or of the packages
``nvidia-cuda-nvcc``, ``nvidia-cuda-crt`` and ``nvidia-nvvm``.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from model.sepconv import cuda, variants

# Shared memory in KiB and threads of a multiprocessor, by compute capability.
MULTIPROCESSORS = {
    "75": (64, 1024),
    "80": (164, 2048),
    "86": (100, 1536),
    "89": (100, 1536),
    "90": (228, 2048),
    "100": (228, 2048),
    "120": (100, 1536),
}
REGISTERS = 65536  # of a multiprocessor, of every capability above
RESERVED = 1024  # bytes of shared memory that a block takes beside its own


@dataclass(frozen=True)
class Compiled:
    """A kernel for one architecture, as ``ptxas -v`` describes it."""

    architecture: str
    kernel: str
    registers: int
    spilled_bytes: int
    shared_bytes: int

    @property
    def blocks(self) -> int:
        """Blocks that run on a multiprocessor at a time."""
        shared, threads = MULTIPROCESSORS[self.architecture]
        allocated = -(-self.registers // 8) * 8 * cuda.THREADS_PER_BLOCK
        return min(
            REGISTERS // allocated,
            shared * 1024 // (self.shared_bytes + RESERVED),
            threads // cuda.THREADS_PER_BLOCK,
        )

    @property
    def occupancy(self) -> float:
        """Share of a multiprocessor's threads that the blocks fill."""
        return self.blocks * cuda.THREADS_PER_BLOCK / MULTIPROCESSORS[self.architecture][1]


def find_nvcc() -> str | None:
    """The compiler driver, where PATH or CUDA's usual place has one."""
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def known_architectures(nvcc: str) -> list[str]:
    """Those of `MULTIPROCESSORS` that this compiler makes code for."""
    run = subprocess.run(
        [nvcc, "--list-gpu-code"], capture_output=True, text=True, timeout=60, check=True
    )
    return [number for number in MULTIPROCESSORS if f"sm_{number}\n" in run.stdout]


def compile_build(
    nvcc: str, build: variants.Build, architectures: Sequence[str], timeout: float = 280
) -> list[Compiled]:
    """Compile one build, with warnings as errors.

    Raises
    ------
    RuntimeError
        with what the compiler says.
    """
    targets = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in architectures]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernels.cu"
        source.write_text(build.source())
        run = subprocess.run(
            [nvcc, "-fatbin", "-Werror=all-warnings", "-Xptxas=-v", *build.options(), *targets]
            + ["--threads=2", str(source), "-o", str(source.with_suffix(".fatbin"))],
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    if run.returncode:
        raise RuntimeError(run.stdout + run.stderr)
    return read_ptxas(run.stdout + run.stderr)


def read_ptxas(text: str) -> list[Compiled]:
    """What ``ptxas -v`` says of each kernel."""
    entries = re.findall(
        r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?"
        r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?"
        r"Used (\d+) registers([^\n]*)",
        text,
        re.DOTALL,
    )
    return [
        Compiled(
            number,
            kernel,
            int(registers),
            int(stores) + int(loads),
            int((re.search(r"(\d+) bytes smem", rest) or [0, 0])[1]),
        )
        for kernel, number, stores, loads, registers, rest in entries
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--taps", type=int, nargs="*", default=[51])
    given = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        sys.exit("no nvcc in PATH or /usr/local/cuda")
    builds = [variants.Build(torch.float32)]
    builds += [build for k in given.taps if (build := variants.tiled(torch.float32, k, 3))]
    print("| kernels | taps | | sm | registers | spilled | shared KiB | blocks | occupancy |")
    print("|---|---|---|---|---|---|---|---|---|")
    for build in builds:
        for made in compile_build(nvcc, build, known_architectures(nvcc)):
            print(
                f"| {build.name} | {build.taps or 'any'} | {made.kernel} | {made.architecture} "
                f"| {made.registers} | {made.spilled_bytes} | {made.shared_bytes / 1024:.0f} "
                f"| {made.blocks} | {made.occupancy:.0%} |"
            )


if __name__ == "__main__":
    main()
