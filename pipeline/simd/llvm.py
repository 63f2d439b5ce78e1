"""Vectors in LLVM's terms: types, addresses, loads and stores, arithmetic.

Each function but `vector_type` and `is_flat` emits code through ``builder`` and returns the LLVM
value of its result. LLVM maps a vector to what the processor has: sixteen float32 are one register
of AVX-512, two of AVX, four of SSE or NEON.
"""

from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils


def target_features() -> frozenset[str]:
    """Names of the instruction sets that numba compiles for: this processor's, or those asked for.

    The environment's NUMBA_CPU_NAME and NUMBA_CPU_FEATURES ask for others.
    """
    if numba.config.CPU_FEATURES is not None:
        asked = numba.config.CPU_FEATURES.split(",")
        return frozenset(name[1:] for name in asked if name.startswith("+"))
    host = llvmlite.binding.get_host_cpu_features()
    return frozenset(name for name, present in host.items() if present)


FEATURES = target_features()
_TRIPLE = llvmlite.binding.get_process_triple()
_ARM = _TRIPLE.startswith(("aarch64", "arm64"))
X86 = _TRIPLE.startswith("x86_64")
MANY_REGISTERS = "avx512f" in FEATURES or _ARM  # 32, elsewhere 16
SCALES = {"avx512f", "avx512dq"} <= FEATURES  # has instructions that take exponents apart
VECTOR_BYTES = 64 if "avx512f" in FEATURES else 32

F32 = ir.FloatType()
F64 = ir.DoubleType()
I16 = ir.IntType(16)
I32 = ir.IntType(32)

_BYTES = {F32: 4, F64: 8, I16: 2, I32: 4}


def is_flat(array: Any, dtype: types.Type) -> bool:
    """Whether a numba type is that of a one-dimensional array of ``dtype``."""
    return isinstance(array, types.Array) and array.dtype == dtype and array.ndim == 1


def integers(count: int) -> ir.VectorType:
    return ir.VectorType(I32, count)


def constant(kind: ir.VectorType, value: float) -> ir.Constant:
    """A vector with one number in all lanes, known at compile time."""
    return ir.Constant(kind, [value] * kind.count)


def splat(builder: Any, scalar: Any, kind: ir.VectorType) -> Any:
    """A vector with one number in all lanes."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, constant(integers(kind.count), 0))


def element_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Address of an element of an array that is contiguous along its only dimension."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def load(builder: Any, kind: ir.VectorType, pointer: Any) -> Any:
    """Consecutive elements as a vector, from any element's address."""
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=_BYTES[kind.element])


def store(builder: Any, value: Any, pointer: Any) -> None:
    """Write a vector to consecutive elements, at any element's address."""
    place = builder.bitcast(pointer, value.type.as_pointer())
    builder.store(value, place, align=_BYTES[value.type.element])


def call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """Call one of LLVM's own functions."""
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(function, args)


def call_with_address(builder: Any, name: str, place: Any) -> None:
    """Call one of LLVM's own functions that takes an address and returns nothing."""
    call(builder, name, ir.VoidType(), builder.bitcast(place, ir.IntType(8).as_pointer()))


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``: rounded once where the processor has an instruction for it, else twice.

    LLVM's ``fma`` promises one rounding, and calls a function for each lane where there is no such
    instruction.
    """
    suffix = f"v{a.type.count}{a.type.element.intrinsic_name}"
    return call(builder, f"llvm.fmuladd.{suffix}", a.type, a, b, c)
