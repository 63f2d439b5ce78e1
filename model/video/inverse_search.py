"""Dense inverse search (Kroeger et al. 2016): the motion from one frame to another, compiled.

On each level of a pyramid, from coarse to fine, patches of 8 x 8 pixels of the first frame look for
their place in the other one by inverse gradient descent. They start from the best of what the
coarser level and their neighbours say, once from the top left and once from the bottom right. A
pixel's motion is the mean of the patches that hold it, weighed by how well they fit it. The mean
brightness of a patch counts for nothing.

`docs/video.md` tells what it reaches beside OpenCV's.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.simd.registers import broadcast8, fma, lane_sum, load8, store

Array = NDArray[np.float32]

SIDE = 8  # of a patch, in pixels: one register holds a row of it
BORDER = 16  # a frame's edge is repeated so often, and a patch may lie there
LEAST_SIDE = 10  # of the coarsest level
# Added to the sum of squared gradients of a patch, in levels of 0..255: a flat one does not move.
RIDGE = 1.0
# A pixel that fits worse than this, squared levels, counts less the worse it fits.
FIT_FLOOR = 1.0
# A step shorter than this, in pixels, is the last one.
LAST_STEP = 0.02


@dataclass(frozen=True)
class Level:
    """A grey frame at one size, with its gradients: bordered, flat float32, in levels of 0..255."""

    rows: int
    cols: int
    image: Array
    across: Array
    down: Array


def pyramid(grey: Array, finest: int) -> list[Level | None]:
    """A grey frame [H, W] in 0..255, halved until it is small; no levels below ``finest``."""
    levels: list[Level | None] = []
    while True:
        rows, cols = grey.shape
        levels.append(_level(grey) if len(levels) >= finest else None)
        if min(rows, cols) < 2 * LEAST_SIDE and len(levels) > finest:
            return levels
        half = (max((cols + 1) // 2, 1), max((rows + 1) // 2, 1))
        grey = np.asarray(cv2.resize(grey, half, interpolation=cv2.INTER_AREA), np.float32)


def _level(grey: Array) -> Level:
    wide = cv2.copyMakeBorder(grey, *(BORDER,) * 4, cv2.BORDER_REPLICATE)
    across, down = (
        cv2.Sobel(wide, cv2.CV_32F, 1 - k, k, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE)
        for k in (0, 1)
    )
    flat = (np.asarray(plane, np.float32).ravel() for plane in (wide, across, down))
    return Level(*grey.shape, *flat)


def find_flow(
    first: list[Level | None], third: list[Level | None], stride: int, iterations: int
) -> Array:
    """Motion from one frame to another of the same size.

    Parameters
    ----------
    first, third : what `pyramid` made of each.
    stride : distance of the patches, in pixels, up to 8.
    iterations : steps of gradient descent, at most, from each of the two sides.

    Returns
    -------
    float32 [h, w, 2], in pixels of the finest level, at its size.
    """
    flow: Array | None = None
    for one, other in zip(reversed(first), reversed(third), strict=True):
        if one is None or other is None:
            break
        rows, cols = one.rows, one.cols
        initial = (
            np.zeros((rows, cols, 2), np.float32) if flow is None else _enlarged(flow, rows, cols)
        )
        shape = (patch_count(rows, stride), patch_count(cols, stride), 2)
        found = np.empty(shape, np.float32)
        for backward in (False, True):
            _search(
                one.image, one.across, one.down, other.image, rows, cols, initial, stride,
                iterations, found, backward,
            )  # fmt: skip
        flow = np.empty((rows, cols, 2), np.float32)
        sums = np.zeros(3 * one.image.size, np.float32)
        _densify(one.image, other.image, rows, cols, found, stride, sums, flow)
    assert flow is not None
    return flow


def _enlarged(flow: Array, rows: int, cols: int) -> Array:
    scale = np.array([cols / flow.shape[1], rows / flow.shape[0]], np.float32)
    wide = cv2.resize(flow, (cols, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(wide * scale, np.float32)


@njit(cache=True)
def patch_count(length, stride):
    """Patches along a side; the last one ends where the frame does."""
    return max(-(-(length - SIDE) // stride), 0) + 1


@njit(forceinline=True)
def patch_start(number, stride, length):
    """Where a patch begins, along a side."""
    return max(min(number * stride, length - SIDE), 0)


@njit(forceinline=True)
def _inside(position, length):
    """The nearest place at which a patch, and what it is interpolated from, is in the border."""
    return min(max(position, np.float32(1 - BORDER)), np.float32(length + BORDER - SIDE - 2))


@njit(forceinline=True)
def _compare(start, across, down, image, pitch, at, rows, cols, x, y):
    """Of a patch at (x, y) of ``image`` against one at an index of ``start``: four sums.

    Of the difference, of its square, and of it times either gradient.
    """
    x = _inside(x, cols)
    y = _inside(y, rows)
    left = int(np.floor(x))
    top = int(np.floor(y))
    fx = broadcast8(np.float32(x - np.float32(left)))
    fy = broadcast8(np.float32(y - np.float32(top)))
    base = (top + BORDER) * pitch + left + BORDER
    a = load8(image, base)
    above = fma(load8(image, base + 1) - a, fx, a)
    total = broadcast8(np.float32(0))
    square = total
    by_across = total
    by_down = total
    for row in range(SIDE):
        base += pitch
        a = load8(image, base)
        below = fma(load8(image, base + 1) - a, fx, a)
        place = at + row * pitch
        difference = fma(below - above, fy, above) - load8(start, place)
        above = below
        total = total + difference
        square = fma(difference, difference, square)
        by_across = fma(difference, load8(across, place), by_across)
        by_down = fma(difference, load8(down, place), by_down)
    return lane_sum(total), lane_sum(square), lane_sum(by_across), lane_sum(by_down)


@njit(forceinline=True)
def _gradient_sums(across, down, pitch, at):
    x = broadcast8(np.float32(0))
    y = x
    xx = x
    xy = x
    yy = x
    for row in range(SIDE):
        a = load8(across, at + row * pitch)
        b = load8(down, at + row * pitch)
        x = x + a
        y = y + b
        xx = fma(a, a, xx)
        xy = fma(a, b, xy)
        yy = fma(b, b, yy)
    return lane_sum(x), lane_sum(y), lane_sum(xx), lane_sum(xy), lane_sum(yy)


@njit(cache=True, nogil=True, error_model="numpy")
def _search(
    first, across, down, third, rows, cols, initial, stride, iterations, found, backward
):  # fmt: skip
    """Motion of each patch into found [patch rows, patch columns, 2].

    From the top left it starts at ``initial`` [H, W, 2], ``backward`` at what was found so far.
    """
    pitch = cols + 2 * BORDER
    share = np.float32(1.0 / (SIDE * SIDE))
    down_count, across_count = found.shape[:2]
    towards = 1 if backward else -1
    for step_r in range(down_count):
        r = down_count - 1 - step_r if backward else step_r
        y = patch_start(r, stride, rows)
        for step_c in range(across_count):
            c = across_count - 1 - step_c if backward else step_c
            x = patch_start(c, stride, cols)
            at = (y + BORDER) * pitch + x + BORDER
            here_x = np.float32(x)
            here_y = np.float32(y)
            sum_x, sum_y, xx, xy, yy = _gradient_sums(across, down, pitch, at)
            # Without the mean of the patch, a change of brightness is no motion.
            xx += np.float32(RIDGE) - sum_x * sum_x * share
            xy -= sum_x * sum_y * share
            yy += np.float32(RIDGE) - sum_y * sum_y * share
            inverse = np.float32(1) / (xx * yy - xy * xy)
            if backward:
                u = found[r, c, 0]
                v = found[r, c, 1]
            else:
                u = initial[min(y + SIDE // 2, rows - 1), min(x + SIDE // 2, cols - 1), 0]
                v = initial[min(y + SIDE // 2, rows - 1), min(x + SIDE // 2, cols - 1), 1]
            s, q, a, b = _compare(
                first, across, down, third, pitch, at, rows, cols, here_x + u, here_y + v
            )
            misfit = q - s * s * share
            for k in range(2):
                near_r = r + towards if k == 1 else r
                near_c = c + towards if k == 0 else c
                if not (0 <= near_r < down_count and 0 <= near_c < across_count):
                    continue
                near_u = found[near_r, near_c, 0]
                near_v = found[near_r, near_c, 1]
                if abs(near_u - u) + abs(near_v - v) < np.float32(0.1):
                    continue
                s2, q2, a2, b2 = _compare(
                    first, across, down, third, pitch, at, rows, cols,
                    here_x + near_u, here_y + near_v,
                )  # fmt: skip
                if q2 - s2 * s2 * share < misfit:
                    misfit = q2 - s2 * s2 * share
                    u, v, s, a, b = near_u, near_v, s2, a2, b2
            best_u, best_v = u, v
            for _ in range(iterations):
                a -= sum_x * s * share
                b -= sum_y * s * share
                du = (yy * a - xy * b) * inverse
                dv = (xx * b - xy * a) * inverse
                u -= du
                v -= dv
                # Beyond its own length, a gradient tells nothing.
                if not abs(u - best_u) + abs(v - best_v) <= np.float32(SIDE):
                    break
                s, q, a, b = _compare(
                    first, across, down, third, pitch, at, rows, cols, here_x + u, here_y + v
                )
                now = q - s * s * share
                if now >= misfit:
                    break
                misfit = now
                best_u, best_v = u, v
                if abs(du) + abs(dv) < np.float32(LAST_STEP):
                    break
            found[r, c, 0] = best_u
            found[r, c, 1] = best_v


@njit(cache=True, nogil=True, error_model="numpy")
def _densify(first, third, rows, cols, found, stride, sums, flow):
    """The patches' motion as that of pixels, into flow [H, W, 2].

    sums: zeros, as long as three bordered images.
    """
    pitch = cols + 2 * BORDER
    plane = pitch * (rows + 2 * BORDER)
    one = broadcast8(np.float32(1))
    floor = broadcast8(np.float32(FIT_FLOOR))
    for r in range(found.shape[0]):
        first_row = patch_start(r, stride, rows)
        for c in range(found.shape[1]):
            first_col = patch_start(c, stride, cols)
            u = found[r, c, 0]
            v = found[r, c, 1]
            x = _inside(np.float32(first_col) + u, cols)
            y = _inside(np.float32(first_row) + v, rows)
            left = int(np.floor(x))
            top = int(np.floor(y))
            fx = broadcast8(np.float32(x - np.float32(left)))
            fy = broadcast8(np.float32(y - np.float32(top)))
            us = broadcast8(u)
            vs = broadcast8(v)
            base = (top + BORDER) * pitch + left + BORDER
            place = (first_row + BORDER) * pitch + first_col + BORDER
            a = load8(third, base)
            above = fma(load8(third, base + 1) - a, fx, a)
            for _ in range(SIDE):
                base += pitch
                a = load8(third, base)
                below = fma(load8(third, base + 1) - a, fx, a)
                difference = fma(below - above, fy, above) - load8(first, place)
                above = below
                weight = one / fma(difference, difference, floor)
                store(sums, place, load8(sums, place) + weight)
                store(sums, place + plane, fma(weight, us, load8(sums, place + plane)))
                store(sums, place + 2 * plane, fma(weight, vs, load8(sums, place + 2 * plane)))
                place += pitch
    for y in range(rows):
        at = (y + BORDER) * pitch + BORDER
        for x in range(cols):
            weight = np.float32(1) / sums[at + x]
            flow[y, x, 0] = sums[at + x + plane] * weight
            flow[y, x, 1] = sums[at + x + 2 * plane] * weight
