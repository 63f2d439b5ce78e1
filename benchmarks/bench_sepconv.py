"""The CPU operator beside three ways to write it in PyTorch: time, rate and memory.

    python benchmarks/bench_sepconv.py [--threads 2] [--taps 51] [--limit 900]

Each way at each size runs in a process of its own (Linux: the memory is read from /proc).

- Time: the best of several runs after one that compiles; a gradient's is that of the backward
  pass alone. Ways that do not end within the limit are said to.
- Rate: the multiplications and additions of the formula (2 C K K a pixel forward; as many for
  each of the three gradients) over the time; its share of the rate of sgemm, measured by turns
  with the operator in the same process.
- Memory: how far the resident size rises in one run above what it was before, with the inputs
  there: results and temporaries. Beside it the size of the inputs and the results.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch._functorch.config
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
SHAPES = ((4, 3, 128, 128), (1, 3, 540, 960))
MEBI = 2**20


def row_loop(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """One row of the kernel after the other: multiply all windows, sum, add."""
    taps, height, width = vertical.shape[1:]
    across = horizontal.permute(0, 2, 3, 1).unsqueeze(1)
    output = frame.new_zeros(*frame.shape[:2], height, width)
    for i in range(taps):
        windows = frame[:, :, i : i + height].unfold(3, taps, 1)
        output = output + (windows * across).sum(dim=-1) * vertical[:, None, i]
    return output


def unfold_einsum(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """All windows as one view, and one contraction."""
    taps = vertical.shape[1]
    windows = frame.unfold(2, taps, 1).unfold(3, taps, 1)
    return torch.einsum("bcyxij,biyx,bjyx->bcyx", windows, vertical, horizontal)


def ours(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The operator of the package."""
    from model.sepconv import separable_convolution

    return separable_convolution(frame, vertical, horizontal, implementation="cpu")


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "midframe, contiguous": ours,
    "midframe, channels-last kernels": ours,
    "row loop": row_loop,
    "unfold + einsum": unfold_einsum,
    "torch.compile of the row loop": torch.compile(row_loop, dynamic=False),
}


def resident(key: str) -> float:
    """MiB of VmRSS (now) or VmHWM (the most since the last reset)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {key} in /proc/self/status")


def extra_memory(run: Callable[[], object]) -> float:
    """MiB by which one run raises the resident size at most."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or freed memory still counts as resident, and is reused
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    run()
    return resident("VmHWM") - before


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def measure(way: str, shape: tuple[int, ...], taps: int, budget: float) -> None:
    """Print a line of JSON for each pass."""
    torch._functorch.config.donated_buffer = False  # a compiled backward pass may run twice
    batch, channels, height, width = shape
    function = WAYS[way]
    torch.manual_seed(0)
    frame = torch.rand(batch, channels, height + taps - 1, width + taps - 1)
    maps = [torch.randn(batch, taps, height, width) for _ in range(2)]
    if "channels-last" in way:
        maps = [tensor.contiguous(memory_format=torch.channels_last) for tensor in maps]
    slope = torch.rand(batch, channels, height, width)
    square = torch.rand(1024, 1024)
    work = 2 * slope.numel() * taps * taps
    passes = {"forward": (), "kernel gradients": (1, 2)}
    if function is ours:
        passes["frame gradient"] = (0,)
    for name, wanted in passes.items():
        tensors = [t.detach().requires_grad_(k in wanted) for k, t in enumerate((frame, *maps))]
        leaves = [tensors[k] for k in wanted]

        def forward(tensors=tensors) -> Tensor:
            return function(*tensors)

        def both(leaves=leaves, tensors=tensors) -> object:
            return torch.autograd.grad(function(*tensors), leaves, slope)

        run: Callable[[], object] = both if wanted else forward
        run()
        memory = extra_memory(run)
        if wanted:
            output = forward()

            def run(leaves=leaves, output=output) -> object:
                return torch.autograd.grad(output, leaves, slope, retain_graph=True)

            run()
        times: list[float] = []
        gemms: list[float] = []
        begin = time.perf_counter()
        while len(times) < 30 and (len(times) < 2 or time.perf_counter() - begin < budget):
            times.append(seconds(run))
            gemms.append(seconds(lambda: square @ square))
        results = slope.numel() + sum(leaf.numel() for leaf in leaves)
        inputs = frame.numel() + 2 * maps[0].numel()
        record = {
            "pass": name,
            "ms": min(times) * 1e3,
            "gflops": work * max(1, len(wanted)) / min(times) / 1e9,
            "sgemm": 2 * 1024**3 / min(gemms) / 1e9,
            "extra": memory,
            "size": 4 * (inputs + results) / MEBI,
        }
        print(json.dumps(record), flush=True)


def too_large(way: str, shape: tuple[int, ...], taps: int) -> bool:
    """Whether all windows at once would not fit the memory there is."""
    batch, channels, height, width = shape
    there = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return way == "unfold + einsum" and batch * channels * height * width * taps**2 * 4 > there / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--taps", type=int, default=51)
    parser.add_argument("--limit", type=float, default=900, help="seconds a way at a size")
    parser.add_argument("--way", choices=WAYS, help="only this one, in this process, as JSON")
    parser.add_argument("--shape", type=int, nargs=4, metavar=("B", "C", "H", "W"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sys.path.insert(0, str(ROOT))
    if given.way:
        measure(given.way, tuple(given.shape), given.taps, budget=3)
        return
    print(f"K = {given.taps}, {given.threads} threads, float32; × = times faster than the row loop")
    for shape in [tuple(given.shape)] if given.shape else SHAPES:
        tabulate(shape, given)


def tabulate(shape: tuple[int, ...], given: argparse.Namespace) -> None:
    """Measure every way at one size and print the table."""
    records: dict[str, list[dict]] = {}
    remarks: dict[str, str] = {}
    for way in WAYS:
        if too_large(way, shape, given.taps):
            remarks[way] = "needs more memory than there is"
            continue
        command = [sys.executable, __file__, "--way", way, "--shape", *map(str, shape)]
        command += ["--threads", str(given.threads), "--taps", str(given.taps)]
        try:
            run = subprocess.run(command, stdout=subprocess.PIPE, timeout=given.limit, text=True)
            lines, code = run.stdout, run.returncode
            if code:
                remarks[way] = f"ended with {code}"
        except subprocess.TimeoutExpired as error:
            lines = (error.stdout or b"").decode()
            remarks[way] = f"more than {given.limit:g} s"
        records[way] = [json.loads(line) for line in lines.splitlines()]
    base = {record["pass"]: record["ms"] for record in records.get("row loop", [])}
    print(f"\n### {'×'.join(map(str, shape))}\n")
    print("| way | pass | ms | × | GFLOP/s | of sgemm | extra MiB | inputs + results MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for way in WAYS:
        for r in records.get(way, []):
            faster = f"{base[r['pass']] / r['ms']:.1f}" if r["pass"] in base else "–"
            print(
                f"| {way} | {r['pass']} | {r['ms']:.1f} | {faster} | {r['gflops']:.1f} "
                f"| {r['gflops'] / r['sgemm']:.0%} | {r['extra']:.0f} | {r['size']:.0f} |"
            )
        if way in remarks:
            print(f"| {way} | {remarks[way]} | | | | | | |")


if __name__ == "__main__":
    main()
