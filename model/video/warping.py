"""A compiled kernel that makes the frame at a time between two, of the motion between them.

The frame is made of overlapping patches of 8 x 8 pixels (overlapped block motion compensation,
Orchard and Sullivan 1994). For each, both flows carried to that time and standing still propose a
motion; both frames are sampled along each proposal, and its picture counts the less, the more the
two samples disagree. A pixel is the mean of all proposals of all patches that hold it.

Frames are planar float32 in 0..1 with a border, so that a row of a patch is one register and no tap
of the bicubic kernel leaves the array.
"""

from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.video.inverse_search import BORDER, SIDE, patch_count, patch_start
from pipeline.simd.registers import broadcast8, broadcast8_from, fma, lane_sum, load8, store

Array = NDArray[np.float32]

CARRY_STEPS = 4
# Disagreement, the mean square over a patch summed over three channels, that is noise.
NOISE_FLOOR = 1e-3
# Added, in the same unit, where the motion there and back differ: what is covered or uncovered.
PENALTY = 0.1
# How much standing still counts beside a motion that fits as well.
STILL_WEIGHT = 0.3
_STEPS = 256
_PATCH = 3 * SIDE * SIDE


def _bicubic_table() -> Array:
    """Weights of four taps at each of `_STEPS` fractions of a pixel, [_STEPS + 1, 4].

    Keys' cubic convolution with a = -0.75, as OpenCV's.
    """
    a = -0.75
    fraction = np.arange(_STEPS + 1)[:, None] / _STEPS
    distance = np.abs(fraction - np.array([-1.0, 0.0, 1.0, 2.0]))
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far).astype(np.float32)


BICUBIC = _bicubic_table().ravel()


def planar(frame: NDArray[Any]) -> Array:
    """A frame [H, W, 3], uint8, uint16 or float32 in 0..1, as flat bordered planes in 0..1."""
    rows, cols = frame.shape[:2]
    planes = np.empty((3, rows + 2 * BORDER, cols + 2 * BORDER), np.float32)
    scale = 1.0 if frame.dtype == np.float32 else 1.0 / np.iinfo(frame.dtype).max
    for channel in range(3):
        plane = np.multiply(cv2.extractChannel(frame, channel), np.float32(scale), dtype=np.float32)
        cv2.copyMakeBorder(plane, *(BORDER,) * 4, cv2.BORDER_REPLICATE, dst=planes[channel])
    return planes.ravel()


@njit(forceinline=True)
def _flow_at(flow, rows, cols, x, y):
    """Bilinear value of a flow at (x, y) of its own pixels; the nearest edge's outside."""
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
def _carry(flow, other, time, x, y):
    """The motion of what is at (x, y) at a time, and how surely the flow back contradicts it, 0..1.

    Found by fixed-point steps, in pixels of the flow.
    """
    rows, cols = flow.shape[:2]
    one = np.float32(1)
    u, v = _flow_at(flow, rows, cols, x, y)
    for _ in range(CARRY_STEPS):
        new_u, new_v = _flow_at(flow, rows, cols, x - time * u, y - time * v)
        change = abs(new_u - u) + abs(new_v - v)
        u = new_u
        v = new_v
        if change < np.float32(0.02):
            break
    back_u, back_v = _flow_at(other, rows, cols, x + (one - time) * u, y + (one - time) * v)
    gap = (u + back_u) * (u + back_u) + (v + back_v) * (v + back_v)
    return u, v, gap, u * u + v * v


@njit(forceinline=True)
def _outside(rows, cols, x, y):
    """Which share of a patch lies outside the picture, along the side where it is most."""
    beyond = max(max(-x, x - np.float32(cols - SIDE)), max(-y, y - np.float32(rows - SIDE)))
    return min(max(beyond * np.float32(1 / SIDE), np.float32(0)), np.float32(1))


@njit(forceinline=True)
def _inside(position, length):
    low = np.float32(3 - BORDER)
    return min(max(position, low), np.float32(length + BORDER - SIDE - 5))


@njit(nogil=True, error_model="numpy")
def _sample(image, pitch, rows, cols, x, y, table, out, at):
    """Bicubic values of the patch at (x, y), three channels of eight rows, into ``out``."""
    x = _inside(x, cols)
    y = _inside(y, rows)
    left = int(np.floor(x))
    top = int(np.floor(y))
    across = int((x - left) * _STEPS + 0.5) * 4
    down = int((y - top) * _STEPS + 0.5) * 4
    plane = pitch * (rows + 2 * BORDER)
    start = (top + BORDER) * pitch + left + BORDER
    if across == 0 and down == 0:
        for channel in range(3):
            base = start + channel * plane
            for _ in range(SIDE):
                store(out, at, load8(image, base))
                at += SIDE
                base += pitch
        return
    a0 = broadcast8_from(table, across)
    a1 = broadcast8_from(table, across + 1)
    a2 = broadcast8_from(table, across + 2)
    a3 = broadcast8_from(table, across + 3)
    b0 = broadcast8_from(table, down)
    b1 = broadcast8_from(table, down + 1)
    b2 = broadcast8_from(table, down + 2)
    b3 = broadcast8_from(table, down + 3)
    for channel in range(3):
        base = start + channel * plane - pitch - 1
        h1 = _taps(image, base, a0, a1, a2, a3)
        h2 = _taps(image, base + pitch, a0, a1, a2, a3)
        h3 = _taps(image, base + 2 * pitch, a0, a1, a2, a3)
        base += 3 * pitch
        for _ in range(SIDE):
            h0 = h1
            h1 = h2
            h2 = h3
            h3 = _taps(image, base, a0, a1, a2, a3)
            store(out, at, fma(h0, b0, fma(h1, b1, fma(h2, b2, h3 * b3))))
            at += SIDE
            base += pitch


