"""The three implementations for the tests, the CUDA kernels on the CPU among them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import model.sepconv
from benchmarks.gpu import on_cpu
from model.sepconv import cuda, separable_convolution, variants

SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes many seconds")
    config.addinivalue_line("markers", "gpu: runs on a CUDA device")


@pytest.fixture(scope="session")
def cuda_on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Send what goes to the CUDA implementation to its kernels compiled by g++."""
    if not on_cpu.has_compiler():
        pytest.skip("no g++ to compile the kernels for the CPU")
    folder = tmp_path_factory.mktemp("sepconv_cuda")
    sources = Path(os.environ.get("MIDFRAME_TEST_SOURCES", variants.FOLDER))
    flags = SANITIZE if os.environ.get("MIDFRAME_TEST_SANITIZE") else ()
    with on_cpu.cuda_on_cpu(folder, sources, flags):
        yield


Operator = Callable[..., torch.Tensor]


@pytest.fixture(scope="module", params=["reference", "cpu", "cuda"])
def operator(request: pytest.FixtureRequest) -> Iterator[Operator]:
    """The public function, bound to one implementation; CPU tensors for all."""
    name = request.param
    if name != "cuda":
        yield lambda *tensors: separable_convolution(*tensors, implementation=name)
        return
    request.getfixturevalue("cuda_on_cpu")
    chosen = model.sepconv._implementation

    def choose(name: str, frame: torch.Tensor):
        return cuda if name == "cuda" else chosen(name, frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.sepconv, "_implementation", choose)
        yield lambda *tensors: separable_convolution(*tensors, implementation="cuda")
