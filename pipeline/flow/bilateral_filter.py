"""The cross-bilateral filter of SimpleFlow: a flow smoothed along the colours of its image.

Each pixel p gets the mean of the flow of the pixels q around it, weighted by

    w(p, q) = confidence(q) * exp(-|x_p - x_q|^2 / 2 sigma_space^2)
                            * exp(-|c_p - c_q|^2 / 2 sigma_colour^2)

over a square of 2 * radius + 1 pixels (Tao et al. 2012, sections 3.1 and 3.2). With the default
radius of 18 that is up to 1369 weights a pixel.

How it is computed
------------------
*Powers of two.* With colours centred at mid-grey and scaled by sqrt(log2 e) / sigma_colour, the
colour weight is 2 to the power of p.q - |p|^2/2 - |q|^2/2. The factor of p alone is the same for
all its taps and cancels when the sum is divided by the sum of the weights; the term of q alone is
prepared once a pixel. What is left a tap is a dot product of three.

*Blocks and taps.* Confidence is 0 or 1. The confident pixels of each row are packed into a list of
taps (`_TAP` floats each), so that the others cost nothing; every tap is broadcast to a block of
4 x 4 pixels, one register. Where a tap lies outside the window of a column of the block, the
exponent is so large that the weight fades to nothing. The vertical part of the spatial weight is
applied once a row of taps. Of the 40 x 40 taps of a block, 37 x 37 count for each pixel.

*One flow.* Where all taps have the same flow, as in front of a camera that stands still, that is
the mean. It is taken for blocks of confident pixels, whose sums of weights are 1 at least.

*Range.* Weights are float32, so the exponents must fit. They are shifted by the largest |p|^2/2,
which keeps all of them at or below zero; they lie above -4 times that, less the spatial part: -217
for the default sigmas. Weights under 2^-126 fade to nothing. A pixel whose weights sum up to less
than `_SUPPORT_MIN` (all of its taps have colours far from its own) is done again in float64. For
sigmas so small that the exponents exceed `_REACH` (a sigma_colour under 24.3, with the default
sigma_space), the differences of the colours themselves are squared, and the exponent is clamped:
somewhat slower, and good for any sigma.

*Error.* A weight is exact to 1e-4 (`simd.EXP2_ERROR`, and the rounding of exponents of up to 217),
so a mean of values that span a range of R is exact to R * 5e-5. Before upscaling, flows are doubled
and rounded: there a value whose double lies within R * `_DOUBLED_ERROR` of the middle between two
integers is done again in float64, so that every one rounds as the exact one would. One pixel that
is rounded to the wrong side can find another match, and decide the flow of a whole region where
hardly any pixel is confident.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.simd.registers import (
    EXP2_COEFFICIENTS,
    EXP2_FACTOR,
    broadcast16,
    broadcast16_from,
    exp2_attenuation,
    flush_subnormals,
    fma,
    load16,
    minimum,
    restore_subnormals,
    store,
)

_BLOCK = 4
_TAP = 8
_REACH = 240.0
_OUTSIDE = 250.0
_SUPPORT_MIN = 2.0**-90
_KEEP_BELOW = 1e-9
_MID_GREY = 127.5
_DOUBLED_ERROR = 1.2e-4


class _Weights(NamedTuple):
    """What the kernel needs to know of the sigmas.

    columns: [4 + 2 radius, 16], what the distance along x adds to the exponent, for each column
    that a tap may lie in, counted from the block's leftmost one, and each pixel of the block; rows:
    [4 + 2 radius, 16], the same of the spatial weight along y; spatial: [2 radius + 1,
    2 radius + 1] and colour: [256], the plain tables; scale, shift: of colours and exponents;
    direct: whether differences of colours are squared; exp2: `EXP2_COEFFICIENTS`.
    """

    columns: NDArray[np.float32]
    rows: NDArray[np.float32]
    spatial: NDArray[np.float32]
    colour: NDArray[np.float64]
    scale: float
    shift: float
    direct: bool
    exp2: NDArray[np.float32]


def spatial_weights(radius: int, sigma: float) -> NDArray[np.float32]:
    """``exp(-(dx^2 + dy^2) / 2 sigma^2)``, [2 radius + 1, 2 radius + 1], rounded as OpenCV does."""
    d = np.arange(-radius, radius + 1, dtype=np.float32)
    slope = np.float32(min(1.0 / (2.0 * sigma * sigma), float(np.finfo(np.float32).max)))
    # A tiny sigma makes infinite exponents: weights of 0.
    with np.errstate(over="ignore"):
        exponents = -(d[:, None] ** 2 + d**2) * slope
    return np.asarray(cv2.exp(exponents), np.float32).reshape(exponents.shape)


@lru_cache(maxsize=16)
def _prepare(radius: int, sigma_colour: float, sigma_space: float) -> _Weights:
    per_square = math.log2(math.e) / (2.0 * sigma_space**2)
    along = (np.arange(4 + 2 * radius)[:, None] - np.arange(4) - radius).astype(np.float64)
    inside = np.abs(along) <= radius
    x = np.where(inside, per_square * along**2, _OUTSIDE)
    y = np.where(inside, np.exp2(-per_square * along**2), 0.0)
    scale = math.sqrt(math.log2(math.e)) / sigma_colour
    shift = 1.5 * (_MID_GREY * scale) ** 2
    return _Weights(
        columns=np.minimum(np.tile(x, 4), _OUTSIDE).astype(np.float32).ravel(),
        rows=np.repeat(y, 4, axis=1).astype(np.float32).ravel(),
        spatial=spatial_weights(radius, sigma_space),
        colour=np.array([math.exp(-0.5 * i * i / sigma_colour**2) for i in range(256)]),
        scale=scale,
        shift=shift,
        direct=4.0 * shift + per_square * radius**2 > _REACH,
        exp2=np.array(EXP2_COEFFICIENTS, np.float32),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _pack_taps(image, flow, confidence, scale, shift, direct, taps, columns, starts, runs):
    """List the confident pixels of each row.

    A tap is (three scaled colours, its own part of the exponent, dx, dy); columns: its x;
    starts[y, x]: the place in the list of the first tap of row y at or right of column x; runs: for
    each tap, the place after the last tap of its row that follows it with the same flow.
    """
    rows, cols = confidence.shape
    n = 0
    for y in range(rows):
        for x in range(cols):
            starts[y, x] = n
            if confidence[y, x] == 0:
                continue
            square = np.float32(0.0)
            for c in range(3):
                colour = (np.float32(image[y, x, c]) - np.float32(_MID_GREY)) * np.float32(scale)
                taps[n * _TAP + c] = colour
                square += colour * colour
            half = np.float32(0.5) * square + np.float32(shift)
            taps[n * _TAP + 3] = np.float32(0.0) if direct else half
            taps[n * _TAP + 4] = flow[0, y, x]
            taps[n * _TAP + 5] = flow[1, y, x]
            columns[n] = x
            n += 1
        starts[y, cols] = n
        for t in range(n - 1, starts[y, 0] - 1, -1):
            same = (
                t + 1 < n
                and taps[t * _TAP + 4] == taps[t * _TAP + 12]
                and taps[t * _TAP + 5] == taps[t * _TAP + 13]
            )
            runs[t] = runs[t + 1] if same else t + 1


@njit(cache=True, nogil=True, error_model="numpy")
def _one_flow(confidence, taps, starts, runs, top, left, radius):
    """Whether all pixels of a block are confident and all taps in their windows have one flow."""
    rows, cols = confidence.shape
    bottom = min(rows, top + _BLOCK)
    right = min(cols, left + _BLOCK)
    for y in range(top, bottom):
        if starts[y, right] - starts[y, left] != right - left:
            return False
    own = starts[top, left] * _TAP
    first = max(0, left - radius)
    last = min(cols - 1, left + _BLOCK - 1 + radius)
    for y in range(max(0, top - radius), min(rows, top + _BLOCK + radius)):
        begin = starts[y, first]
        if begin < starts[y, last + 1] and (
            runs[begin] < starts[y, last + 1]
            or taps[begin * _TAP + 4] != taps[own + 4]
            or taps[begin * _TAP + 5] != taps[own + 5]
        ):
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _spread(taps):
    """The larger range of dx and dy over all taps."""
    spread = np.float32(0.0)
    for at in (4, 5):
        least, most = np.float32(np.inf), np.float32(-np.inf)
        for t in range(at, taps.size, _TAP):
            least = min(least, taps[t])
            most = max(most, taps[t])
        spread = max(spread, most - least)
    return spread


@njit(cache=True, nogil=True, error_model="numpy")
def _mean_in_float64(image, flow, columns, starts, spatial, colour, y, x, out):
    """The definition, for one pixel; returns the sum of the weights."""
    rows, cols, _ = image.shape
    radius = spatial.shape[0] // 2
    total = sum_x = sum_y = 0.0
    for r in range(max(0, y - radius), min(rows, y + radius + 1)):
        for t in range(starts[r, max(0, x - radius)], starts[r, min(cols, x + radius + 1)]):
            c = columns[t]
            weight = np.float64(spatial[r - y + radius, c - x + radius])
            for k in range(3):
                weight *= colour[abs(np.int64(image[y, x, k]) - np.int64(image[r, c, k]))]
            total += weight
            sum_x += weight * flow[0, r, c]
            sum_y += weight * flow[1, r, c]
    out[0, y, x] = sum_x / total
    out[1, y, x] = sum_y / total
    return total


@njit(forceinline=True)
def _exponent(direct, own, c0, c1, c2, p0, p1, p2):
    """What a tap's weight is attenuated by, as a power of two; p is negated where not direct."""
    if direct:
        d0, d1, d2 = p0 - c0, p1 - c1, p2 - c2
        half = broadcast16(np.float32(0.5))
        squares = fma(d2, d2, fma(d1, d1, d0 * d0))
        return minimum(fma(squares, half, own), broadcast16(np.float32(_OUTSIDE)))
    return fma(p2, c2, fma(p1, c1, fma(p0, c0, own)))


