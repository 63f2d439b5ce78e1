"""The separable convolution on a CPU: register-blocked loops over packed tiles.

An output pixel costs C * K * K multiplications (7,803 for three channels and 51 taps) on only
2 * K + C * K values that few neighbours share, so speed depends on keeping the arithmetic units
fed:

- The sums over i and over j are taken one after the other, and the inner one for a block of
  `ROWS` output rows, `STEPS` neighbouring taps and three channels at once, all held in registers
  (`sum_over_taps`): a vector of the frame read once serves all rows of the block, a vector
  of the kernel all taps and channels. The other sum costs 1 / K of it.
- Everything is read from scratch that fits the first two caches: the patch of the frame under a
  tile, padded with zeros, and the kernels of one block, contiguous in the order of reading.
  Packing takes any strides, and channels-last kernels are transposed in registers on the way.
- Only packing and unpacking touch the tensors, and both compare with their bounds.

Each of `forward`, `kernel_gradients` and `frame_gradient` takes arrays of any strides and draws
tiles from `counter` until none is left, so that any number of threads may run it on the same
arrays. Every tile is computed in the same way whoever draws it.

numba's cache of this module looks at this file alone: after a change in `pipeline/simd`,
delete `__pycache__`.
"""

import numpy as np
from numba import njit

from pipeline.simd.llvm import MANY_REGISTERS, VECTOR_BYTES
from pipeline.simd.memory import (
    add_products,
    add_vector,
    copy_vector,
    fetch_add,
    number,
    sum_over_taps,
    transpose_block,
)

ROWS = 4 if MANY_REGISTERS else 2  # with STEPS and 3 channels: 24 or 12 registers of sums
STEPS = 2
FRAME_STEPS = 4  # of the frame's gradient, where one row is summed at a time
TILE_ROWS = 16
TILE_COLUMNS = 64
STRIP_COLUMNS = 32

_down_3 = sum_over_taps(ROWS, STEPS, 3, skewed=True)
_down_1 = sum_over_taps(ROWS, STEPS, 1, skewed=True)
_along_3 = sum_over_taps(ROWS, STEPS, 3, skewed=False)
_along_1 = sum_over_taps(ROWS, STEPS, 1, skewed=False)
_scatter_3 = sum_over_taps(1, FRAME_STEPS, 3, skewed=False)
_scatter_1 = sum_over_taps(1, FRAME_STEPS, 1, skewed=False)


