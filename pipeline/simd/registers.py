"""Registers of float32 for numba kernels.

LLVM vectorises plain loops where it can prove that it may; the kernels of SimpleFlow hold their
sums in registers across loops that it cannot see through. So they say what they mean: `F32x8` and
`F32x16` are numba types over LLVM's ``<8 x float>`` and ``<16 x float>``; ``+``, ``-``, ``*`` and
``/`` work lane by lane, and the functions below move values between registers and memory. Nothing
here is specific to one processor, but that powers of two take two instructions of AVX-512 where
they are there.

All of it may be called from compiled code only. Indices count elements and are **not** checked: a
negative one does not wrap around.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from pipeline.simd import llvm
from pipeline.simd.llvm import F32, F64, I32, is_flat


class FloatVector(types.Type):
    """The numba type of a register of float32."""

    def __init__(self, lanes: int) -> None:
        super().__init__(name=f"F32x{lanes}")
        self.lanes = lanes


F32x8 = FloatVector(8)
F32x16 = FloatVector(16)


@register_model(FloatVector)
class _FloatVectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: FloatVector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(F32, fe_type.lanes))


def _are_vectors(*args: Any) -> bool:
    return isinstance(args[0], FloatVector) and all(arg == args[0] for arg in args)


def _define_operator(symbol: Any, instruction: str) -> None:
    @type_callable(symbol)
    def typing(context: Any) -> Any:
        def typer(a: types.Type, b: types.Type) -> types.Type | None:
            return a if _are_vectors(a, b) else None

        return typer

    @lower_builtin(symbol, FloatVector, FloatVector)
    def lowering(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


_define_operator(operator.add, "fadd")
_define_operator(operator.sub, "fsub")
_define_operator(operator.mul, "fmul")
_define_operator(operator.truediv, "fdiv")


def _define_memory_access(kind: FloatVector) -> tuple[Any, Any, Any]:
    vector = ir.VectorType(F32, kind.lanes)

    def load(typingctx: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = llvm.element_pointer(context, builder, sig.args[0], *args)
            return llvm.load(builder, vector, pointer)

        return (kind(array, types.intp), codegen) if is_flat(array, types.float32) else None

    def broadcast(typingctx: Any, scalar: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return llvm.splat(builder, args[0], vector)

        return kind(types.float32), codegen

    def broadcast_from(typingctx: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = llvm.element_pointer(context, builder, sig.args[0], *args)
            return llvm.splat(builder, builder.load(pointer), vector)

        return (kind(array, types.intp), codegen) if is_flat(array, types.float32) else None

    return intrinsic(load), intrinsic(broadcast), intrinsic(broadcast_from)


# load(array, index): consecutive values of a flat float32 array, from any alignment;
# broadcast(number), broadcast_from(array, index): one number in all lanes.
load8, broadcast8, broadcast8_from = _define_memory_access(F32x8)
load16, broadcast16, broadcast16_from = _define_memory_access(F32x16)


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write the lanes into a flat float32 array, one after the other, at any alignment."""
    if not (is_flat(array, types.float32) and _are_vectors(value)):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = llvm.element_pointer(context, builder, sig.args[0], args[0], args[1])
        llvm.store(builder, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once where the processor can."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return llvm.multiply_add(builder, *args)

    return (a(a, b, c), codegen) if _are_vectors(a, b, c) else None


@intrinsic
def lane_sum(typingctx: Any, value: Any) -> Any:
    """The sum of all lanes, in pairs: halves are added until one number is left."""
    if not _are_vectors(value):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (total,) = args
        count = total.type.count
        while count > 1:
            count //= 2
            halves = [
                builder.shuffle_vector(
                    total,
                    total,
                    ir.Constant(llvm.integers(count), [start + lane for lane in range(count)]),
                )
                for start in (0, count)
            ]
            total = builder.fadd(*halves)
        return builder.extract_element(total, ir.Constant(I32, 0))

    return types.float32(value), codegen


@intrinsic
def minimum(typingctx: Any, a: Any, b: Any) -> Any:
    """The smaller of two, lane by lane; ``b`` where one is NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return (a(a, b), codegen) if _are_vectors(a, b) else None


@intrinsic
def select_less(typingctx: Any, a: Any, b: Any, if_less: Any, otherwise: Any) -> Any:
    """``if_less`` in the lanes where ``a < b``, ``otherwise`` in the others."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b, if_less, otherwise = args
        return builder.select(builder.fcmp_ordered("<", a, b), if_less, otherwise)

    return (a(a, b, a, a), codegen) if _are_vectors(a, b, if_less, otherwise) else None


@intrinsic
def select_between(
    typingctx: Any, low: Any, value: Any, high: Any, if_between: Any, otherwise: Any
) -> Any:
    """``if_between`` in the lanes where ``low <= value <= high``, ``otherwise`` in the others."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        low, value, high, if_between, otherwise = args
        between = builder.and_(
            builder.fcmp_ordered("<=", low, value), builder.fcmp_ordered("<=", value, high)
        )
        return builder.select(between, if_between, otherwise)

    vectors = (low, value, high, if_between, otherwise)
    return (low(*vectors), codegen) if _are_vectors(*vectors) else None


@intrinsic
def store_integers(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write the lanes into a flat int32 array, cut off towards zero, one after the other."""
    if not (is_flat(array, types.int32) and _are_vectors(value)):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        whole = builder.fptosi(args[2], llvm.integers(args[2].type.count))
        pointer = llvm.element_pointer(context, builder, sig.args[0], args[0], args[1])
        llvm.store(builder, whole, pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def scaled_lookup8(typingctx: Any, table: Any, indices: Any, index: Any, scale: Any) -> Any:
    """``float32(scale * table[indices[index + lane]])``, the product taken in float64.

    The indices come from memory, since taking them out of a register one by one would cost more
    than the look-ups do.
    """
    if not (is_flat(table, types.float64) and is_flat(indices, types.int32)):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        table, indices, index, scale = args
        wide = ir.VectorType(F64, F32x8.lanes)
        values = ir.Constant(wide, ir.Undefined)
        first = llvm.element_pointer(context, builder, sig.args[1], indices, index)
        for lane in range(F32x8.lanes):
            position = ir.Constant(I32, lane)
            entry = builder.sext(builder.load(builder.gep(first, [position])), ir.IntType(64))
            pointer = llvm.element_pointer(context, builder, sig.args[0], table, entry)
            values = builder.insert_element(values, builder.load(pointer), position)
        product = builder.fmul(values, llvm.splat(builder, scale, wide))
        return builder.fptrunc(product, ir.VectorType(F32, F32x8.lanes))

    return F32x8(table, indices, types.intp, types.float64), codegen


# The cubic that is closest to 2**f on [-0.5, 0.5] in relative error, over its leading coefficient:
# ((f + b) f + c) f + d, an addition and two fused multiply-adds.
_EXP2_LEADING = 0.0551714178
_EXP2_CUBIC = (4.39740685, 12.5655546, 18.1239560)


def _moved_by_half(b: float, c: float, d: float) -> tuple[float, float, float]:
    """The same cubic in f + 1/2."""
    return b - 1.5, c - b + 0.75, d - c / 2 + b / 4 - 0.125


# What `exp2_attenuation` is given in registers: what rounds to an integer when added, then b, c, d.
EXP2_COEFFICIENTS = (
    1.5 * 2.0**23,
    *(_moved_by_half(*_EXP2_CUBIC) if llvm.SCALES else _EXP2_CUBIC),
)
EXP2_FACTOR = (2.0**-0.5 if llvm.SCALES else 1.0) / _EXP2_LEADING
"""What `exp2_attenuation` is larger by than the power of two that it stands for."""
EXP2_ERROR = 8e-5
"""Largest relative error of `exp2_attenuation`, where it does not underflow."""


@intrinsic
def exp2_attenuation(typingctx: Any, exponent: Any, coefficients: Any) -> Any:
    """``EXP2_FACTOR * 2**-exponent`` for exponents of 0 to 500, sixteen of them, to `EXP2_ERROR`.

    coefficients: a tuple of four registers, each filled with one of `EXP2_COEFFICIENTS`. They have
    to come from memory: LLVM does not keep constants in registers, it would load each again for
    every exponent.

    From about 2**-126 on the result fades to nothing: what must weigh nothing is given a large
    exponent, and no comparison is needed.
    """
    same = isinstance(coefficients, types.UniTuple) and coefficients.dtype == exponent
    if not (exponent == F32x16 and same and coefficients.count == 4):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = _exp2_by_scaling if llvm.SCALES else _exp2_by_shifting
        return emit(builder, args[0], *cgutils.unpack_tuple(builder, args[1]))

    return exponent(exponent, coefficients), codegen


def _exp2_by_shifting(builder: Any, exponent: Any, rounding: Any, b: Any, c: Any, d: Any) -> Any:
    """On any processor.

    Adding 1.5 * 2**23 leaves the rounded exponent n in the low bits of the sum, ready to be moved
    to where a float32 keeps its own; the cubic takes care of n - exponent. The subtraction of
    exponents is one of 16-bit words that stops at zero instead of wrapping around.
    """
    kind = exponent.type
    ints = llvm.integers(kind.count)
    words = ir.VectorType(ir.IntType(16), 2 * kind.count)
    shifted = builder.fadd(exponent, rounding)
    fraction = builder.fsub(builder.fsub(shifted, rounding), exponent)
    mantissa = _cubic(builder, fraction, b, c, d)
    drop = builder.shl(builder.bitcast(shifted, ints), llvm.constant(ints, 23))
    difference = llvm.call(
        builder,
        f"llvm.usub.sat.v{words.count}i16",
        words,
        builder.bitcast(mantissa, words),
        builder.bitcast(drop, words),
    )
    return builder.bitcast(difference, kind)


def _exp2_by_scaling(builder: Any, exponent: Any, rounding: Any, b: Any, c: Any, d: Any) -> Any:
    """By two instructions of AVX-512: what is above an integer, and a shift of the exponent.

    Eight operations of the other way become six, on a processor whose shifts and saturating
    subtractions take twice as long as its additions.
    """
    kind = exponent.type
    power = builder.fneg(exponent)
    all_lanes = ir.Constant(ir.IntType(16), -1)
    towards_below, as_set = ir.Constant(I32, 0x9), ir.Constant(I32, 4)  # ways to round
    name = "llvm.x86.avx512.mask"
    above = llvm.call(
        builder, f"{name}.reduce.ps.512", kind, power, towards_below, power, all_lanes, as_set
    )
    mantissa = _cubic(builder, above, b, c, d)
    return llvm.call(
        builder, f"{name}.scalef.ps.512", kind, mantissa, power, power, all_lanes, as_set
    )


def _cubic(builder: Any, x: Any, b: Any, c: Any, d: Any) -> Any:
    """``((x + b) x + c) x + d``."""
    quadratic = llvm.multiply_add(builder, builder.fadd(x, b), x, c)
    return llvm.multiply_add(builder, quadratic, x, d)


_MXCSR_FLUSHES = 0x8040  # results below 2**-126 become zero, and so do operands


@intrinsic
def flush_subnormals(typingctx: Any) -> Any:
    """Let this thread take numbers below 2**-126 as zero; returns what `restore_subnormals` takes.

    Intel's processors leave their fast path for each instruction that meets such a number, and take
    a hundred times as long. Elsewhere than on x86 nothing is changed.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        before = cgutils.alloca_once_value(builder, ir.Constant(I32, 0))
        if llvm.X86:
            changed = cgutils.alloca_once(builder, I32)
            llvm.call_with_address(builder, "llvm.x86.sse.stmxcsr", before)
            flags = ir.Constant(I32, _MXCSR_FLUSHES)
            builder.store(builder.or_(builder.load(before), flags), changed)
            llvm.call_with_address(builder, "llvm.x86.sse.ldmxcsr", changed)
        return builder.load(before)

    return types.int32(), codegen


@intrinsic
def restore_subnormals(typingctx: Any, state: Any) -> Any:
    """Undo `flush_subnormals`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if llvm.X86:
            before = cgutils.alloca_once_value(builder, args[0])
            llvm.call_with_address(builder, "llvm.x86.sse.ldmxcsr", before)
        return context.get_dummy_value()

    return types.void(types.int32), codegen