@njit(forceinline=True)
def _sum_row(taps, columns, begin, end, left, distance, exp2, direct, p0, p1, p2):
    """Weight, weight * dx and weight * dy over a row of taps."""
    total = sum_x = sum_y = broadcast16(np.float32(0.0))
    for t in range(begin, end):
        at = t * _TAP
        c0 = broadcast16_from(taps, at)
        c1 = broadcast16_from(taps, at + 1)
        c2 = broadcast16_from(taps, at + 2)
        own = broadcast16_from(taps, at + 3) + load16(distance, (np.intp(columns[t]) - left) * 16)
        weight = exp2_attenuation(_exponent(direct, own, c0, c1, c2, p0, p1, p2), exp2)
        total = total + weight
        sum_x = fma(weight, broadcast16_from(taps, at + 4), sum_x)
        sum_y = fma(weight, broadcast16_from(taps, at + 5), sum_y)
    return total, sum_x, sum_y


@njit(forceinline=True)
def _rounds_safely(value, margin):
    """Whether a value is at least so far from the middle between two integers."""
    return abs(value - np.floor(value) - 0.5) > margin


@njit(cache=True, nogil=True, error_model="numpy")
def _filter(image, flow, confidence, weights, taps, columns, starts, runs, upscaling, margin, out):
    rows, cols = confidence.shape
    radius = weights.spatial.shape[0] // 2
    sign = np.float32(1.0 if weights.direct else -1.0)
    scale = np.float32(weights.scale)
    exp2 = (
        broadcast16_from(weights.exp2, 0),
        broadcast16_from(weights.exp2, 1),
        broadcast16_from(weights.exp2, 2),
        broadcast16_from(weights.exp2, 3),
    )
    pixels = np.empty(3 * 16, np.float32)
    sums = np.empty(3 * 16, np.float32)
    # Weights that fade to nothing pass through the smallest of numbers.
    subnormals = flush_subnormals()
    for top in range(0, rows, _BLOCK):
        first_row = max(0, top - radius)
        last_row = min(rows - 1, top + _BLOCK - 1 + radius)
        for left in range(0, cols, _BLOCK):
            if _one_flow(confidence, taps, starts, runs, top, left, radius):
                for y in range(top, min(rows, top + _BLOCK)):
                    for x in range(left, min(cols, left + _BLOCK)):
                        out[0, y, x] = flow[0, y, x]
                        out[1, y, x] = flow[1, y, x]
                continue
            first = max(0, left - radius)
            last = min(cols - 1, left + _BLOCK - 1 + radius)
            for lane in range(16):
                y = min(rows - 1, top + lane // 4)
                x = min(cols - 1, left + lane % 4)
                for c in range(3):
                    grey = np.float32(image[y, x, c]) - np.float32(_MID_GREY)
                    pixels[c * 16 + lane] = sign * scale * grey
            p0, p1, p2 = load16(pixels, 0), load16(pixels, 16), load16(pixels, 32)
            total = sum_x = sum_y = broadcast16(np.float32(0.0))
            any_tap = False
            for y in range(first_row, last_row + 1):
                begin = np.intp(starts[y, first])
                end = np.intp(starts[y, last + 1])
                if begin == end:
                    continue
                any_tap = True
                corner = left - radius
                if weights.direct:
                    w, wx, wy = _sum_row(
                        taps, columns, begin, end, corner, weights.columns, exp2, True, p0, p1, p2
                    )
                else:
                    w, wx, wy = _sum_row(
                        taps, columns, begin, end, corner, weights.columns, exp2, False, p0, p1, p2
                    )
                along_y = load16(weights.rows, (y - top + radius) * 16)
                total = fma(along_y, w, total)
                sum_x = fma(along_y, wx, sum_x)
                sum_y = fma(along_y, wy, sum_y)
            store(sums, 0, total)
            store(sums, 16, sum_x)
            store(sums, 32, sum_y)
            for lane in range(16):
                y = top + lane // 4
                x = left + lane % 4
                if y >= rows or x >= cols:
                    continue
                if not any_tap:
                    for k in range(2):
                        out[k, y, x] = flow[k, y, x] if upscaling else np.float32(np.nan)
                    continue
                weight = np.float64(sums[lane])
                good = weight >= _SUPPORT_MIN
                if good:
                    out[0, y, x] = sums[16 + lane] / sums[lane]
                    out[1, y, x] = sums[32 + lane] / sums[lane]
                    if upscaling:
                        square = 0.0
                        if not weights.direct:
                            for c in range(3):
                                square += np.float64(pixels[c * 16 + lane]) ** 2
                            weight *= 2.0 ** (weights.shift - 0.5 * square)
                        good = (
                            weight > 2.0 * _KEEP_BELOW * EXP2_FACTOR
                            and _rounds_safely(2.0 * out[0, y, x], margin)
                            and _rounds_safely(2.0 * out[1, y, x], margin)
                        )
                if not good:
                    restore_subnormals(subnormals)
                    weight = _mean_in_float64(
                        image, flow, columns, starts, weights.spatial, weights.colour, y, x, out
                    )
                    flush_subnormals()
                    if upscaling and weight < _KEEP_BELOW:
                        out[0, y, x] = flow[0, y, x]
                        out[1, y, x] = flow[1, y, x]
    restore_subnormals(subnormals)


def smooth_along_colours(
    flow: NDArray[np.float32],
    image: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    radius: int,
    sigma_colour: float,
    sigma_space: float,
    upscaling: bool,
) -> NDArray[np.float32]:
    """Smooth a flow along the colours of its image.

    Parameters
    ----------
    flow : float32 [2, H, W]
        (dx, dy) in pixels; finite.
    image : uint8 [H, W, 3]
    confidence : uint8 [H, W]
        0: the pixel does not count; 1: it does.
    radius : int
        Half the side of the window in pixels; below 1: 1.5 * sigma_space.
    sigma_colour, sigma_space : float
        In grey levels and in pixels; 0 or less stands for 1.
    upscaling : bool
        Whether the result is to be doubled and rounded. Then the flow is kept as it is where the
        weights sum up to less than 1e-9, and values are certain to round as exact ones would.
        Otherwise the result is the mean whatever the sum, NaN where no confident pixel lies in the
        window.

    Returns
    -------
    float32 [2, H, W]
    """
    sigma_colour = sigma_colour if sigma_colour > 0 else 1.0
    sigma_space = sigma_space if sigma_space > 0 else 1.0
    if radius <= 0:
        radius = round(1.5 * sigma_space)
    radius = max(radius, 1)
    rows, cols = confidence.shape
    weights = _prepare(radius, sigma_colour, sigma_space)
    count = int(np.count_nonzero(confidence))
    taps = np.empty(count * _TAP, np.float32)
    columns = np.empty(count, np.int32)
    starts = np.empty((rows, cols + 1), np.int32)
    runs = np.empty(count, np.int32)
    lists = (taps, columns, starts, runs)
    _pack_taps(image, flow, confidence, weights.scale, weights.shift, weights.direct, *lists)
    margin = _DOUBLED_ERROR * _spread(taps)
    out = np.empty_like(flow)
    _filter(image, flow, confidence, weights, *lists, upscaling, margin, out)
    return out
