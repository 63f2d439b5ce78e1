"""Vector instructions for numba: what its auto-vectoriser does not find by itself.

Each function is a numba intrinsic that emits LLVM vectors as wide as the machine's registers. They
work on one-dimensional contiguous scratch arrays and on offsets counted in elements; nothing
checks bounds, so that the scratch must be as large as its comments say.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.extending import intrinsic

_FEATURES = llvmlite.binding.get_host_cpu_features()
_MANY_REGISTERS = bool(_FEATURES.get("avx512f")) or "aarch64" in llvmlite.binding.get_process_triple()
VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32
ACCUMULATORS = 24 if _MANY_REGISTERS else 12  # vector registers that hold sums; of 32 or of 16


def _vector_type(context, array: types.Array) -> ir.VectorType:
    scalar = context.get_data_type(array.dtype)
    return ir.VectorType(scalar, VECTOR_BYTES // (array.dtype.bitwidth // 8))


def _pointer(context, builder, array: types.Array, value, offset):
    """Address of element `offset`; the array is contiguous along its only dimension."""
    data = context.make_array(array)(context, builder, value).data
    return builder.gep(data, [offset])


def _load(builder, vector: ir.VectorType, pointer):
    size = vector.element.intrinsic_name
    align = {"f32": 4, "f64": 8}[size]
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)


def _store(builder, value, pointer) -> None:
    align = {"f32": 4, "f64": 8}[value.type.element.intrinsic_name]
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=align)


def _fma(builder, a, b, c):
    name = f"llvm.fmuladd.v{a.type.count}{a.type.element.intrinsic_name}"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, (a, b, c))


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
        value = _load(builder, vector, _pointer(context, builder, sig.args[2], args[2], args[3]))
        _store(builder, value, _pointer(context, builder, sig.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), codegen


@intrinsic
def multiply_add(typingctx, target, at, a, a_at, b, b_at):
    """target[at:] += a[a_at:] * b[b_at:], one vector of each."""

    def codegen(context, builder, sig, args):
        vector = _vector_type(context, sig.args[0])
        pointers = [
            _pointer(context, builder, sig.args[k], args[k], args[k + 1]) for k in (0, 2, 4)
        ]
        values = [_load(builder, vector, pointer) for pointer in pointers]
        _store(builder, _fma(builder, values[1], values[2], values[0]), pointers[0])
        return context.get_dummy_value()

    return types.void(target, types.intp, a, types.intp, b, types.intp), codegen


def sum_over_taps(rows: int, steps: int, planes: int, skewed: bool) -> Callable[..., Any]:
    """Make the inner loop: rows x steps x planes sums over the taps, held in registers.

    The intrinsic `(sums, weights, w_at, patch, p_at, tap, step, plane, taps)` computes

        sums[y, s, p, :] = sum over t of
            weights[w_at + (t, y, :)] * patch[p_at + p * plane + s * step + u * tap :]

    where every `:` is one vector, `weights` is [taps, rows, lanes], and u = t + y where `skewed`
    (row y of the output is one line further down the patch), otherwise u = t. A line of the
    patch loaded once serves all rows, a weight loaded once all steps and planes.
    """

    @intrinsic
    def kernel(typingctx, sums, weights, w_at, patch, p_at, tap, step, plane, taps):
        def codegen(context, builder, sig, args):
            vector = _vector_type(context, sig.args[0])
            size = args[2].type
            lanes = ir.Constant(size, vector.count)
            weight = _pointer(context, builder, sig.args[1], args[1], args[2])
            line = _pointer(context, builder, sig.args[3], args[3], args[4])
            tap_, step_, plane_, taps_ = args[5:]
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
                    return _load(builder, vector, builder.gep(here, [offset]))

                def weigh(y, w, s, p, x):
                    slot = total[y, s, p]
                    builder.store(_fma(builder, x, w, builder.load(slot)), slot)

                def weight_of(y):
                    t = builder.sub(u, ir.Constant(size, y)) if skewed else u
                    index = builder.add(builder.mul(t, ir.Constant(size, rows)), ir.Constant(size, y))
                    return t, builder.gep(weight, [builder.mul(index, lanes)])

                if guarded:
                    for y in range(rows):
                        t, pointer = weight_of(y)
                        with builder.if_then(builder.icmp_unsigned("<", t, taps_)):
                            w = _load(builder, vector, pointer)
                            for s in range(steps):
                                for p in range(planes):
                                    weigh(y, w, s, p, sample(s, p))
                    return
                ws = [_load(builder, vector, weight_of(y)[1]) for y in range(rows)]
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
            target = _pointer(context, builder, sig.args[0], args[0], ir.Constant(size, 0))
            for index, slot in enumerate(total.values()):
                place = builder.gep(target, [ir.Constant(size, index * vector.count)])
                _store(builder, builder.load(slot), place)
            return context.get_dummy_value()

        whole = types.intp
        return types.void(sums, weights, whole, patch, whole, whole, whole, whole, whole), codegen

    return kernel
