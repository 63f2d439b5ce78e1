"""A compiled kernel that makes the frame at a time between two, of the motion between them.

The frame is made of overlapping patches of 8 x 8 pixels (overlapped block motion compensation,
Orchard and Sullivan 1994). For each, both flows carried to that time and standing still propose a
motion; both frames are sampled along each proposal, and its picture counts by the inverse square
root of how much the two samples disagree. A pixel is the mean of all proposals of all patches that
hold it.

Between pixels a frame is the cubic spline through them (Unser, Aldroubi and Eden 1993), which blurs
less than cubic convolution and reads as many pixels once its coefficients are known.

Frames are planar float32 in 0..1 with a border, so that a row of a patch is one register and no tap
of the spline leaves the array.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.video.inverse_search import BORDER, SIDE, patch_count, patch_start
from pipeline.simd.registers import broadcast8, broadcast8_from, fma, lane_sum, load8, store

Array = NDArray[np.float32]

# Fixed-point steps, at most, that find what motion arrives at a place.
CARRY_STEPS = 5
# A step that changes the motion by less, in pixels of the flow, is the last one.
LAST_STEP = 0.02
# Disagreement, the mean square over a patch summed over three channels, that is noise.
NOISE_FLOOR = 4e-3
# Added, in the same unit, where the motion there and back differ: what is covered or uncovered.
PENALTY = 0.1
# How much a patch's change of brightness counts beside a change of its detail.
LIGHT_WEIGHT = 0.5
# How much standing still counts beside a motion that fits as well.
STILL_WEIGHT = 0.3
# What both flows propose within this, in pixels of the flow, is one proposal that counts twice.
NEAR = 0.5
_STEPS = 256
_PATCH = 3 * SIDE * SIDE
_MOST = 4  # moving proposals of a patch: two of each flow


def _spline_table() -> Array:
    """Weights of four coefficients at each of `_STEPS` fractions of a pixel, [_STEPS + 1, 4]."""
    fraction = np.arange(_STEPS + 1)[:, None] / _STEPS
    distance = np.abs(fraction - np.array([-1.0, 0.0, 1.0, 2.0]))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance) ** 3 / 6
    return np.where(distance <= 1, near, far).astype(np.float32)


def _coefficient_filter() -> Array:
    """What turns pixels into coefficients, cut off where it falls below a thousandth."""
    pole = np.sqrt(3.0) - 2.0
    taps = pole ** np.abs(np.arange(-6, 7))
    return (taps / taps.sum()).astype(np.float32)


SPLINE = _spline_table().ravel()
_COEFFICIENTS = _coefficient_filter()


@dataclass(frozen=True)
class Planes:
    """A frame as three bordered planes, flat float32 in 0..1, and the spline through its pixels."""

    pixels: Array
    spline: Array


def planar(frame: NDArray[Any]) -> Planes:
    """The planes of a frame [H, W, 3], uint8, uint16 or float32 in 0..1."""
    rows, cols = frame.shape[:2]
    pixels = np.empty((3, rows + 2 * BORDER, cols + 2 * BORDER), np.float32)
    spline = np.empty_like(pixels)
    scale = 1.0 if frame.dtype == np.float32 else 1.0 / np.iinfo(frame.dtype).max
    for channel in range(3):
        plane = cv2.extractChannel(frame, channel)
        plane = cv2.copyMakeBorder(plane, *(BORDER,) * 4, cv2.BORDER_REPLICATE)
        np.multiply(plane, np.float32(scale), out=pixels[channel], dtype=np.float32)
        cv2.sepFilter2D(
            pixels[channel], cv2.CV_32F, _COEFFICIENTS, _COEFFICIENTS,
            dst=spline[channel], borderType=cv2.BORDER_REPLICATE,
        )  # fmt: skip
    return Planes(pixels.ravel(), spline.ravel())


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
def _mean_motion(there, back, time, x, y):
    """Whether both flows agree on the motion of what is at (x, y) at a time, and their mean.

    In pixels of the flows, by fixed-point steps.
    """
    rows, cols = there.shape[:2]
    one = np.float32(1)
    half = np.float32(0.5)
    u, v = _flow_at(there, rows, cols, x, y)
    back_u, back_v = _flow_at(back, rows, cols, x, y)
    for _ in range(CARRY_STEPS):
        if abs(u + back_u) + abs(v + back_v) > np.float32(NEAR):
            return False, u, v
        mean_u = (u - back_u) * half
        mean_v = (v - back_v) * half
        u, v = _flow_at(there, rows, cols, x - time * mean_u, y - time * mean_v)
        back_u, back_v = _flow_at(
            back, rows, cols, x + (one - time) * mean_u, y + (one - time) * mean_v
        )
        change = abs((u - back_u) * half - mean_u) + abs((v - back_v) * half - mean_v)
        if change < np.float32(LAST_STEP):
            break
    agree = abs(u + back_u) + abs(v + back_v) <= np.float32(NEAR)
    return agree, (u - back_u) * half, (v - back_v) * half


@njit(forceinline=True)
def _propose(proposals, count, flow, other, time, x, y, sign, scale_x, scale_y):
    """Add the motion of what is at (x, y) at a time, by one flow; returns how many there are.

    Where fixed-point steps end in turning from one motion to another, as at the edge of something
    that moves, both are proposed. A proposal is the motion in pixels of the frame, how surely the
    flow back contradicts it, 0..1, and how often it counts.
    """
    rows, cols = flow.shape[:2]
    one = np.float32(1)
    u = np.float32(0)
    v = u
    last_u = u
    last_v = u
    change = u
    for _ in range(CARRY_STEPS):
        last_u = u
        last_v = v
        u, v = _flow_at(flow, rows, cols, x - time * u, y - time * v)
        change = abs(u - last_u) + abs(v - last_v)
        if change < np.float32(LAST_STEP):
            break
    motions = 2 if change > np.float32(NEAR) else 1
    for _ in range(motions):
        back_u, back_v = _flow_at(other, rows, cols, x + (one - time) * u, y + (one - time) * v)
        gap_u = (u + back_u) * scale_x
        gap_v = (v + back_v) * scale_y
        proposals[count, 0] = sign * u * scale_x
        proposals[count, 1] = sign * v * scale_y
        length = proposals[count, 0] ** 2 + proposals[count, 1] ** 2
        hidden = gap_u * gap_u + gap_v * gap_v - np.float32(4) - np.float32(0.05) * length
        proposals[count, 2] = min(max(hidden * np.float32(0.25), np.float32(0)), one)
        proposals[count, 3] = one
        u = last_u
        v = last_v
        count += 1
    return count


@njit(forceinline=True)
def _outside(rows, cols, x, y):
    """Which share of a patch lies outside the picture, along the side where it is most."""
    beyond = max(max(-x, x - np.float32(cols - SIDE)), max(-y, y - np.float32(rows - SIDE)))
    return min(max(beyond * np.float32(1 / SIDE), np.float32(0)), np.float32(1))


@njit(forceinline=True)
def _inside(position, length):
    low = np.float32(3 - BORDER)
    return min(max(position, low), np.float32(length + BORDER - SIDE - 5))


@njit(forceinline=True)
def _copy(pixels, pitch, rows, x, y, out, at):
    """The pixels of the patch that begins at (x, y), three channels of eight rows."""
    for channel in range(3):
        base = ((rows + 2 * BORDER) * channel + y + BORDER) * pitch + x + BORDER
        for _ in range(SIDE):
            store(out, at, load8(pixels, base))
            at += SIDE
            base += pitch


@njit(nogil=True, error_model="numpy")
def _sample(spline, pitch, rows, cols, x, y, table, out, at):
    """The spline's values of the patch at (x, y), three channels of eight rows, into ``out``."""
    x = _inside(x, cols)
    y = _inside(y, rows)
    left = int(np.floor(x))
    top = int(np.floor(y))
    across = int((x - left) * _STEPS + 0.5) * 4
    down = int((y - top) * _STEPS + 0.5) * 4
    plane = pitch * (rows + 2 * BORDER)
    start = (top + BORDER) * pitch + left + BORDER
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
        h1 = _taps(spline, base, a0, a1, a2, a3)
        h2 = _taps(spline, base + pitch, a0, a1, a2, a3)
        h3 = _taps(spline, base + 2 * pitch, a0, a1, a2, a3)
        base += 3 * pitch
        for _ in range(SIDE):
            h0 = h1
            h1 = h2
            h2 = h3
            h3 = _taps(spline, base, a0, a1, a2, a3)
            store(out, at, fma(h0, b0, fma(h1, b1, fma(h2, b2, h3 * b3))))
            at += SIDE
            base += pitch


