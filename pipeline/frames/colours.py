"""From YUV to RGB: the pictures of most videos, to the bit as FFmpeg converts them.

FFmpeg's conversion that keeps levels (`pipeline.frames.decoding.COLOUR_CONVERSION`) takes longer
than decoding does. For pictures of 8 bits with half the chroma each way and even sides it comes to
little: chroma interpolated linearly from the nearest two samples in either direction, and a sum
of products for each colour, both exact in integers. So the same bytes are computed here in less
than half the time.
"""

import av
import numpy as np
from av.video.reformatter import ColorRange
from numba import njit
from numpy.typing import NDArray

from pipeline.frames.decoding import Frame

# How far V moves red, U blue, U green down and V green down, times 2**16, where chroma spans the
# range of luma; by the number of the matrix in ITU-T H.273, table 4. Without one BT.601 is assumed.
_BT601 = (104597, 132201, 25675, 53279)
MATRICES = {
    1: (117489, 138438, 13975, 34925),
    2: _BT601,
    5: _BT601,
    6: _BT601,
    9: (110013, 140363, 12277, 42626),
}
# The largest sum of products that is white; 22 bits are behind the point.
_WHITE = (1 << 30) - 1


def to_rgb(picture: av.VideoFrame) -> Frame | None:
    """A decoded picture as uint8 RGB ``[H, W, 3]``; ``None`` if it is none that can be had so."""
    height, width = picture.height, picture.width
    full = picture.format.name == "yuvj420p" or picture.color_range == ColorRange.JPEG
    if (
        picture.format.name not in ("yuv420p", "yuvj420p")
        or height % 2
        or width % 2
        or int(picture.colorspace) not in MATRICES
    ):
        return None
    luma, u, v = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        for plane in picture.planes
    )
    frame = np.empty((height, width, 3), np.uint8)
    _convert(luma, u, v, frame.reshape(height, 3 * width), _weights(int(picture.colorspace), full))
    return frame


def _weights(matrix: int, full: bool) -> NDArray[np.int32]:
    """Black, and by how much luma, V for red, U for blue, U and V for green count, times 2**13."""
    if full:
        black, luma = 0, 1 << 16
        chroma = [value * 224 // 255 for value in MATRICES[matrix]]
    else:
        black, luma = 16, (255 << 16) // 219
        chroma = [*MATRICES[matrix]]
    red, blue, *green = chroma
    products = [luma, red, blue, *(-value for value in green)]
    return np.array([black, *((value + 4) >> 3 for value in products)], np.int32)


@njit(cache=True, nogil=True)
def _convert(
    luma: NDArray[np.uint8],
    u: NDArray[np.uint8],
    v: NDArray[np.uint8],
    pixels: NDArray[np.uint8],
    weights: NDArray[np.int32],
) -> None:
    """Planes, whose lines may be longer than a picture is wide, to red, green and blue."""
    black, of_luma, of_red, of_blue, green_of_u, green_of_v = weights
    height, width = len(pixels), pixels.shape[1] // 3
    between = np.empty(width // 2 + 2, np.int16)
    across_u, across_v = np.empty(width, np.int16), np.empty(width, np.int16)
    light = np.empty(width, np.int32)
    red, green, blue = (
        np.empty(width, np.uint8),
        np.empty(width, np.uint8),
        np.empty(width, np.uint8),
    )
    for row in range(height):
        _interpolate(u, row, between, across_u)
        _interpolate(v, row, between, across_v)
        _weigh_luma(luma, row, black, of_luma, light)
        _add_one(light, across_v, of_red, red)
        _add_two(light, across_u, green_of_u, across_v, green_of_v, green)
        _add_one(light, across_u, of_blue, blue)
        _interleave(red, green, blue, pixels, row)


# One loop a function, each over few arrays: so it is compiled to vector instructions.


@njit(cache=True, nogil=True)
def _interpolate(
    plane: NDArray[np.uint8],
    row: int,
    between: NDArray[np.int16],
    across: NDArray[np.int16],
) -> None:
    """Chroma of one line of pixels, less 128, times 16."""
    count = len(across) // 2
    # Chroma is sited between two lines: the nearer one counts three times.
    near = row // 2
    far = min(max(near + 2 * (row % 2) - 1, 0), plane.shape[0] - 1)
    for place in range(count):
        between[place + 1] = np.int16(
            3 * np.int16(plane[near, place]) + np.int16(plane[far, place])
        )
    between[0], between[count + 1] = between[1], between[count]
    for place in range(count):
        middle = np.int16(3 * between[place + 1] - 2048)
        across[2 * place] = np.int16(between[place] + middle)
        across[2 * place + 1] = np.int16(middle + between[place + 2])


@njit(cache=True, nogil=True)
def _weigh_luma(
    luma: NDArray[np.uint8],
    row: int,
    black: np.int32,
    weight: np.int32,
    light: NDArray[np.int32],
) -> None:
    half = np.int32(1 << 21)
    for place in range(len(light)):
        above = np.int32(np.int32(luma[row, place]) - black) * np.int32(512)
        light[place] = np.int32(np.int32(above * weight) + half)


@njit(cache=True, nogil=True)
def _add_one(
    light: NDArray[np.int32],
    chroma: NDArray[np.int16],
    weight: np.int32,
    colour: NDArray[np.uint8],
) -> None:
    for place in range(len(light)):
        moved = np.int32(np.int32(chroma[place]) * np.int32(32)) * weight
        colour[place] = _level(np.int32(light[place] + moved))


@njit(cache=True, nogil=True)
def _add_two(
    light: NDArray[np.int32],
    first: NDArray[np.int16],
    weight_of_first: np.int32,
    second: NDArray[np.int16],
    weight_of_second: np.int32,
    colour: NDArray[np.uint8],
) -> None:
    for place in range(len(light)):
        one = np.int32(np.int32(first[place]) * np.int32(32)) * weight_of_first
        other = np.int32(np.int32(second[place]) * np.int32(32)) * weight_of_second
        colour[place] = _level(np.int32(light[place] + np.int32(one + other)))


@njit(cache=True, nogil=True)
def _interleave(
    red: NDArray[np.uint8],
    green: NDArray[np.uint8],
    blue: NDArray[np.uint8],
    pixels: NDArray[np.uint8],
    row: int,
) -> None:
    for place in range(len(red)):
        pixels[row, 3 * place] = red[place]
        pixels[row, 3 * place + 1] = green[place]
        pixels[row, 3 * place + 2] = blue[place]


@njit(cache=True, nogil=True)
def _level(value: np.int32) -> np.uint8:
    # A sum beyond 32 bits, of colours that no camera makes, wraps to black, as in FFmpeg.
    return np.uint8(min(max(value, np.int32(0)), np.int32(_WHITE)) >> np.int32(22))
