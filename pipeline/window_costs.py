"""What shifts cost, by the weighted windows of SimpleFlow: the inner loops of the search.

`pipeline.block_matching` tells what is computed, and decides for which pixels and shifts. Here are
the layout of the images in memory, the weights of windows, the differences that windows share, and
the sums of their products.

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

from pipeline.simd import broadcast8, fma, load8, scaled_lookup, store

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
    """What a tile needs above and below its eight rows of a phase: a multiple of 4."""
    return 4 * max(1, -(-radius // (4 * phases)))


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
    height = -(-rows // (8 * phases)) * 8 + 2 * top
    left = TILE_COLUMNS + radius + 4
    width = cols + 2 * left
    planes = np.zeros((3, width, phases, height), np.float32)
    _scatter(mirrored, phases * top - radius, left - radius, phases, planes)
    return Comb(planes.reshape(-1), width, height, left, top, phases)


@njit(cache=True, nogil=True)
def _scatter(image, first_row, first_column, phases, planes):
    rows, cols, _ = image.shape
    for x in range(cols):
        for y in range(rows):
            row = y + first_row
            for c in range(3):
                planes[c, x + first_column, row % phases, row // phases] = image[y, x, c]


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


@njit(forceinline=True)
def fill_weights(planes, width, height, bits, x, phase, j, radius, spatial, colour, weights, at):
    """The window's weights of one column of eight pixels, every 16th float from `at` on."""
    phases = 1 << bits
    plane = width * phases * height
    centre = (x * phases + phase) * height + j
    p0 = load8(planes, centre)
    p1 = load8(planes, centre + plane)
    p2 = load8(planes, centre + 2 * plane)
    size = 2 * radius + 1
    for r in range(size):
        row = phase + r - radius
        offset = (row & (phases - 1)) * height + j + (row >> bits)
        for c in range(size):
            q = (x + c - radius) * phases * height + offset
            d0 = p0 - load8(planes, q)
            d1 = p1 - load8(planes, q + plane)
            d2 = p2 - load8(planes, q + 2 * plane)
            square = d0 * d0 + d1 * d1 + d2 * d2
            weight = scaled_lookup(colour, square, spatial[r * size + c])
            store(weights, at, weight)
            at += 16


@njit(cache=True, nogil=True, error_model="numpy")
def fill_differences(
    a, b, width, height, bits, x, count, j, halo, row_shift, first_shift, shifts, differences, span
):
    """|first - second|^2 of a tile's columns and their halo, for some shifts of the second image.

    The shifts are of `row_shift` rows and of `first_shift`, `first_shift` + 1, ... columns.
    differences: [shift, column, phase, row // phases], flat, `span` floats a shift.
    """
    phases = 1 << bits
    plane = width * phases * height
    column_stride = phases * height
    length = 8 + 2 * halo
    for phase in range(phases):
        row = phase + row_shift
        for k in range(0, length, 8):
            first = (x * phases + phase) * height + j - halo + k
            second = ((x + first_shift) * phases + (row & (phases - 1))) * height
            second += j - halo + (row >> bits) + k
            to = phase * length + k
            for _ in range(count):
                p0 = load8(a, first)
                p1 = load8(a, first + plane)
                p2 = load8(a, first + 2 * plane)
                q = second
                d = to
                for _ in range(shifts):
                    d0 = p0 - load8(b, q)
                    d1 = p1 - load8(b, q + plane)
                    d2 = p2 - load8(b, q + 2 * plane)
                    store(differences, d, fma(d2, d2, fma(d1, d1, d0 * d0)))
                    q += column_stride
                    d += span
                first += column_stride
                second += column_stride
                to += phases * length
