"""The CUDA implementation, as far as a machine without a GPU can tell, and on one where it can."""

import ctypes
import glob
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.sepconv import cuda, reference, separable_convolution

TOLERANCE = {
    torch.float64: 1e-13,
    torch.float32: 1e-6,
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,
}
ROOT = cuda.SOURCE.parents[2]
KERNELS = {"forward", "frame_gradient", "vertical_gradient", "horizontal_gradient"}
dtypes = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)


def tensors(dtype, batch=2, channels=4, taps=6, height=9, width=11, device="cpu"):
    generator = torch.Generator().manual_seed(3)
    kernel = (batch, taps, height, width)
    frame = (batch, channels, height + taps - 1, width + taps - 1)
    shapes = (frame, kernel, kernel, (batch, channels, height, width))
    tensors = [torch.rand(shape, generator=generator) * 2 - 1 for shape in shapes]
    return [tensor.to(device, dtype) for tensor in tensors]


def assert_agrees_with_reference(dtype, inputs, gradient):
    """Of values given in `dtype`, everything but the last rounding in float32 or better."""
    exact = [tensor.double().cpu() for tensor in inputs]
    everything = (True, True, True)
    expected = (
        reference.forward(*exact),
        *reference.gradients(gradient.double().cpu(), *exact, everything),
    )
    results = cuda.forward(*inputs), *cuda.gradients(gradient, *inputs, everything)
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == dtype
        atol = TOLERANCE[dtype] * max(1.0, wanted.abs().max().item())
        torch.testing.assert_close(result.double().cpu(), wanted, rtol=0, atol=atol)


@dtypes
@pytest.mark.parametrize(
    ("taps", "height", "width"), [(1, 1, 1), (2, 5, 3), (6, 9, 11), (51, 3, 2)]
)
def test_on_cpu_agrees_with_reference(cuda_on_cpu, dtype, taps, height, width):
    *inputs, gradient = tensors(dtype, taps=taps, height=height, width=width)
    assert_agrees_with_reference(dtype, inputs, gradient)


@dtypes
def test_on_cpu_reads_any_strides(cuda_on_cpu, dtype):
    made = [t.contiguous(memory_format=torch.channels_last) for t in tensors(dtype)]
    assert_agrees_with_reference(dtype, made[:3], made[3])


def test_on_cpu_a_small_grid_does_all_the_work(cuda_on_cpu, monkeypatch):
    monkeypatch.setattr(cuda, "MOST_BLOCKS", 1)
    monkeypatch.setattr(cuda, "THREADS_PER_BLOCK", 7)
    *inputs, gradient = tensors(torch.float64)
    assert_agrees_with_reference(torch.float64, inputs, gradient)


def test_on_cpu_sums_in_float32_whatever_the_dtype(cuda_on_cpu):
    """4,096 equal products: a sum in half precision would stop at 2,048."""
    ones = torch.ones(1, 64, 1, 1, dtype=torch.float16)
    frame = torch.ones(1, 1, 64, 64, dtype=torch.float16)
    assert cuda.forward(frame, ones, ones).item() == 4096


def test_on_cpu_rounds_to_bfloat16_as_torch_does(cuda_on_cpu):
    values = torch.linspace(-3, 3, 9999).pow(5).tolist() + [1 + 2**-8, 1 + 3 * 2**-8, 3.4e38]
    values = torch.tensor([*values, torch.inf, -torch.inf, torch.nan]).reshape(1, 1, 1, -1)
    frame, third = values.bfloat16(), torch.full(values.shape, 1 / 3).bfloat16()
    result = cuda.forward(frame, third, torch.ones_like(third))
    expected = (frame.float() * third.float()).bfloat16()
    torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)


