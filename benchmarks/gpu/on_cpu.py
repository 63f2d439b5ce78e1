"""The CUDA kernels on a CPU: built by a C++ compiler, block by block, with the way in of CuPy.

Tests compare them with the reference, and `gpu_check.py --pretend` runs on them.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np

import model.sepconv
from model.sepconv import cuda, variants

HERE = Path(__file__).parent
COMPILER = "g++"
COMPILE_SECONDS = 120


def has_compiler() -> bool:
    """Whether a C++ compiler is there."""
    return shutil.which(COMPILER) is not None


class CompiledForCpu:
    """A build of the kernels by g++, with the same way in as a module of CuPy.

    Parameters
    ----------
    folder : that the source and the library are written to.
    sources : the folder that holds the ``.cu`` files.
    flags : more of the compiler's flags.
    """

    def __init__(
        self, build: variants.Build, folder: Path, sources: Path, flags: Sequence[str] = ()
    ) -> None:
        name = f"{variants.SCALARS[build.dtype]}-{build.name.replace('/', '-')}-{build.taps}"
        library = folder / f"{name}-{build.channels}.so"
        if not library.exists():
            self._compile(build, library, sources, flags)
        self._library = ctypes.CDLL(str(library))

    def _compile(
        self, build: variants.Build, library: Path, sources: Path, flags: Sequence[str]
    ) -> None:
        path = library.with_suffix(f".{os.getpid()}.cpp")
        kernels = variants.TILED_KERNELS + (() if build.taps else ("frame_gradient",))
        path.write_text(
            f'#include "{HERE / "cuda_on_cpu.h"}"\n{build.source(sources)}\n'
            + "\n".join(f"LAUNCHER({kernel})" for kernel in kernels)
        )
        if build.taps:
            flags = [*flags, "-DSHARED"]
        subprocess.run(
            [COMPILER, *build.options(), "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
            + ["-pthread", *flags, str(path), "-o", str(path.with_suffix(".so"))],
            check=True,
            timeout=COMPILE_SECONDS,
        )
        os.replace(path.with_suffix(".so"), library)

    def get_function(self, name: str) -> Callable[..., None]:
        """A kernel, called with grid, block and arguments."""
        launch = getattr(self._library, f"launch_{name}")
        launch.restype = None

        def kernel(grid: tuple[int], block: tuple[int], arguments: tuple[np.generic, ...]) -> None:
            assert all(argument.nbytes == 8 for argument in arguments)
            held = [np.array(argument) for argument in arguments]
            values = (ctypes.c_void_p * len(held))(*(value.ctypes.data for value in held))
            launch(ctypes.c_uint(*grid), ctypes.c_uint(*block), values)

        return kernel


def _no_stream(device: object) -> nullcontext[None]:
    return nullcontext()


@contextmanager
def cuda_on_cpu(
    folder: Path, sources: Path = variants.FOLDER, flags: Sequence[str] = ()
) -> Iterator[None]:
    """Inside, `model.sepconv.cuda` takes CPU tensors; builds compile when they are first used."""

    @cache
    def module(build: variants.Build) -> CompiledForCpu:
        return CompiledForCpu(build, folder, sources, flags)

    with (
        mock.patch.object(cuda, "_kernel", lambda name, build: module(build).get_function(name)),
        mock.patch.object(cuda, "_torch_stream", _no_stream),
    ):
        yield


@contextmanager
def as_the_default(folder: Path) -> Iterator[None]:
    """Inside, `separable_convolution` of CPU tensors runs the CUDA kernels, compiled by g++."""
    chosen = model.sepconv._implementation

    def choose(name: str, frame):
        return cuda if name in ("", "cuda") else chosen(name, frame)

    with cuda_on_cpu(folder), mock.patch.object(model.sepconv, "_implementation", choose):
        yield
