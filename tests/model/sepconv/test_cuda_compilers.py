"""NVIDIA's and AMD's compilers take the kernels, where they are installed; no GPU is needed."""

import ctypes
import glob
import importlib.util
import os
import re
import shutil
import subprocess

import pytest
import torch

from benchmarks.gpu import compiler
from model.sepconv import variants

SIMPLE = [variants.Build(torch.float64, wide=True), variants.Build(torch.float16)]
TILED = [variants.tiled(torch.bfloat16, 9, 3), variants.tiled(torch.float32, 51, 3)]


def build_name(build: variants.Build) -> str:
    return f"{build.name}-{build.taps}-{build.dtype}"


def test_what_ptxas_says_is_read():
    text = """ptxas info    : Compiling entry function 'forward' for 'sm_90'
ptxas info    : Function properties for forward
    24 bytes stack frame, 20 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 31680 bytes smem
ptxas info    : Compiling entry function 'frame_gradient' for 'sm_75'
ptxas info    : Function properties for frame_gradient
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 64 registers
"""
    first, second = compiler.read_ptxas(text)
    assert first == compiler.Compiled("90", "forward", 255, 36, 31680)
    assert (first.blocks, first.occupancy) == (2, 0.125)
    assert (second.blocks, second.occupancy) == (8, 1.0)


def nvcc_and_architectures() -> tuple[str, list[str]]:
    nvcc = compiler.find_nvcc()
    if nvcc is None:
        pytest.skip("no nvcc: install CUDA's toolkit, or nvidia-cuda-nvcc")
    return nvcc, compiler.known_architectures(nvcc)


def assert_compiles_without_spills(build, nvcc, architectures):
    made = compiler.compile_build(nvcc, build, architectures)
    kernels = len(variants.TILED_KERNELS) + (not build.taps)
    assert len(made) == kernels * len(architectures)
    assert {kernel.architecture for kernel in made} == set(architectures)
    assert [kernel for kernel in made if kernel.spilled_bytes] == []
    assert min(kernel.blocks for kernel in made) >= 2


@pytest.mark.parametrize("build", [SIMPLE[0], TILED[0]], ids=build_name)
def test_nvcc_compiles_for_one_gpu_without_spills(build):
    nvcc, architectures = nvcc_and_architectures()
    assert_compiles_without_spills(build, nvcc, [architectures[-1]])


@pytest.mark.slow
@pytest.mark.parametrize("build", [SIMPLE[1], TILED[1]], ids=build_name)
def test_nvcc_compiles_for_every_generation_without_spills(build):
    """sm_86 and sm_89 have the registers and instructions of sm_80, sm_100 those of sm_90."""
    nvcc, architectures = nvcc_and_architectures()
    generations = [number for number in architectures if number not in ("86", "89", "100")]
    assert_compiles_without_spills(build, nvcc, generations)


def _nvrtc() -> ctypes.CDLL:
    patterns = ["/usr/local/cuda/lib64/libnvrtc.so.*"]
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or [] if spec else []:
        patterns.append(f"{folder}/cuda_nvrtc/lib/libnvrtc.so.*")
        patterns.append(f"{folder}/cu*/lib/libnvrtc.so.*")
    for path in (path for pattern in patterns for path in sorted(glob.glob(pattern))):
        return ctypes.CDLL(path)
    pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc")


@pytest.mark.parametrize("build", [*SIMPLE, *TILED], ids=build_name)
def test_nvrtc_compiles_as_cupy_would(build):
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    source = build.source().encode()
    made = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None)
    assert made == 0
    options = [*build.options(), "--gpu-architecture=compute_90"]
    encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = nvrtc.nvrtcCompileProgram(program, len(options), encoded)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == 0, log.value.decode()
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    expected = {*variants.TILED_KERNELS} | ({"frame_gradient"} if not build.taps else set())
    assert set(re.findall(r"\.visible \.entry (\w+)", ptx.value.decode())) == expected
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


@pytest.mark.slow
@pytest.mark.parametrize("build", [SIMPLE[1], TILED[0]], ids=build_name)
def test_hipcc_compiles_for_amd(tmp_path, build):
    if shutil.which("hipcc") is None:
        pytest.skip("no hipcc: apt-get install hipcc")
    source = tmp_path / "kernels.hip"
    source.write_text("#include <hip/hip_runtime.h>\n" + build.source())
    run = subprocess.run(
        ["hipcc", "--genco", "--offload-arch=gfx90a", *build.options(), str(source)]
        + ["-o", str(tmp_path / "kernels.co")],
        env={**os.environ, "HIP_PLATFORM": "amd"},  # or it calls an nvcc that is there
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "kernels.co").stat().st_size > 0
