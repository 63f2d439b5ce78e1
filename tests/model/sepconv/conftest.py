"""The three implementations for the tests, `sepconv.cu` on the CPU among them."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

import model.sepconv
from model.sepconv import cuda, separable_convolution

HERE = Path(__file__).parent
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes many seconds")
    config.addinivalue_line("markers", "gpu: runs on a CUDA device")


class CompiledForCpu:
    """`sepconv.cu` built by g++, with the same way in as a module of CuPy."""

    def __init__(self, dtype: torch.dtype, folder: Path, source: Path) -> None:
        library = folder / f"{cuda.SCALARS[dtype]}.so"
        flags = SANITIZE if os.environ.get("MIDFRAME_TEST_SANITIZE") else ()
        subprocess.run(
            ["g++", *cuda.options(dtype), f'-DSOURCE="{source}"', "-O2", "-Wall", "-Wextra"]
            + ["-Werror", "-shared", "-fPIC", *flags, HERE / "cuda_on_cpu.cpp", "-o", library],
            check=True,
        )
        self.library = ctypes.CDLL(str(library))

    def get_function(self, name: str) -> Callable[..., None]:
        launch = getattr(self.library, f"launch_{name}")
        launch.restype = None

        def kernel(grid: tuple[int], block: tuple[int], arguments: tuple[np.generic, ...]) -> None:
            assert all(argument.nbytes == 8 for argument in arguments)
            held = [np.array(argument) for argument in arguments]
            values = (ctypes.c_void_p * len(held))(*(value.ctypes.data for value in held))
            launch(ctypes.c_uint(*grid), ctypes.c_uint(*block), values)

        return kernel


@pytest.fixture(scope="session")
def cuda_on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Send what goes to the CUDA implementation to `sepconv.cu` compiled by g++."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile sepconv.cu for the CPU")
    folder = tmp_path_factory.mktemp("sepconv_cuda")
    source = Path(os.environ.get("MIDFRAME_TEST_SOURCE", cuda.SOURCE))
    modules = {dtype: CompiledForCpu(dtype, folder, source) for dtype in cuda.SCALARS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "_kernel", lambda name, dtype: modules[dtype].get_function(name))
        patch.setattr(cuda, "_torch_stream", lambda device: nullcontext())
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
