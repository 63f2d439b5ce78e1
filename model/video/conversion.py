"""Compiled loops of `model.video.planes`: between planes of YUV and RGB, and rounding."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def yuv_to_rgb(luma, u_plane, v_plane, across, down, luma_zero, chroma_zero, factors, out):
    """RGB of planes into ``out``, float32 [H, W, 3], clipped to 0..1; not 0 if any value was."""
    rows, cols = luma.shape
    clipped = 0
    zero, one, slack = np.float32(0), np.float32(1), np.float32(1e-5)
    for y in range(rows):
        for x in range(cols):
            grey = (np.float32(luma[y, x]) - luma_zero) * factors[0]
            u = np.float32(u_plane[y >> down, x >> across]) - chroma_zero
            v = np.float32(v_plane[y >> down, x >> across]) - chroma_zero
            red = grey + factors[1] * v
            blue = grey + factors[2] * u
            green = grey + factors[3] * u + factors[4] * v
            low = min(min(red, green), blue)
            high = max(max(red, green), blue)
            clipped |= int(low < -slack) | int(high > one + slack)
            out[y, x, 0] = min(max(red, zero), one)
            out[y, x, 1] = min(max(green, zero), one)
            out[y, x, 2] = min(max(blue, zero), one)
    return clipped


@njit(cache=True, nogil=True, error_model="numpy")
def rgb_to_yuv(
    rgb, across, down, luma_zero, chroma_zero, luma_scale, factors, luma, u_plane, v_plane
):
    """Codes of RGB, not rounded; chroma, which must be zeros, becomes the mean of each block."""
    rows, cols = luma.shape
    for y in range(rows):
        # A last block may be smaller than the others.
        high = min(((y >> down) + 1) << down, rows) - ((y >> down) << down)
        for x in range(cols):
            red, green, blue = rgb[y, x, 0], rgb[y, x, 1], rgb[y, x, 2]
            grey = factors[0] * red + factors[1] * green + factors[2] * blue
            luma[y, x] = luma_zero + grey
            wide = min(((x >> across) + 1) << across, cols) - ((x >> across) << across)
            share = np.float32(1) / np.float32(high * wide)
            u_plane[y >> down, x >> across] += (
                factors[3] * (luma_scale * blue - grey) + chroma_zero
            ) * share
            v_plane[y >> down, x >> across] += (
                factors[4] * (luma_scale * red - grey) + chroma_zero
            ) * share


@njit(cache=True, nogil=True, error_model="numpy")
def to_whole(plane, peak, out):
    """Nearest whole numbers from 0 to ``peak``; from the middle, up and down in turn."""
    rows, cols = plane.shape
    for y in range(rows):
        for x in range(cols):
            # Arithmetic in float32 leaves no exact halves: what is near one counts as one.
            tip = np.float32(1 / 64) if (x + y) & 1 else np.float32(-1 / 64)
            value = np.floor(plane[y, x] + np.float32(0.5) + tip)
            out[y, x] = min(max(value, np.float32(0)), peak)