@njit
def _scratch(size, like):
    """Zeros that begin at a vector boundary, with one vector to spare."""
    lanes = VECTOR_BYTES // like.itemsize
    store = np.zeros(size + 2 * lanes, like.dtype)
    start = (-store.ctypes.data // like.itemsize) % lanes
    return store[start : start + size + lanes]


@njit
def _line(columns, like):
    """Elements between two lines: an odd number of cache lines, so that they share no set."""
    line = 64 // like.itemsize
    return ((columns + line - 1) // line | 1) * line


@njit
def _pack(source, b, y, x, count, target, at, line):
    """target[at + n * line + k] = source[b, n, y, x + k] for k < count; zero outside."""
    depth, height, width = source.shape[1:]
    lanes = VECTOR_BYTES // target.itemsize
    first = max(0, -x)
    last = max(first, min(count, width - x)) if y < height else first
    if last - first < count:
        for n in range(depth):
            for k in range(count):
                if k < first or k >= last:
                    target[at + n * line + k] = 0
    pitch = source.strides[3] // source.itemsize
    layer = source.strides[1] // source.itemsize
    start = (b * source.strides[0] + y * source.strides[2]) // source.itemsize + x * pitch
    done = first
    if pitch == 1:
        done += (last - first) // lanes * lanes
        for n in range(depth):
            for k in range(first, done, lanes):
                copy_vector(target, at + n * line + k, source, start + n * layer + k)
    elif layer == 1 and depth >= lanes:
        done += (last - first) // lanes * lanes
        for k in range(first, done, lanes):
            for block in range(0, depth, lanes):
                n = min(block, depth - lanes)
                transpose_block(
                    target, at + n * line + k, line, source, start + k * pitch + n, pitch
                )
    for n in range(depth):
        for k in range(done, last):
            target[at + n * line + k] = number(source[b, n, y, x + k])


@njit
def _unpack(source, at, line, target, b, y, x, count):
    """target[b, n, y, x + k] = source[at + n * line + k] for k < count, where there is such."""
    depth, height, width = target.shape[1:]
    if y >= height:
        return
    lanes = VECTOR_BYTES // target.itemsize
    count = min(count, width - x)
    pitch = target.strides[3] // target.itemsize
    layer = target.strides[1] // target.itemsize
    start = (b * target.strides[0] + y * target.strides[2]) // target.itemsize + x * pitch
    done = 0
    if pitch == 1:
        done = count // lanes * lanes
        for n in range(depth):
            for k in range(0, done, lanes):
                copy_vector(target, start + n * layer + k, source, at + n * line + k)
    elif layer == 1 and depth >= lanes:
        done = count // lanes * lanes
        for k in range(0, done, lanes):
            for block in range(0, depth, lanes):
                n = min(block, depth - lanes)
                transpose_block(
                    target, start + k * pitch + n, pitch, source, at + n * line + k, line
                )
    for n in range(depth):
        for k in range(done, count):
            target[b, n, y, x + k] = source[at + n * line + k]


@njit
def _pack_rows(source, b, y, x, target):
    """One vector of each of `ROWS` rows: target[n, row, lane] = source[b, n, y + row, x + lane]."""
    lanes = VECTOR_BYTES // target.itemsize
    for row in range(ROWS):
        _pack(source, b, y + row, x, lanes, target, row * lanes, ROWS * lanes)


@njit
def _unpack_rows(source, target, b, y, x):
    """The way back of `_pack_rows`."""
    lanes = VECTOR_BYTES // target.itemsize
    for row in range(ROWS):
        _unpack(source, row * lanes, ROWS * lanes, target, b, y + row, x, lanes)


@njit
def _tiles(height, width):
    """Rows and columns of tiles."""
    return -(-height // TILE_ROWS), -(-width // TILE_COLUMNS)


@njit
def _next_tile(counter, batch, down, across):
    """Image, top and left of the tile that is drawn next; image -1 when none is left."""
    task = fetch_add(counter)
    if task >= batch * down * across:
        return -1, 0, 0
    top, left = task // across % down, task % across
    return task // (down * across), top * TILE_ROWS, left * TILE_COLUMNS


@njit
def _pack_patch(frame, b, top, left, taps, patch, line, plane):
    """What lies under the windows of a tile's pixels."""
    for r in range(TILE_ROWS + taps - 1):
        _pack(frame, b, top + r, left, TILE_COLUMNS + taps - 1, patch, r * line, plane)


def forward(frame, vertical, horizontal, output, counter):
    """Write the output; arrays [B, C, H + K - 1, W + K - 1], [B, K, H, W] twice, [B, C, H, W].

    Kernels of int16 hold the bits of bfloat16.
    """
    batch, channels, height, width = output.shape
    taps = vertical.shape[1]
    lanes = VECTOR_BYTES // frame.itemsize
    block = ROWS * lanes
    line = _line(TILE_COLUMNS + taps + STEPS, frame)
    plane = (TILE_ROWS + taps - 1) * line
    patch = _scratch(channels * plane, frame)
    v = _scratch(taps * block, frame)
    h = _scratch(taps * block, frame)
    sums = _scratch(STEPS * 3 * block, frame)
    pixels = _scratch(channels * block, frame)
    down, across = _tiles(height, width)
    while True:
        b, top, left = _next_tile(counter, batch, down, across)
        if b < 0:
            return
        _pack_patch(frame, b, top, left, taps, patch, line, plane)
        for y in range(top, min(top + TILE_ROWS, height), ROWS):
            for x in range(left, min(left + TILE_COLUMNS, width), lanes):
                _pack_rows(vertical, b, y, x, v)
                _pack_rows(horizontal, b, y, x, h)
                pixels[:] = 0
                c = 0
                while c < channels:
                    planes = 3 if c + 3 <= channels else 1
                    corner = c * plane + (y - top) * line + x - left
                    for j in range(0, taps, STEPS):
                        if planes == 3:
                            _down_3(sums, v, 0, block, patch, corner + j, line, 1, plane, taps)
                        else:
                            _down_1(sums, v, 0, block, patch, corner + j, line, 1, plane, taps)
                        steps = min(STEPS, taps - j)
                        for row in range(ROWS):
                            for p in range(planes):
                                add_products(
                                    pixels, (c + p) * block + row * lanes,
                                    h, j * block + row * lanes, block,
                                    sums, (row * STEPS * planes + p) * lanes, planes * lanes, steps,
                                )  # fmt: skip
                    c += planes
                _unpack_rows(pixels, output, b, y, x)


def kernel_gradients(
    gradient, frame, vertical, horizontal, of_vertical, of_horizontal, wants, counter
):
    """Write the gradients of the vertical and of the horizontal kernels, each if wanted."""
    batch, channels, height, width = gradient.shape
    taps = vertical.shape[1]
    lanes = VECTOR_BYTES // frame.itemsize
    block = ROWS * lanes
    line = _line(TILE_COLUMNS + taps + STEPS, frame)
    plane = (TILE_ROWS + taps + STEPS) * line
    patch = _scratch(channels * plane, frame)
    v = _scratch(taps * block, frame)
    h = _scratch(taps * block, frame)
    g = _scratch(channels * block, frame)
    sums = _scratch(STEPS * 3 * block, frame)
    result = _scratch(taps * block, frame)
    down, across = _tiles(height, width)
    while True:
        b, top, left = _next_tile(counter, batch, down, across)
        if b < 0:
            return
        _pack_patch(frame, b, top, left, taps, patch, line, plane)
        for y in range(top, min(top + TILE_ROWS, height), ROWS):
            for x in range(left, min(left + TILE_COLUMNS, width), lanes):
                _pack_rows(gradient, b, y, x, g)
                if wants[0]:
                    _pack_rows(horizontal, b, y, x, h)
                    result[:] = 0
                    c = 0
                    while c < channels:
                        planes = 3 if c + 3 <= channels else 1
                        corner = c * plane + (y - top) * line + x - left
                        for r in range(0, taps + ROWS - 1, STEPS):
                            at = corner + r * line
                            if planes == 3:
                                _along_3(sums, h, 0, block, patch, at, 1, line, plane, taps)
                            else:
                                _along_1(sums, h, 0, block, patch, at, 1, line, plane, taps)
                            for row in range(ROWS):
                                for s in range(STEPS):
                                    i = r + s - row
                                    if 0 <= i < taps:
                                        add_products(
                                            result, i * block + row * lanes,
                                            g, c * block + row * lanes, block,
                                            sums, (row * STEPS + s) * planes * lanes, lanes, planes,
                                        )  # fmt: skip
                        c += planes
                    _unpack_rows(result, of_vertical, b, y, x)
                if wants[1]:
                    _pack_rows(vertical, b, y, x, v)
                    result[:] = 0
                    c = 0
                    while c < channels:
                        planes = 3 if c + 3 <= channels else 1
                        corner = c * plane + (y - top) * line + x - left
                        for j in range(0, taps, STEPS):
                            at = corner + j
                            if planes == 3:
                                _down_3(sums, v, 0, block, patch, at, line, 1, plane, taps)
                            else:
                                _down_1(sums, v, 0, block, patch, at, line, 1, plane, taps)
                            for row in range(ROWS):
                                for s in range(min(STEPS, taps - j)):
                                    add_products(
                                        result, (j + s) * block + row * lanes,
                                        g, c * block + row * lanes, block,
                                        sums, (row * STEPS + s) * planes * lanes, lanes, planes,
                                    )  # fmt: skip
                        c += planes
                    _unpack_rows(result, of_horizontal, b, y, x)


def frame_gradient(gradient, vertical, horizontal, of_frame, counter):
    """Write the gradient of the frame, in strips of columns from top to bottom.

    Row y of the output reaches rows y to y + taps - 1 of the frame: these lie in a ring, and row
    y leaves it when row y of the output is done.
    """
    batch, channels, height, width = gradient.shape
    taps = vertical.shape[1]
    lanes = VECTOR_BYTES // gradient.itemsize
    columns = STRIP_COLUMNS + taps - 1
    line = _line(columns, gradient)
    lines = taps + FRAME_STEPS - 1
    plane = lines * line
    v = _scratch(taps * line, gradient)
    h = _scratch(taps * line, gradient)
    g = _scratch(channels * line, gradient)
    products = _scratch(channels * plane, gradient)
    sums = _scratch(FRAME_STEPS * 3 * lanes, gradient)
    ring = _scratch(taps * channels * STRIP_COLUMNS, gradient)
    across = -(-(width + taps - 1) // STRIP_COLUMNS)
    while True:
        task = fetch_add(counter)
        if task >= batch * across:
            return
        b, left = task // across, task % across * STRIP_COLUMNS
        start = left - taps + 1
        ring[:] = 0
        for y in range(height + taps - 1):
            if y < height:
                _pack(gradient, b, y, start, columns, g, 0, line)
                _pack(vertical, b, y, start, columns, v, 0, line)
                _pack(horizontal, b, y, start, columns, h, 0, line)
                for c in range(channels):
                    for i in range(taps):
                        row = products[c * plane + i * line : c * plane + (i + 1) * line]
                        g_row = g[c * line : (c + 1) * line]
                        v_row = v[i * line : (i + 1) * line]
                        for k in range(columns):
                            row[k] = g_row[k] * v_row[k]
                c = 0
                while c < channels:
                    planes = 3 if c + 3 <= channels else 1
                    for x in range(taps - 1, columns, lanes):
                        for i in range(0, taps, FRAME_STEPS):
                            at = c * plane + i * line + x
                            if planes == 3:
                                _scatter_3(
                                    sums, h, x, line - 1, products, at, -1, line, plane, taps
                                )
                            else:
                                _scatter_1(
                                    sums, h, x, line - 1, products, at, -1, line, plane, taps
                                )
                            for s in range(min(FRAME_STEPS, taps - i)):
                                slot = (y + i + s) % taps * channels + c
                                for p in range(planes):
                                    place = (slot + p) * STRIP_COLUMNS + x - taps + 1
                                    add_vector(ring, place, sums, (s * planes + p) * lanes)
                    c += planes
            slot = y % taps * channels * STRIP_COLUMNS
            _unpack(ring, slot, STRIP_COLUMNS, of_frame, b, y, left, STRIP_COLUMNS)
            ring[slot : slot + channels * STRIP_COLUMNS] = 0
