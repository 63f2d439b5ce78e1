"""From memory to memory, in vectors as wide as the machine's registers.

All of it may be called from compiled code only. The arrays are one-dimensional contiguous scratch,
of float32 or float64; offsets count elements and are **not** checked, so the scratch must be as
large as its comments say. What is only copied may come from bfloat16, which numba does not know:
from arrays of int16 that hold its bits.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.extending import intrinsic

from pipeline.simd.llvm import (
    I32,
    VECTOR_BYTES,
    constant,
    element_pointer,
    integers,
    load,
    multiply_add,
    store,
)


def _vector_type(context, array) -> ir.VectorType:
    scalar = context.get_data_type(array.dtype)
    return ir.VectorType(scalar, VECTOR_BYTES // (array.dtype.bitwidth // 8))


def _load_as(builder, vector, source, pointer):
    """Consecutive elements of an array of type ``source`` as a vector of floats."""
    if source.dtype != types.int16:
        return load(builder, vector, pointer)
    bits = load(builder, ir.VectorType(ir.IntType(16), vector.count), pointer)
    return builder.bitcast(_upper_half(builder, bits, integers(vector.count)), vector)


def _upper_half(builder, bits, wide):
    """Sixteen bits as the upper ones of 32: a bfloat16 as a float32."""
    sixteen = constant(wide, 16) if isinstance(wide, ir.VectorType) else ir.Constant(wide, 16)
    return builder.shl(builder.zext(bits, wide), sixteen)


@intrinsic
def number(typingctx, element):
    """An element as a number: itself, or the float32 of which an int16 holds the upper half."""
    if element != types.int16:
        return element(element), lambda context, builder, sig, args: args[0]

    def codegen(context, builder, sig, args):
        return builder.bitcast(_upper_half(builder, args[0], I32), ir.FloatType())

    return types.float32(element), codegen


@intrinsic
def fetch_add(typingctx, counter):
    """Add one to counter[0] atomically and return what it was."""

    def codegen(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(data.type.pointee, 1), "monotonic")

    return signature(types.int64, counter), codegen


@intrinsic
def copy_vector(typingctx, target, at, source, start):
    """target[at : at + lanes] = source[start : start + lanes]."""

    def codegen(context, builder, sig, args):
        vector = _vector_type(context, sig.args[0])
        origin = element_pointer(context, builder, sig.args[2], args[2], args[3])
        value = _load_as(builder, vector, sig.args[2], origin)
        store(builder, value, element_pointer(context, builder, sig.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), codegen


@intrinsic
def transpose_block(typingctx, target, at, line, source, start, pitch):
    """target[at + k * line + l] = source[start + l * pitch + k] for k and l below lanes."""

    def codegen(context, builder, sig, args):
        vector = _vector_type(context, sig.args[0])
        lanes, size = vector.count, args[1].type

        def pointer(k: int, row: int):
            offset = builder.add(args[k + 1], builder.mul(args[k + 2], ir.Constant(size, row)))
            return element_pointer(context, builder, sig.args[k], args[k], offset)

        rows = [_load_as(builder, vector, sig.args[3], pointer(3, row)) for row in range(lanes)]
        distance = 1
        while distance < lanes:  # exchange the off-diagonal blocks of 2 x 2, then 4 x 4, ...
            for k in range(lanes):
                if not k & distance:
                    pair = rows[k], rows[k + distance]
                    for row, first in ((k, 0), (k + distance, distance)):
                        chosen = [
                            first + (lane + lanes - distance if lane & distance else lane)
                            for lane in range(lanes)
                        ]
                        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), chosen)
                        rows[row] = builder.shuffle_vector(*pair, mask)
            distance *= 2
        for row, value in enumerate(rows):
            store(builder, value, pointer(0, row))
        return context.get_dummy_value()

    whole = types.intp
    return types.void(target, whole, whole, source, whole, whole), codegen


@intrinsic
def add_vector(typingctx, target, at, source, start):
    """target[at:] += source[start:], one vector of each."""

    def codegen(context, builder, sig, args):
        vector = _vector_type(context, sig.args[0])
        place = element_pointer(context, builder, sig.args[0], args[0], args[1])
        origin = element_pointer(context, builder, sig.args[2], args[2], args[3])
        value = load(builder, vector, origin)
        store(builder, builder.fadd(load(builder, vector, place), value), place)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), codegen


@intrinsic
def add_products(typingctx, target, at, a, a_at, a_step, b, b_at, b_step, count):
    """target[at:] += sum over n < count of a[a_at + n * a_step :] * b[b_at + n * b_step :]."""

    def codegen(context, builder, sig, args):
        vector = _vector_type(context, sig.args[0])
        size = args[1].type
        place = element_pointer(context, builder, sig.args[0], args[0], args[1])
        total = cgutils.alloca_once_value(builder, load(builder, vector, place))
        with cgutils.for_range(builder, args[8], intp=size) as loop:
            factors = []
            for k in (2, 5):
                offset = builder.add(args[k + 1], builder.mul(args[k + 2], loop.index))
                pointer = element_pointer(context, builder, sig.args[k], args[k], offset)
                factors.append(load(builder, vector, pointer))
            builder.store(multiply_add(builder, *factors, builder.load(total)), total)
        store(builder, builder.load(total), place)
        return context.get_dummy_value()

    whole = types.intp
    return types.void(target, whole, a, whole, whole, b, whole, whole, whole), codegen


def sum_over_taps(rows: int, steps: int, planes: int, skewed: bool) -> Callable[..., Any]:
    """Make the inner loop: rows x steps x planes sums over the taps, held in registers.

    The intrinsic `(sums, weights, w_at, w_tap, patch, p_at, tap, step, plane, taps)` computes

        sums[y, s, p, :] = sum over t of
            weights[w_at + t * w_tap + y * lanes :] * patch[p_at + p * plane + s * step + u * tap :]

    where every `:` is one vector, and u = t + y where `skewed`
    (row y of the output is one line further down the patch), otherwise u = t. A line of the
    patch loaded once serves all rows, a weight loaded once all steps and planes.
    """

    @intrinsic
    def kernel(typingctx, sums, weights, w_at, w_tap, patch, p_at, tap, step, plane, taps):
        def codegen(context, builder, sig, args):
            vector = _vector_type(context, sig.args[0])
            size = args[2].type
            weight = element_pointer(context, builder, sig.args[1], args[1], args[2])
            line = element_pointer(context, builder, sig.args[4], args[4], args[5])
            tap_, step_, plane_, taps_ = args[6:]
            zero = ir.Constant(vector, None)
            total = {
                (y, s, p): cgutils.alloca_once_value(builder, zero)
                for y in range(rows)
                for s in range(steps)
                for p in range(planes)
            }

            def add_line(u, guarded: bool) -> None:
                here = builder.gep(line, [builder.mul(u, tap_)])

                def sample(s, p):
                    offset = builder.add(
                        builder.mul(plane_, ir.Constant(size, p)),
                        builder.mul(step_, ir.Constant(size, s)),
                    )
                    return load(builder, vector, builder.gep(here, [offset]))

                def weigh(y, w, s, p, x):
                    slot = total[y, s, p]
                    builder.store(multiply_add(builder, x, w, builder.load(slot)), slot)

                def weight_of(y):
                    t = builder.sub(u, ir.Constant(size, y)) if skewed else u
                    lane = ir.Constant(size, y * vector.count)
                    return t, builder.gep(weight, [builder.add(builder.mul(t, args[3]), lane)])

                if guarded:
                    for y in range(rows):
                        t, pointer = weight_of(y)
                        with builder.if_then(builder.icmp_unsigned("<", t, taps_)):
                            w = load(builder, vector, pointer)
                            for s in range(steps):
                                for p in range(planes):
                                    weigh(y, w, s, p, sample(s, p))
                    return
                ws = [load(builder, vector, weight_of(y)[1]) for y in range(rows)]
                for s in range(steps):
                    for p in range(planes):
                        x = sample(s, p)
                        for y in range(rows):
                            weigh(y, ws[y], s, p, x)

            def loop(start, stop, guarded: bool) -> None:
                with cgutils.for_range_slice(builder, start, stop, ir.Constant(size, 1), size) as (
                    u,
                    _,
                ):
                    add_line(u, guarded)

            ahead = ir.Constant(size, rows - 1 if skewed else 0)
            loop(ir.Constant(size, 0), ahead, True)
            loop(ahead, taps_, False)
            if skewed:
                more = builder.icmp_signed(">", taps_, ahead)
                loop(builder.select(more, taps_, ahead), builder.add(taps_, ahead), True)
            target = element_pointer(context, builder, sig.args[0], args[0], ir.Constant(size, 0))
            for index, slot in enumerate(total.values()):
                place = builder.gep(target, [ir.Constant(size, index * vector.count)])
                store(builder, builder.load(slot), place)
            return context.get_dummy_value()

        whole = types.intp
        return types.void(sums, weights, whole, whole, patch, *[whole] * 5), codegen

    return kernel
