"""Kernels as LLVM compiles them for other processors."""

import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import pytest
from numba import njit, types

from pipeline.flow.bilateral_filter import _sum_row
from pipeline.simd import llvm
from pipeline.simd.registers import broadcast16_from, store

# Compiled here once more, for no processor in particular.
_sum_row_anywhere = njit(forceinline=True)(_sum_row.py_func)


@njit
def sum_row(taps, columns, distance, exp2, pixels, sums):  # type: ignore[no-untyped-def]
    """The inner loop of the filter, for a row of taps."""
    coefficients = (
        broadcast16_from(exp2, 0),
        broadcast16_from(exp2, 1),
        broadcast16_from(exp2, 2),
        broadcast16_from(exp2, 3),
    )
    p = broadcast16_from(pixels, 0)
    n = columns.size
    w, x, y = _sum_row_anywhere(taps, columns, 0, n, 0, distance, coefficients, False, p, p, p)
    store(sums, 0, w + x + y)


def code_for_any_processor(function: Callable[..., None], signature: tuple[types.Type, ...]) -> str:
    """LLVM's code of a kernel, for no processor in particular."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llvm, "SCALES", False)
        compile_it = njit(
            signature, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
        )
        text: str = compile_it(function).inspect_llvm(signature)
    # LLVM writes "subtract, and is it zero?" in x86's way where arrays are freed.
    text = text.replace("llvm.x86.atomic.sub.cc.i64", "subtract_to_zero")
    assert "llvm.x86" not in text  # of another processor LLVM would end the process
    text = re.sub(r'^target (datalayout|triple) = ".*"$', "", text, flags=re.MULTILINE)
    return re.sub(r'"(target-cpu|target-features|tune-cpu|probe-stack)"="[^"]*"', "", text)


def compiled(code: str, triple: str, features: str = "") -> tuple[Any, Any]:
    """LLVM's module of such code, and a machine that makes assembly or an object file of it."""
    llvmlite.binding.initialize_all_targets()
    llvmlite.binding.initialize_all_asmprinters()
    target = llvmlite.binding.Target.from_triple(triple)
    machine = target.create_target_machine(features=features, opt=3)
    module = llvmlite.binding.parse_assembly(code)
    module.triple, module.data_layout = triple, str(machine.target_data)
    return module, machine
