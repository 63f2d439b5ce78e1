"""Kernels compiled for aarch64 give there what they give here; QEMU is the other processor."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numba import from_dtype, types
from numpy.typing import NDArray

from model.sepconv import kernels, separable_convolution
from pipeline.flow.bilateral_filter import _TAP
from pipeline.simd.registers import EXP2_COEFFICIENTS
from tests.pipeline.simd.processors import code_for_any_processor, compiled, sum_row

COMPILER, PROCESSOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"


def builds() -> bool:
    """Whether the compiler is here, and with it the library that programs are linked to."""
    if shutil.which(COMPILER) is None:
        return False
    command = [COMPILER, "-static", "-x", "c", "-o", "/dev/null", "-"]
    program = b'#include <stdio.h>\nint main(void) { return puts(""); }\n'
    return subprocess.run(command, input=program, capture_output=True, timeout=60).returncode == 0


pytestmark = pytest.mark.skipif(
    not (builds() and shutil.which(PROCESSOR)),
    reason=f"needs {COMPILER}, its C library and {PROCESSOR} (Debian: `.ci/run` names them)",
)

# All that these kernels ask of numba's runtime: memory of arrays, which is counted and freed.
RUNTIME = """
#include <stdio.h>
#include <stdlib.h>
struct memory { size_t count; void *destructor, *its_argument, *data; size_t size; };
void *NRT_MemInfo_alloc_aligned(size_t size, unsigned align) {
  struct memory *made = calloc(1, sizeof *made);
  if (posix_memalign(&made->data, align, size)) abort();
  made->count = 1;
  made->size = size;
  return made;
}
void NRT_MemInfo_call_dtor(struct memory *of) { free(of->data); free(of); }
char subtract_to_zero(size_t *count, long by, int flags) { return (*count -= by) == 0; }
"""


def program(symbol: str, arrays: list[NDArray[Any]]) -> str:
    """C that reads the arrays' bytes, calls the kernel once and writes them all."""
    numbers = range(len(arrays))
    passed = ["(long)&nothing"] * 2  # where numba puts a value and an exception
    for number, array in enumerate(arrays):
        sizes = f"{array.size}", f"{array.itemsize}"
        passed += ["0", "0", *sizes, f"(long)array{number}", *map(str, array.shape + array.strides)]
    return "\n".join(
        [
            RUNTIME,
            f'int kernel({", ".join(["long"] * len(passed))}) __asm__("{symbol}");',
            *(f"static _Alignas(64) char array{n}[{arrays[n].nbytes}];" for n in numbers),
            "int main(void) {",
            "void *nothing = 0;",
            *(f"if (!fread(array{n}, sizeof array{n}, 1, stdin)) return 2;" for n in numbers),
            f"if (kernel({', '.join(passed)})) return 3;",
            *(f"fwrite(array{n}, sizeof array{n}, 1, stdout);" for n in numbers),
            "return fclose(stdout); }",
        ]
    )


def run_on_arm(folder: Path, function: Callable[..., None], arrays: list[NDArray[Any]]) -> None:
    """Compile a kernel for aarch64 and run it there once on the arrays, in place."""
    signature = tuple(
        types.Array(from_dtype(array.dtype), array.ndim, "C" if array.ndim == 1 else "A")
        for array in arrays
    )
    code = code_for_any_processor(function, signature)
    (symbol,) = re.findall(r"^define \S.*@(\S+)\(.*noalias.*%excinfo", code, re.M)[:1]
    module, machine = compiled(code, "aarch64-unknown-linux-gnu")
    (folder / "kernel.o").write_bytes(machine.emit_object(module))
    (folder / "main.c").write_text(program(symbol, arrays))
    command = [COMPILER, "-O1", "-static", "main.c", "kernel.o", "-o", "program"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    given = b"".join(array.tobytes() for array in arrays)
    ran = subprocess.run(
        [PROCESSOR, "./program"], cwd=folder, input=given, stdout=subprocess.PIPE, timeout=60
    )
    assert ran.returncode == 0
    assert len(ran.stdout) == len(given)
    at = 0
    for array in arrays:
        part = np.frombuffer(ran.stdout[at : at + array.nbytes], array.dtype)
        array[...] = part.reshape(array.shape)
        at += array.nbytes


def test_the_separable_convolution(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    taps, height, width = 5, 19, 70
    frame = rng.random((1, 3, height + taps - 1, width + taps - 1), np.float32)
    vertical, horizontal = rng.random((2, 1, taps, height, width), np.float32)
    output = np.zeros((1, 3, height, width), np.float32)
    run_on_arm(tmp_path, kernels.forward, [frame, vertical, horizontal, output, np.zeros(1, int)])
    here = separable_convolution(*map(torch.from_numpy, (frame, vertical, horizontal)))
    np.testing.assert_allclose(output, here, rtol=1e-5)


def test_the_inner_loop_of_the_flow_s_filter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    taps = rng.random(40 * _TAP, np.float32)
    columns = np.sort(rng.integers(0, 9, 40)).astype(np.int32)
    distance, pixels = rng.random(9 * 16, np.float32) * 30, rng.random(1, np.float32)
    coefficients, there = np.array(EXP2_COEFFICIENTS, np.float32), np.zeros(16, np.float32)
    here = there.copy()
    run_on_arm(tmp_path, sum_row.py_func, [taps, columns, distance, coefficients, pixels, there])
    sum_row(taps, columns, distance, coefficients, pixels, here)
    np.testing.assert_allclose(there, here, rtol=1e-5)
