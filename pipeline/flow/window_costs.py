"""What shifts cost, by the weighted windows of SimpleFlow: the inner loops of the search.

`pipeline.flow.block_matching` tells what is computed, and decides for which pixels and shifts. Here
are the layout of the images in memory, the weights of windows, the differences that windows share,
and the sums of their products.

Eight pixels of a column make a register; two columns are done together and share the differences
they read. Images are kept as [colour, column, phase, row // phases], where phase = row % phases, so
that pixels `phases` rows apart lie side by side. Pixels are named by their column, phase, and the
place j of the first of the eight in rows // phases, all counted with the margins of the layout.

*Exactness.* Squared differences are integers below 2^18, exact in float32. Weights are rounded once
from float64; products and sums are rounded as in a plain loop over the window, row by row, without
fused multiply-adds or reordering. So costs are bit for bit those of OpenCV, and so are the winners
of ties, of which regular patterns have many. Fused multiply-adds would gain a tenth.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.simd.registers import (
    broadcast8,
    fma,
    load8,
    load16,
    scaled_lookup8,
    store,
    store_integers,
)

TILE_COLUMNS = 32
"""What a tile is wide at most."""
_LARGEST_SQUARE = 3 * 255**2


class Comb(NamedTuple):
    """An image laid out for registers of eight rows, `phases` apart.

    planes: float32 [3 * width * phases * height], flat; width, height: of the layout with its
    margins, in columns and in rows / phases; left, top: margins, in the same.
    """

    planes: NDArray[np.float32]
    width: int
    height: int
    left: int
    top: int
    phases: int


def halo(radius: int, phases: int) -> int:
    """What a tile needs above and below its eight rows of a phase; with them a multiple of 16."""
    return 4 + 8 * -(-max(0, -(-radius // phases) - 4) // 8)


def comb(image: NDArray[np.uint8], radius: int, phases: int) -> Comb:
    """Lay an image out for the search.

    Outside the image, `radius` pixels mirror it (reflect-101); further out it is black: those
    values are read, for pixels of a tile that have no use for a shift, but never count.

    Parameters
    ----------
    image : uint8 [H, W, 3]
    radius : int
        Half the side of the window, in pixels.
    phases : int
        1 where most pixels are searched, 4 where most of those searched are corners of squares.
    """
    rows, cols = image.shape[:2]
    mirrored = cv2.copyMakeBorder(image, radius, radius, radius, radius, cv2.BORDER_REFLECT_101)
    top = 8 + halo(radius, phases)
    # An odd number of cache lines, so that neighbouring columns do not compete for few of them.
    height = (-(-rows // (8 * phases)) * 8 + 2 * top + 15) // 32 * 32 + 16
    left = TILE_COLUMNS + radius + 4
    width = cols + 2 * left
    planes = aligned(3 * width * phases * height)
    planes[:] = 0
    layout = planes.reshape(3, width, phases, height)
    first_row, first_column = phases * top - radius, left - radius
    for colour, channel in enumerate(cv2.split(mirrored)):
        columns = cv2.transpose(channel)
        for phase in range(phases):
            skipped = (phase - first_row) % phases
            rows_of_phase = columns[:, skipped::phases]
            begin = (first_row + skipped) // phases
            layout[
                colour,
                first_column : first_column + len(columns),
                phase,
                begin : begin + rows_of_phase.shape[1],
            ] = rows_of_phase
    return Comb(planes, width, height, left, top, phases)


def aligned(count: int) -> NDArray[np.float32]:
    """Uninitialised float32, from the beginning of a cache line on."""
    raw = np.empty(count + 16, np.float32)
    skip = (-raw.ctypes.data % 64) // 4
    return raw[skip : skip + count]


@lru_cache(maxsize=4)
def colour_weights(sigma: float) -> NDArray[np.float64]:
    """``exp(-d / 2 sigma^2)`` for every squared distance d of two colours."""
    coefficient = -0.5 / float(np.float32(sigma) * np.float32(sigma))
    return np.exp(np.arange(_LARGEST_SQUARE + 1) * coefficient)


@njit(forceinline=True)
def accumulate(weights, weights_at, differences, column, stride, phase_offsets, phase, size, span):
    """Costs of two neighbouring columns of eight pixels, for three shifts."""
    zero = broadcast8(np.float32(0.0))
    a0 = a1 = a2 = b0 = b1 = b2 = zero
    at = weights_at
    for r in range(size):
        d = column + phase_offsets[phase * size + r]
        w = load8(weights, at)
        a0 = a0 + w * load8(differences, d)
        a1 = a1 + w * load8(differences, d + span)
        a2 = a2 + w * load8(differences, d + 2 * span)
        for _ in range(size - 1):
            d += stride
            d0 = load8(differences, d)
            d1 = load8(differences, d + span)
            d2 = load8(differences, d + 2 * span)
            w = load8(weights, at + 8)
            b0 = b0 + w * d0
            b1 = b1 + w * d1
            b2 = b2 + w * d2
            at += 16
            w = load8(weights, at)
            a0 = a0 + w * d0
            a1 = a1 + w * d1
            a2 = a2 + w * d2
        d += stride
        w = load8(weights, at + 8)
        b0 = b0 + w * load8(differences, d)
        b1 = b1 + w * load8(differences, d + span)
        b2 = b2 + w * load8(differences, d + 2 * span)
        at += 16
    return a0, a1, a2, b0, b1, b2


@njit(cache=True, nogil=True, error_model="numpy")
def fill_weights(
    planes, width, height, bits, x, phase, j, radius, spatial, colour, squares, weights, at
):
    """The window's weights of two columns of eight pixels, tap by tap, from `at` on.

    squares: int32 [2 * taps * 8] of scratch.
    """
    phases = 1 << bits
    plane = width * phases * height
    size = 2 * radius + 1
    for side in range(2):
        centre = ((x + side) * phases + phase) * height + j
        p0 = load8(planes, centre)
        p1 = load8(planes, centre + plane)
        p2 = load8(planes, centre + 2 * plane)
        to = 8 * side
        for r in range(size):
            row = phase + r - radius
            q = (x + side - radius) * phases * height
            q += (row & (phases - 1)) * height + j + (row >> bits)
            for _ in range(size):
                d0 = p0 - load8(planes, q)
                d1 = p1 - load8(planes, q + plane)
                d2 = p2 - load8(planes, q + 2 * plane)
                store_integers(squares, to, d0 * d0 + d1 * d1 + d2 * d2)
                q += phases * height
                to += 16
    for tap in range(size * size):
        for side in range(2):
            place = tap * 16 + side * 8
            weight = scaled_lookup8(colour, squares, place, spatial[tap])
            store(weights, at + place, weight)


@njit(forceinline=True)
def _pixels(planes, at, plane):
    """Three colours of sixteen pixels of a column."""
    return load16(planes, at), load16(planes, at + plane), load16(planes, at + 2 * plane)


@njit(forceinline=True)
def _squared_distance(p, q):
    d0, d1, d2 = p[0] - q[0], p[1] - q[1], p[2] - q[2]
    return fma(d2, d2, fma(d1, d1, d0 * d0))


@njit(cache=True, nogil=True, error_model="numpy")
def fill_differences(
    a, b, width, height, bits, x, count, j, halo, row_shift, first_shift, shifts, differences, span
):
    """|first - second|^2 of a tile's columns and their halo, for some shifts of the second image.

    The shifts are of `row_shift` rows and of `first_shift`, `first_shift` + 1, ... columns; three
    are done together, as the next column's three need only one more column of the second image.
    differences: [shift, column, phase, row // phases], flat, `span` floats a shift.
    """
    phases = 1 << bits
    plane = width * phases * height
    column_stride = phases * height
    length = 8 + 2 * halo
    for phase in range(phases):
        row = phase + row_shift
        for k in range(0, length, 16):
            for shift in range(0, shifts, 3):
                p_at = (x * phases + phase) * height + j - halo + k
                q_at = ((x + first_shift + shift) * phases + (row & (phases - 1))) * height
                q_at += j - halo + (row >> bits) + k
                to = shift * span + phase * length + k
                q0 = _pixels(b, q_at, plane)
                q1 = _pixels(b, q_at + column_stride, plane)
                q_at += 2 * column_stride
                for _ in range(count):
                    p = _pixels(a, p_at, plane)
                    q2 = _pixels(b, q_at, plane)
                    store(differences, to, _squared_distance(p, q0))
                    store(differences, to + span, _squared_distance(p, q1))
                    store(differences, to + 2 * span, _squared_distance(p, q2))
                    q0, q1 = q1, q2
                    p_at += column_stride
                    q_at += column_stride
                    to += phases * length