@njit(forceinline=True)
def _taps(spline, base, a0, a1, a2, a3):
    right = fma(load8(spline, base + 2), a2, load8(spline, base + 3) * a3)
    return fma(load8(spline, base), a0, fma(load8(spline, base + 1), a1, right))


@njit(forceinline=True)
def _disagreement(samples, at):
    """Between two samples of a patch: mean square of the difference, and square of its mean.

    Both are sums over the channels.
    """
    share = np.float32(1 / SIDE / SIDE)
    square = broadcast8(np.float32(0))
    light = np.float32(0)
    for _ in range(3):
        mean = broadcast8(np.float32(0))
        for _ in range(SIDE):
            difference = load8(samples, at) - load8(samples, at + _PATCH)
            mean = mean + difference
            square = fma(difference, difference, square)
            at += SIDE
        channel = lane_sum(mean) * share
        light += channel * channel
    return lane_sum(square) * share, light


@njit(forceinline=True)
def _add(samples, shares, count, total, sums, place, pitch, plane):
    """Add ``count`` samples of a patch by their shares, which sum to ``total``, to the sums."""
    totals = broadcast8(total)
    for row in range(SIDE):
        store(sums, place, load8(sums, place) + totals)
        for channel in range(3):
            at = (channel * SIDE + row) * SIDE
            target = place + (channel + 1) * plane
            value = load8(sums, target)
            for k in range(count):
                value = fma(load8(samples, k * _PATCH + at), broadcast8_from(shares, k), value)
            store(sums, target, value)
        place += pitch