def _run_under_address_sanitizer(selected: str, source: Path) -> subprocess.CompletedProcess:
    """Run tests of this file in a process where each access out of bounds is an error."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider"]
    environment = {
        "LD_PRELOAD": _address_sanitizer(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "MIDFRAME_TEST_SANITIZE": "1",
        "MIDFRAME_TEST_SOURCE": str(source),
    }
    return subprocess.run(
        [*command, __file__, "-k", selected],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=550,
    )


@pytest.mark.slow
def test_sanitizer_finds_nothing():
    run = _run_under_address_sanitizer("on_cpu", cuda.SOURCE)
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    assert re.search(r"\b\d+ passed", run.stdout)


@pytest.mark.slow
def test_sanitizer_finds_a_row_too_many(tmp_path):
    source = cuda.SOURCE.read_text(encoding="utf-8")
    right, wrong = "y + r < n.height + n.taps - 1; ++r", "y + r < n.height + n.taps; ++r"
    assert source.count(right) == 1
    copy = tmp_path / "sepconv.cu"
    copy.write_text(source.replace(right, wrong), encoding="utf-8")
    run = _run_under_address_sanitizer("on_cpu_agrees", copy)
    assert run.returncode != 0
    assert "heap-buffer-overflow" in run.stdout + run.stderr


def _address_sanitizer() -> str:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile sepconv.cu for the CPU")
    found = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip("g++ comes without AddressSanitizer")
    return os.path.realpath(found)


@dtypes
@pytest.mark.parametrize(
    "architectures",
    [("90",), pytest.param(("75", "80", "86", "89", "100", "120"), marks=pytest.mark.slow)],
    ids=["one", "all"],
)
def test_nvcc_compiles(tmp_path, dtype, architectures):
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True).stdout
    chosen = [number for number in architectures if f"sm_{number}\n" in known]
    assert chosen, known
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in chosen]
    output = tmp_path / "sepconv.fatbin"
    command = [nvcc, "-fatbin", "-Werror=all-warnings", *cuda.options(dtype), *targets]
    run = subprocess.run(
        [*command, cuda.SOURCE, "-o", output], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert output.stat().st_size > 0


def _nvrtc() -> ctypes.CDLL:
    patterns = ["/usr/local/cuda/lib64/libnvrtc.so.*"]
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or [] if spec else []:
        patterns.append(f"{folder}/cuda_nvrtc/lib/libnvrtc.so.*")
        patterns.append(f"{folder}/cu*/lib/libnvrtc.so.*")
    for path in (path for pattern in patterns for path in sorted(glob.glob(pattern))):
        return ctypes.CDLL(path)
    pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc")


@dtypes
@pytest.mark.parametrize("architecture", ["75", "80", "90", "100"])
def test_nvrtc_compiles_as_cupy_would(dtype, architecture):
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    source = cuda.SOURCE.read_bytes()
    made = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"sepconv.cu", 0, None, None)
    assert made == 0
    options = [*cuda.options(dtype), f"--gpu-architecture=compute_{architecture}"]
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
    assert set(re.findall(r"\.visible \.entry (\w+)", ptx.value.decode())) == KERNELS
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    cuda._module.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'midframe\[cuda\]'"):
        cuda._module(torch.float32)


def test_importing_the_operator_does_not_import_cupy():
    script = "import sys, model.sepconv, model.sepconv.cuda; assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_source_is_part_of_the_package():
    assert Path(cuda.__file__).with_name("sepconv.cu") == cuda.SOURCE
    assert cuda.SOURCE.is_file()


needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


class TestOnGpu:
    pytestmark = needs_gpu

    @dtypes
    @pytest.mark.parametrize(("taps", "height", "width"), [(1, 1, 1), (6, 9, 11), (51, 40, 70)])
    def test_agrees_with_reference(self, dtype, taps, height, width):
        *inputs, gradient = tensors(dtype, taps=taps, height=height, width=width, device="cuda")
        assert_agrees_with_reference(dtype, inputs, gradient)

    @dtypes
    def test_reads_any_strides(self, dtype):
        made = tensors(dtype, device="cuda")
        made = [tensor.contiguous(memory_format=torch.channels_last) for tensor in made]
        assert_agrees_with_reference(dtype, made[:3], made[3])

    def test_gradients_are_those_of_the_output(self):
        *inputs, _ = tensors(torch.float64, 1, 2, 3, 4, 5, device="cuda")
        leaves = [tensor.requires_grad_() for tensor in inputs]
        assert torch.autograd.gradcheck(separable_convolution, leaves)

    def test_runs_on_the_current_stream(self):
        *inputs, _ = tensors(torch.float32, 2, 3, 51, 128, 128, device="cuda")
        expected = separable_convolution(*inputs)
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)
            late = [tensor * 2 for tensor in inputs]
            output = separable_convolution(*late)
        stream.synchronize()
        torch.testing.assert_close(output, expected * 8)

    def test_autocast_computes_in_float32(self):
        frame, vertical, horizontal, _ = tensors(torch.float32, device="cuda")
        with torch.autocast("cuda", torch.float16):
            output = separable_convolution(frame, vertical.half(), horizontal.half())
        assert output.dtype == torch.float32