@njit(forceinline=True)
def _taps(image, base, a0, a1, a2, a3):
    right = fma(load8(image, base + 2), a2, load8(image, base + 3) * a3)
    return fma(load8(image, base), a0, fma(load8(image, base + 1), a1, right))


@njit(forceinline=True)
def _disagreement(samples):
    total = broadcast8(np.float32(0))
    for row in range(3 * SIDE):
        difference = load8(samples, row * SIDE) - load8(samples, _PATCH + row * SIDE)
        total = fma(difference, difference, total)
    return lane_sum(total) * np.float32(1 / SIDE / SIDE)


@njit(cache=True, nogil=True, error_model="numpy")
def compose(first, third, there, back, time, stride, table, begin, end, out):
    """The rows from ``begin`` to ``end`` of the frame at ``time``, into ``out`` [H, W, 3].

    first, third: of `planar`; there, back: flow first to third and third to first, float32
    [h, w, 2] in their own pixels, of the frames' size or smaller; stride: of the patches.
    Where a proposal leads out of one frame, the other is taken. Where the flow back leads
    elsewhere, the place is hidden in one frame or the motion wrong: the proposal counts less.
    Returns two sums over patches, of the least disagreement of moved samples, and of unmoved ones.
    """
    rows, cols = out.shape[:2]
    pitch = cols + 2 * BORDER
    one = np.float32(1)
    zero = np.float32(0)
    scale_x = np.float32(cols / there.shape[1])
    scale_y = np.float32(rows / there.shape[0])
    half = np.float32(0.5)
    height = end - begin + 2 * SIDE
    plane = height * pitch
    sums = np.zeros(4 * plane, np.float32)
    samples = np.empty(2 * _PATCH, np.float32)
    moved_total = 0.0
    still_total = 0.0
    for r in range(patch_count(rows, stride)):
        y = patch_start(r, stride, rows)
        if y + SIDE <= begin or y >= end:
            continue
        for c in range(patch_count(cols, stride)):
            x = patch_start(c, stride, cols)
            px = np.float32(x)
            py = np.float32(y)
            middle_x = (px + np.float32(SIDE / 2)) / scale_x - half
            middle_y = (py + np.float32(SIDE / 2)) / scale_y - half
            least = np.float32(np.inf)
            for k in range(3):
                u = zero
                v = zero
                hidden = zero
                if k == 0:
                    u, v, gap, length = _carry(there, back, time, middle_x, middle_y)
                elif k == 1:
                    u, v, gap, length = _carry(back, there, one - time, middle_x, middle_y)
                    u = -u
                    v = -v
                if k < 2:
                    u *= scale_x
                    v *= scale_y
                    area = scale_x * scale_y
                    hidden = (gap * area - np.float32(4) - np.float32(0.05) * area * length) / 4
                    hidden = np.float32(min(max(hidden, zero), one))
                from_x = px - time * u
                from_y = py - time * v
                to_x = px + (one - time) * u
                to_y = py + (one - time) * v
                _sample(first, pitch, rows, cols, from_x, from_y, table, samples, 0)
                _sample(third, pitch, rows, cols, to_x, to_y, table, samples, _PATCH)
                start_share = (one - time) * (one - _outside(rows, cols, from_x, from_y))
                end_share = time * (one - _outside(rows, cols, to_x, to_y))
                start_share = (start_share + np.float32(1e-6)) / (
                    start_share + end_share + np.float32(2e-6)
                )
                difference = _disagreement(samples)
                weight = one / (difference + hidden * np.float32(PENALTY) + np.float32(NOISE_FLOOR))
                if k < 2:
                    least = min(least, difference)
                else:
                    still_total += difference
                    weight *= np.float32(STILL_WEIGHT)
                weights = broadcast8(np.float32(weight))
                firsts = broadcast8(np.float32(weight * start_share))
                thirds = broadcast8(np.float32(weight * (one - start_share)))
                place = (y - begin + SIDE) * pitch + x + BORDER
                for row in range(SIDE):
                    store(sums, place, load8(sums, place) + weights)
                    for channel in range(3):
                        at = (channel * SIDE + row) * SIDE
                        target = place + (channel + 1) * plane
                        value = fma(load8(samples, at), firsts, load8(sums, target))
                        value = fma(load8(samples, _PATCH + at), thirds, value)
                        store(sums, target, value)
                    place += pitch
            moved_total += least
    for y in range(begin, end):
        at = (y - begin + SIDE) * pitch + BORDER
        for x in range(cols):
            share = one / sums[at + x]
            for channel in range(3):
                value = sums[at + x + (channel + 1) * plane] * share
                out[y, x, channel] = min(max(value, zero), one)
    return moved_total, still_total