@njit(cache=True, nogil=True, error_model="numpy")
def compose(pixels, splines, there, back, time, stride, table, begin, end, out):
    """The rows from ``begin`` to ``end`` of the frame at ``time``, into ``out`` [H, W, 3].

    pixels, splines: of the first and the third frame's `Planes`, two each; there, back: flow first
    to third and third to first, float32 [h, w, 2] in their own pixels, of the frames' size or
    smaller; stride: of the patches; table: `SPLINE`.
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
    samples = np.empty(2 * (_MOST + 1) * _PATCH, np.float32)
    shares = np.empty(2 * (_MOST + 1), np.float32)
    proposals = np.empty((_MOST, 4), np.float32)
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
            agree, u, v = _mean_motion(there, back, time, middle_x, middle_y)
            count = 1
            if agree:
                proposals[0, 0] = u * scale_x
                proposals[0, 1] = v * scale_y
                proposals[0, 2] = zero
                proposals[0, 3] = 2
            else:
                count = _propose(
                    proposals, 0, there, back, time, middle_x, middle_y, one, scale_x, scale_y
                )
                count = _propose(
                    proposals, count, back, there, one - time, middle_x, middle_y, -one,
                    scale_x, scale_y,
                )  # fmt: skip
            least = np.float32(np.inf)
            total = zero
            for k in range(count + 1):
                u = zero
                v = zero
                hidden = zero
                votes = np.float32(STILL_WEIGHT)
                if k < count:
                    u = proposals[k, 0]
                    v = proposals[k, 1]
                    hidden = proposals[k, 2]
                    votes = proposals[k, 3]
                from_x = px - time * u
                from_y = py - time * v
                to_x = px + (one - time) * u
                to_y = py + (one - time) * v
                at = 2 * k * _PATCH
                if k == count:
                    _copy(pixels[0], pitch, rows, x, y, samples, at)
                    _copy(pixels[1], pitch, rows, x, y, samples, at + _PATCH)
                else:
                    _sample(splines[0], pitch, rows, cols, from_x, from_y, table, samples, at)
                    _sample(splines[1], pitch, rows, cols, to_x, to_y, table, samples, at + _PATCH)
                start_share = (one - time) * (one - _outside(rows, cols, from_x, from_y))
                end_share = time * (one - _outside(rows, cols, to_x, to_y))
                start_share = (start_share + np.float32(1e-6)) / (
                    start_share + end_share + np.float32(2e-6)
                )
                difference, light = _disagreement(samples, at)
                detail = difference - light
                difference = detail + light * np.float32(LIGHT_WEIGHT)
                doubt = difference + hidden * np.float32(PENALTY) + np.float32(NOISE_FLOOR)
                weight = votes / np.sqrt(doubt)
                if k < count:
                    least = min(least, detail)
                else:
                    still_total += detail
                shares[2 * k] = weight * start_share
                shares[2 * k + 1] = weight * (one - start_share)
                total += weight
            place = (y - begin + SIDE) * pitch + x + BORDER
            _add(samples, shares, 2 * count + 2, total, sums, place, pitch, plane)
            moved_total += least
    for y in range(begin, end):
        at = (y - begin + SIDE) * pitch + BORDER
        for x in range(at, at + cols):
            sums[x] = one / sums[x]
        for channel in range(3):
            base = at + (channel + 1) * plane
            for x in range(cols):
                value = sums[base + x] * sums[at + x]
                out[y, x, channel] = min(max(value, zero), one)
    return moved_total, still_total
