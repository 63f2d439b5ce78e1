"""The search of SimpleFlow: for each pixel, the shift at which the images match best around it.

For a pixel p of the first image and a shift s, the cost is the weighted sum over a square window

    cost(p, s) = sum_t  w(p, t) * |first(p + t) - second(p + t + s)|^2
    w(p, t) = exp(-|t|^2 / 2 sigma_distance^2)
              * exp(-|first(p) - first(p + t)|^2 / 2 sigma_colour^2)

with squared distances of RGB colours in grey levels (Tao et al. 2012, section 3.1). The shifts
tried are those up to `max_flow` around the start that the coarser level proposes, as far as they
lead to a pixel of the second image; of equal costs the first wins, rows before columns.

How it is computed
------------------
*Shared differences.* For one shift, the squared differences of all pixels of a tile are computed
once and serve all windows that hold them. A tile makes those of a row of shifts (in chunks of
`_CHUNK`) that any of its pixels wants; its registers then take the shifts that they want, three at
a time, so that a weight is read once for three of them.

*Registers.* A register holds eight pixels of a column; two columns are done together and share the
differences they read. Such a pair tries the union of the shifts of its sixteen pixels, row by row
of shifts. Neighbours have similar starts, so the eight pixels follow one another, except where most
of those searched are the corners of 4 x 4 squares, whose rows are 0 and 3 modulo 4: there they lie
four rows apart, and the registers skip the rows between. Images are kept as [colour,
column, phase, row // phases], where phase = row % phases, with 1 or 4 phases (`comb`), so that the
eight lie side by side in memory. For the corners' sake pairs then begin at odd columns, otherwise
at even ones: starts are doubled from the coarser level and come in squares of 2 x 2. A tile is
eight rows a phase high and as wide as holds `_TILE_PAIRS` pairs: it stays in the cache.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.flow.bilateral_filter import spatial_weights
from pipeline.flow.window_costs import (
    TILE_COLUMNS,
    Comb,
    accumulate,
    aligned,
    colour_weights,
    fill_differences,
    fill_weights,
    halo,
)
from pipeline.simd.registers import broadcast8, load8, select_between, select_less, store

_TILE_PAIRS = {1: 8, 4: 16}
_CHUNK = 12
_FLT_MAX = np.float32(np.finfo(np.float32).max)


@njit(forceinline=True)
def _pair_range(
    flow, mask, rows, cols, top, x, phase, phases, max_flow, ranges, bounds, distinct, pair
):
    """The shifts that two columns of eight pixels try.

    Written are, for this pair, ranges: for each register first, last row and first, last column,
    eight lanes each; bounds: the union, then the intersection, over the pixels wanted: first, last
    row, first, last column; distinct: [16, 4], the different ones among their ranges. Returns how
    many these are: 0 where no pixel is wanted.
    """
    count = 0
    for side in range(2):
        column = x + side
        for lane in range(8):
            y = top + phase + phases * lane
            at = pair * 64 + side * 32 + lane
            if y >= rows or column < 0 or column >= cols or mask[y, column] == 0:
                ranges[at] = ranges[at + 16] = np.float32(1.0)
                ranges[at + 8] = ranges[at + 24] = np.float32(0.0)
                continue
            row = min(max(y + np.int64(np.rint(flow[1, y, column])), 0), rows - 1)
            col = min(max(column + np.int64(np.rint(flow[0, y, column])), 0), cols - 1)
            first_row = max(row - max_flow, 0) - y
            last_row = min(row + max_flow, rows - 1) - y
            first_col = max(col - max_flow, 0) - column
            last_col = min(col + max_flow, cols - 1) - column
            ranges[at] = first_row
            ranges[at + 8] = last_row
            ranges[at + 16] = first_col
            ranges[at + 24] = last_col
            known = False
            for k in range(count - 1, -1, -1):
                known |= (
                    distinct[pair, k, 0] == first_row
                    and distinct[pair, k, 1] == last_row
                    and distinct[pair, k, 2] == first_col
                    and distinct[pair, k, 3] == last_col
                )
                if known:
                    break
            if known:
                continue
            if count == 0:
                bounds[pair, 0] = bounds[pair, 4] = first_row
                bounds[pair, 1] = bounds[pair, 5] = last_row
                bounds[pair, 2] = bounds[pair, 6] = first_col
                bounds[pair, 3] = bounds[pair, 7] = last_col
            else:
                bounds[pair, 0] = min(bounds[pair, 0], first_row)
                bounds[pair, 1] = max(bounds[pair, 1], last_row)
                bounds[pair, 2] = min(bounds[pair, 2], first_col)
                bounds[pair, 3] = max(bounds[pair, 3], last_col)
                bounds[pair, 4] = max(bounds[pair, 4], first_row)
                bounds[pair, 5] = min(bounds[pair, 5], last_row)
                bounds[pair, 6] = max(bounds[pair, 6], first_col)
                bounds[pair, 7] = min(bounds[pair, 7], last_col)
            distinct[pair, count, 0] = first_row
            distinct[pair, count, 1] = last_row
            distinct[pair, count, 2] = first_col
            distinct[pair, count, 3] = last_col
            count += 1
    return count


@njit(forceinline=True)
def _allowed(cost, ranges, at, row, column):
    """The cost where a pixel may be shifted by so much, one that never wins elsewhere."""
    never = broadcast8(_FLT_MAX)
    cost = select_between(load8(ranges, at), row, load8(ranges, at + 8), cost, never)
    return select_between(load8(ranges, at + 16), column, load8(ranges, at + 24), cost, never)


@njit(forceinline=True)
def _wanted_columns(distinct, pair, count, row, base):
    """Which columns any of some ranges has in this row: bit n stands for column `base` + n."""
    wanted = np.uint64(0)
    for k in range(count):
        if distinct[pair, k, 0] <= row <= distinct[pair, k, 1]:
            columns = np.uint64(distinct[pair, k, 3] - distinct[pair, k, 2] + 1)
            bits = (np.uint64(1) << columns) - np.uint64(1)
            wanted |= bits << np.uint64(distinct[pair, k, 2] - base)
    return wanted


@njit(forceinline=True)
def _try_shifts(
    weights, weights_at, differences, column, stride, span, phase_offsets, phase, size, best,
    best_at, ranges, ranges_at, code, row, low, high, wanted, row_inside, inside_low, inside_high,
):  # fmt: skip
    """Let a pair of registers try the shifts of one row, from column `low` to `high`.

    wanted: whether any pixel tries column `low` + n, by bits; skipped where not.
    """
    least_a = load8(best, best_at)
    code_a = load8(best, best_at + 8)
    least_b = load8(best, best_at + 16)
    code_b = load8(best, best_at + 24)
    row_vector = broadcast8(np.float32(row))
    col = low
    while col <= high:
        if not wanted & np.uint64(1):
            col += 1
            wanted >>= np.uint64(1)
            continue
        # The last three may have been tried in part: an equal cost changes nothing.
        col = min(col, max(low, high - 2))
        at = column + col * span
        if size == 5:
            a0, a1, a2, b0, b1, b2 = accumulate(
                weights, weights_at, differences, at, stride, phase_offsets, phase, 5, span
            )
        else:
            a0, a1, a2, b0, b1, b2 = accumulate(
                weights, weights_at, differences, at, stride, phase_offsets, phase, size, span
            )
        if not (row_inside and inside_low <= col and col + 2 <= inside_high):
            col0 = broadcast8(np.float32(col))
            col1 = broadcast8(np.float32(col + 1))
            col2 = broadcast8(np.float32(col + 2))
            a0 = _allowed(a0, ranges, ranges_at, row_vector, col0)
            a1 = _allowed(a1, ranges, ranges_at, row_vector, col1)
            a2 = _allowed(a2, ranges, ranges_at, row_vector, col2)
            b0 = _allowed(b0, ranges, ranges_at + 32, row_vector, col0)
            b1 = _allowed(b1, ranges, ranges_at + 32, row_vector, col1)
            b2 = _allowed(b2, ranges, ranges_at + 32, row_vector, col2)
        code0 = broadcast8(np.float32(code + col))
        code1 = broadcast8(np.float32(code + col + 1))
        code2 = broadcast8(np.float32(code + col + 2))
        code_a = select_less(a0, least_a, code0, code_a)
        least_a = select_less(a0, least_a, a0, least_a)
        code_a = select_less(a1, least_a, code1, code_a)
        least_a = select_less(a1, least_a, a1, least_a)
        code_a = select_less(a2, least_a, code2, code_a)
        least_a = select_less(a2, least_a, a2, least_a)
        code_b = select_less(b0, least_b, code0, code_b)
        least_b = select_less(b0, least_b, b0, least_b)
        code_b = select_less(b1, least_b, code1, code_b)
        least_b = select_less(b1, least_b, b1, least_b)
        code_b = select_less(b2, least_b, code2, code_b)
        least_b = select_less(b2, least_b, b2, least_b)
        col += 3
        wanted >>= np.uint64(3)
    store(best, best_at, least_a)
    store(best, best_at + 8, code_a)
    store(best, best_at + 16, least_b)
    store(best, best_at + 24, code_b)


@njit(cache=True, nogil=True, error_model="numpy")
def _search(
    a, b, width, height, left, top, bits, radius, max_flow, mask, spatial, colour, flow,
    weights, squares, differences, halo, tile_pairs,
):  # fmt: skip
    rows, cols = mask.shape
    phases = 1 << bits
    size = 2 * radius + 1
    taps = size * size
    length = 8 + 2 * halo
    stride = phases * length

    phase_offsets = np.empty(phases * size, np.int64)
    for phase in range(phases):
        for r in range(size):
            row = phase + r - radius
            phase_offsets[phase * size + r] = (row & (phases - 1)) * length + halo + (row >> bits)

    pairs = tile_pairs + phases
    pair_column = np.empty(pairs, np.int64)
    pair_phase = np.empty(pairs, np.int64)
    bounds = np.empty((pairs, 8), np.int64)
    ranges = np.empty(pairs * 64, np.float32)
    best = np.empty(pairs * 32, np.float32)
    choice = np.empty(pairs, np.int64)
    wanted = np.empty(pairs, np.uint64)
    distinct = np.empty((pairs, 16, 4), np.int64)
    starts = np.empty(pairs, np.int64)

    for tile_top in range(0, rows, 8 * phases):
        j = tile_top // phases + top
        # Both columns of a pair have one start; where corners rule, both are searched.
        x = 0 if phases == 1 else -1
        while x < cols:
            # Take columns until the tile is full.
            n = 0
            tile_left = x
            while x < cols and n < tile_pairs and x - tile_left < TILE_COLUMNS:
                for phase in range(phases):
                    count = _pair_range(
                        flow, mask, rows, cols, tile_top, x, phase, phases, max_flow, ranges,
                        bounds, distinct, n,
                    )  # fmt: skip
                    if count > 0:
                        starts[n] = count
                        if n == 0:
                            tile_left = x
                        pair_column[n] = x
                        pair_phase[n] = phase
                        fill_weights(
                            a, width, height, bits, x + left, phase, j, radius, spatial, colour,
                            squares, weights, n * 16 * taps,
                        )  # fmt: skip
                        for side in range(2):
                            store(best, n * 32 + 16 * side, broadcast8(_FLT_MAX))
                            store(best, n * 32 + 16 * side + 8, broadcast8(np.float32(-1.0)))
                        n += 1
                x += 2
                if n == 0:
                    tile_left = x
            if n == 0:
                continue
            first_row = bounds[:n, 0].min()
            last_row = bounds[:n, 1].max()
            first_col = bounds[:n, 2].min()
            last_col = bounds[:n, 3].max()
            row_bits = 0
            while last_col - first_col >= 1 << row_bits:
                row_bits += 1

            for row in range(first_row, last_row + 1):
                for chunk in range(first_col, last_col + 1, _CHUNK):
                    # Which pairs try which of these columns, and so which differences they need.
                    chosen = 0
                    from_col, to_col = last_col, first_col
                    from_x = to_x = 0
                    for i in range(n):
                        low = max(bounds[i, 2], chunk)
                        high = min(bounds[i, 3], chunk + _CHUNK - 1)
                        if row < bounds[i, 0] or row > bounds[i, 1] or low > high:
                            continue
                        columns = (np.uint64(1) << np.uint64(high - low + 1)) - np.uint64(1)
                        if starts[i] > 1 and bounds[i, 3] - bounds[i, 2] < 63:
                            columns &= _wanted_columns(
                                distinct, i, starts[i], row, bounds[i, 2]
                            ) >> np.uint64(low - bounds[i, 2])
                            if columns == 0:
                                continue
                        if chosen == 0:
                            from_x = pair_column[i]
                        to_x = pair_column[i] + 1
                        from_col = min(from_col, low)
                        to_col = max(to_col, high, low + 2)
                        choice[chosen] = i
                        wanted[chosen] = columns
                        chosen += 1
                    if chosen == 0:
                        continue
                    count = to_x - from_x + 1 + 2 * radius
                    span = count * stride
                    fill_differences(
                        a, b, width, height, bits, from_x - radius + left, count, j, halo, row,
                        from_col, to_col - from_col + 1, differences, span,
                    )  # fmt: skip
                    for k in range(chosen):
                        i = choice[k]
                        _try_shifts(
                            weights, i * 16 * taps, differences,
                            (pair_column[i] - from_x) * stride - from_col * span, stride, span,
                            phase_offsets, pair_phase[i], size, best, i * 32, ranges, i * 64,
                            ((row - first_row) << row_bits) - first_col, row,
                            max(bounds[i, 2], chunk), min(bounds[i, 3], chunk + _CHUNK - 1),
                            wanted[k], bounds[i, 4] <= row <= bounds[i, 5], bounds[i, 6],
                            bounds[i, 7],
                        )  # fmt: skip

            for i in range(n):
                for side in range(2):
                    column = pair_column[i] + side
                    for lane in range(8):
                        y = tile_top + pair_phase[i] + phases * lane
                        if y < rows and 0 <= column < cols and mask[y, column] != 0:
                            code = np.int64(best[i * 32 + side * 16 + 8 + lane])
                            flow[0, y, column] = (code & ((1 << row_bits) - 1)) + first_col
                            flow[1, y, column] = (code >> row_bits) + first_row


def match(
    first: Comb,
    second: Comb,
    flow: NDArray[np.float32],
    mask: NDArray[np.uint8],
    radius: int,
    max_flow: int,
    sigma_distance: float,
    sigma_colour: float,
) -> None:
    """Find the best shift of every pixel wanted.

    Parameters
    ----------
    first, second : Comb
        Images of the same size, laid out with this radius.
    flow : float32 [2, H, W]
        In: (dx, dy) around which to search, rounded to even at one half; out: the shift that costs
        least, where `mask` is not 0.
    mask : uint8 [H, W]
    radius : int
        Half the side of the window, in pixels.
    max_flow : int
        Largest shift from the start, along each axis, in pixels.
    sigma_distance, sigma_colour : float
        Of the window's weights, in pixels and in grey levels.
    """
    size = 2 * radius + 1
    tile_pairs = _TILE_PAIRS[first.phases]
    margin = halo(radius, first.phases)
    span = (TILE_COLUMNS + 2 * radius) * first.phases * (8 + 2 * margin)
    _search(
        first.planes,
        second.planes,
        first.width,
        first.height,
        first.left,
        first.top,
        first.phases.bit_length() - 1,
        radius,
        max_flow,
        mask,
        spatial_weights(radius, sigma_distance).astype(np.float64).reshape(-1),
        colour_weights(sigma_colour),
        flow,
        aligned((tile_pairs + first.phases) * 16 * size * size),
        np.empty(16 * size * size, np.int32),
        aligned((_CHUNK + 3) * span),
        margin,
        tile_pairs,
    )
