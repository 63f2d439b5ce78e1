"""Compiled kernels that make the frame at a time between two, of the motion between them.

`warp` carries both flows to that time, warps both frames along each and tells how far the two
warped frames disagree; `blend` joins the two candidates by what they disagree. Frames are float32
in 0..1, four numbers a pixel, with a margin (`padded`), so that four neighbouring pixels are one
register and no tap of the bicubic kernel leaves the array. Both work on bands of rows, without
holding Python's lock, so that a caller spreads a frame over threads.
"""

from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.simd.registers import broadcast16_from, fma, load16, store

Array = NDArray[np.float32]

MARGIN = 3
_STEPS = 256


def _bicubic_table() -> Array:
    """Weights of four taps at each of `_STEPS` fractions of a pixel, each four times in a row.

    Keys' cubic convolution with a = -0.75, as OpenCV's; [_STEPS + 1, 16].
    """
    a = -0.75
    fraction = np.arange(_STEPS + 1)[:, None] / _STEPS
    distance = np.abs(fraction - np.array([-1.0, 0.0, 1.0, 2.0]))
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    taps = np.where(distance <= 1, near, far)
    return np.repeat(taps, 4, axis=1).astype(np.float32)


BICUBIC = _bicubic_table().ravel()


def padded(frame: NDArray[Any]) -> Array:
    """A frame [H, W, 3], uint8, uint16 or float32 in 0..1, as flat float32 of four channels.

    In 0..1, its edge repeated `MARGIN` times.
    """
    four = cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA)
    wide = cv2.copyMakeBorder(four, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REPLICATE)
    if wide.dtype == np.float32:
        return np.asarray(wide, np.float32).ravel()
    peak = np.float32(np.iinfo(wide.dtype).max)
    return np.multiply(wide, np.float32(1) / peak, dtype=np.float32).ravel()


@njit(forceinline=True)
def _sample(image, columns, rows, cols, x, y, table, out, place):
    """Bicubic value of a padded frame at (x, y), in four partial sums of four channels."""
    x = min(max(x, -1.0), cols)
    y = min(max(y, -1.0), rows)
    left = int(np.floor(x))
    top = int(np.floor(y))
    across = int((x - left) * _STEPS + 0.5) * 16
    down = int((y - top) * _STEPS + 0.5) * 16
    start = ((top + MARGIN - 1) * columns + left + MARGIN - 1) * 4
    step = columns * 4
    total = load16(image, start) * broadcast16_from(table, down)
    total = fma(load16(image, start + step), broadcast16_from(table, down + 4), total)
    total = fma(load16(image, start + 2 * step), broadcast16_from(table, down + 8), total)
    total = fma(load16(image, start + 3 * step), broadcast16_from(table, down + 12), total)
    store(out, place, total * load16(table, across))


@njit(forceinline=True)
def _flow_at(flow, rows, cols, x, y):
    """Bilinear value of a flow at (x, y); the nearest edge's outside."""
    x = min(max(x, np.float32(0)), np.float32(cols - 1))
    y = min(max(y, np.float32(0)), np.float32(rows - 1))
    left = min(int(x), max(cols - 2, 0))
    top = min(int(y), max(rows - 2, 0))
    right = min(left + 1, cols - 1)
    low = min(top + 1, rows - 1)
    fx = x - np.float32(left)
    fy = y - np.float32(top)
    one = np.float32(1)
    a = (one - fx) * (one - fy)
    b = fx * (one - fy)
    c = (one - fx) * fy
    d = fx * fy
    u = a * flow[top, left, 0] + b * flow[top, right, 0]
    u += c * flow[low, left, 0] + d * flow[low, right, 0]
    v = a * flow[top, left, 1] + b * flow[top, right, 1]
    v += c * flow[low, left, 1] + d * flow[low, right, 1]
    return u, v


@njit(forceinline=True)
def _outside(rows, cols, x, y):
    """How far (x, y) lies outside the picture, in pixels, at most 1."""
    beyond = max(max(-x, x - np.float32(cols - 1)), max(-y, y - np.float32(rows - 1)))
    return min(max(beyond, np.float32(0)), np.float32(1))


