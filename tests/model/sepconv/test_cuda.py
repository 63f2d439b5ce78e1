"""The CUDA implementation, as far as a machine without a GPU can tell, and on one where it can."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from model.sepconv import cuda, reference, separable_convolution, variants

TOLERANCE = {
    torch.float64: 1e-13,
    torch.float32: 1e-6,
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,
}
ROOT = variants.FOLDER.parents[1]
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


@pytest.fixture
def in_tiles(cuda_on_cpu, monkeypatch):
    monkeypatch.setenv(variants.VARIABLE, "tiled")


TILED = [  # one build each: the type, the taps and the channels are compiled in
    (torch.float32, {"taps": 51, "channels": 3, "height": 14, "width": 35, "batch": 1}),
    (torch.float16, {"taps": 6, "channels": 4, "height": 26, "width": 33}),
    (torch.bfloat16, {"taps": 9, "channels": 1, "height": 25, "width": 40}),
    (torch.float32, {"taps": 1, "channels": 3, "height": 3, "width": 2}),
]


@pytest.mark.parametrize(("dtype", "sizes"), TILED)
def test_on_cpu_tiles_agree_with_reference(in_tiles, dtype, sizes):
    *inputs, gradient = tensors(dtype, **sizes)
    assert_agrees_with_reference(dtype, inputs, gradient)


def test_on_cpu_tiles_read_any_strides_and_one_block_makes_them_all(in_tiles, monkeypatch):
    monkeypatch.setattr(cuda, "MOST_BLOCKS", 1)
    made = tensors(torch.bfloat16, taps=9, channels=1, height=25, width=40)
    made = [tensor.contiguous(memory_format=torch.channels_last) for tensor in made]
    assert_agrees_with_reference(torch.bfloat16, made[:3], made[3])


def test_on_cpu_a_pixel_in_a_tile_sees_its_own_window_only(in_tiles):
    frame, vertical, horizontal, _ = tensors(torch.bfloat16, 1, 1, 9, 25, 40)
    frame[..., 20, 20] = torch.nan
    seen = cuda.forward(frame, vertical, horizontal).isnan().nonzero()[:, 2:]
    assert seen.min(dim=0).values.tolist() == [12, 12]
    assert seen.max(dim=0).values.tolist() == [20, 20]
    assert len(seen) == 81


def test_on_cpu_indices_of_64_bits_do_the_same(cuda_on_cpu, monkeypatch):
    *inputs, gradient = tensors(torch.float32)
    monkeypatch.setattr(variants, "MOST_SPAN", 1)
    assert_agrees_with_reference(torch.float32, inputs, gradient)


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


def _run_under_address_sanitizer(selected: str, sources: Path) -> subprocess.CompletedProcess:
    """Run tests of this file in a process where each access out of bounds is an error."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider"]
    environment = {
        "LD_PRELOAD": _sanitizer("libasan.so"),
        "ASAN_OPTIONS": "detect_leaks=0",
        "MIDFRAME_TEST_SANITIZE": "1",
        "MIDFRAME_TEST_SOURCES": str(sources),
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
    # Blocks of the tiled kernels run as 128 threads each: a few of them are watched below.
    run = _run_under_address_sanitizer("on_cpu and not tile", variants.FOLDER)
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    assert re.search(r"\b\d+ passed", run.stdout)


@pytest.mark.slow
def test_sanitizer_finds_a_row_too_many(tmp_path):
    for path in variants.FOLDER.glob("*.cu"):
        shutil.copy(path, tmp_path)
    copy = tmp_path / "simple.cu"
    source = copy.read_text(encoding="utf-8")
    right, wrong = "y + r < n.height + n.taps - 1; ++r", "y + r < n.height + n.taps; ++r"
    assert source.count(right) == 1
    copy.write_text(source.replace(right, wrong), encoding="utf-8")
    run = _run_under_address_sanitizer("on_cpu_agrees", tmp_path)
    assert run.returncode != 0
    assert "heap-buffer-overflow" in run.stdout + run.stderr


FOUR_TILES = """
import sys
from pathlib import Path

import torch

from benchmarks.gpu import on_cpu
from model.sepconv import cuda

folder, sources, *flags = sys.argv[1:]
torch.set_num_threads(1)
frame, gradient = torch.rand(1, 3, 31, 38), torch.rand(1, 3, 26, 33)
vertical, horizontal = torch.rand(2, 1, 6, 26, 33)
with on_cpu.cuda_on_cpu(Path(folder), Path(sources), flags):
    cuda.forward(frame, vertical, horizontal)
    cuda.gradients(gradient, frame, vertical, horizontal, (False, True, True))
print("ran to its end")
"""


def _run_tiles_under(kind: str, folder: Path, sources: Path) -> str:
    """What a process prints that makes four tiles while a sanitizer watches its threads."""
    folder.mkdir(exist_ok=True)
    run = subprocess.run(
        [sys.executable, "-c", FOUR_TILES, str(folder), str(sources), "-g", f"-fsanitize={kind}"],
        env=os.environ
        | {
            "LD_PRELOAD": _sanitizer(f"lib{kind[0]}san.so"),
            "ASAN_OPTIONS": "detect_leaks=0",
            variants.VARIABLE: "tiled",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    return run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["address", "thread"])
def test_sanitizers_find_nothing_in_tiles(tmp_path, kind):
    assert _run_tiles_under(kind, tmp_path, variants.FOLDER) == "ran to its end\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "right", "wrong", "found"),
    [
        (
            "thread",
            "enter(0, BELOW + STEP);\n    __syncthreads();",
            "enter(0, BELOW + STEP);",
            "data race",
        ),
        (
            "address",
            "return inside ? widen(*frame.at(b, c, y, x)) : SUM(0);",
            "return inside || true ? widen(*frame.at(b, c, y, x)) : SUM(0);",
            "heap-buffer-overflow",
        ),
    ],
    ids=["a missing barrier", "samples beyond the frame"],
)
def test_sanitizers_find_in_tiles(tmp_path, kind, right, wrong, found):
    for path in variants.FOLDER.glob("*.cu"):
        shutil.copy(path, tmp_path)
    copy = tmp_path / "tiled.cu"
    source = copy.read_text(encoding="utf-8")
    assert source.count(right) == 1
    copy.write_text(source.replace(right, wrong), encoding="utf-8")
    assert found in _run_tiles_under(kind, tmp_path / "build", tmp_path)


def _sanitizer(library: str) -> str:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the kernels for the CPU")
    found = subprocess.run(
        ["g++", f"-print-file-name={library}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip(f"g++ comes without {library}")
    return os.path.realpath(found)


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    cuda._module.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'midframe\[cuda\]'"):
        cuda._module(variants.Build(torch.float32))


def test_importing_the_operator_does_not_import_cupy():
    script = "import sys, model.sepconv, model.sepconv.cuda; assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_source_is_part_of_the_package():
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "*.cu" in packaged["tool"]["setuptools"]["package-data"]["model.sepconv"]
    assert {path.name for path in variants.FOLDER.glob("*.cu")} == {
        "scalars.cu", "simple.cu", "tiled.cu"
    }  # fmt: skip


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