@njit(cache=True, nogil=True, error_model="numpy")
def warp(
    first, third, there, back, time, table, begin, end, steps, penalty, candidates, disagreement
):
    """Two candidates of the frame at ``time``, for the rows from ``begin`` to ``end``.

    first, third: padded frames, flat; there, back: flow first to third and third to first,
    float32 [H, W, 2]; candidates: float32 [2, H, W, 3] and disagreement: float32 [2, H, W], to be
    written. The candidate of a flow is the mean of both frames warped along it, by time; where
    it leads out of the picture, the other frame alone is taken. Where the flow back leads
    elsewhere, the place is hidden in one frame or the motion wrong: ``penalty`` is added to the
    candidate's disagreement, so that the other candidate is preferred.
    Returns the sum of the smaller difference of each pixel, before the penalty.
    """
    rows, cols = there.shape[:2]
    columns = cols + 2 * MARGIN
    partial = np.empty(32, np.float32)
    left_over = 0.0
    one = np.float32(1)
    for y in range(begin, end):
        for x in range(cols):
            here_x = np.float32(x)
            here_y = np.float32(y)
            least = np.float32(np.inf)
            for k in range(2):
                flow = there if k == 0 else back
                other = back if k == 0 else there
                t = time if k == 0 else one - time
                u = flow[y, x, 0]
                v = flow[y, x, 1]
                for _ in range(steps):
                    new_u, new_v = _flow_at(flow, rows, cols, here_x - t * u, here_y - t * v)
                    change = abs(new_u - u) + abs(new_v - v)
                    u = new_u
                    v = new_v
                    if change < np.float32(0.02):
                        break
                from_x = here_x - t * u
                from_y = here_y - t * v
                to_x = from_x + u
                to_y = from_y + v
                back_u, back_v = _flow_at(other, rows, cols, to_x, to_y)
                gap = (u + back_u) * (u + back_u) + (v + back_v) * (v + back_v)
                length = u * u + v * v
                hidden = (gap - np.float32(4) - np.float32(0.05) * length) * np.float32(0.25)
                hidden = min(max(hidden, np.float32(0)), one)
                unseen = _outside(rows, cols, from_x, from_y)
                start_share = (one - t) * (one - unseen) + np.float32(1e-6)
                end_share = t * (one - _outside(rows, cols, to_x, to_y)) + np.float32(1e-6)
                start_share = start_share / (start_share + end_share)
                end_share = one - start_share
                if k == 0:
                    _sample(first, columns, rows, cols, from_x, from_y, table, partial, 0)
                    _sample(third, columns, rows, cols, to_x, to_y, table, partial, 16)
                else:
                    _sample(third, columns, rows, cols, from_x, from_y, table, partial, 0)
                    _sample(first, columns, rows, cols, to_x, to_y, table, partial, 16)
                difference = np.float32(0)
                for c in range(3):
                    a = partial[c] + partial[c + 4] + partial[c + 8] + partial[c + 12]
                    b = partial[c + 16] + partial[c + 20] + partial[c + 24] + partial[c + 28]
                    candidates[k, y, x, c] = start_share * a + end_share * b
                    difference += abs(a - b)
                disagreement[k, y, x] = difference + hidden * penalty
                least = min(least, difference)
            left_over += least
    return left_over


@njit(cache=True, nogil=True, error_model="numpy")
def blend(candidates, disagreement, begin, end, floor, out):
    """Weigh the candidates by the inverse square of what they disagree, into ``out``, 0..1."""
    cols = candidates.shape[2]
    for y in range(begin, end):
        for x in range(cols):
            a = disagreement[0, y, x]
            b = disagreement[1, y, x]
            a = np.float32(1) / (a * a + floor)
            b = np.float32(1) / (b * b + floor)
            a = a / (a + b)
            for c in range(3):
                value = a * candidates[0, y, x, c] + (np.float32(1) - a) * candidates[1, y, x, c]
                out[y, x, c] = min(max(value, np.float32(0)), np.float32(1))
