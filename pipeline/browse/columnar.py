"""Passes over whole columns, compiled: the order of a column, and how its values are spread.

Pure. A column of 700,000 numbers takes some milliseconds, so that no answer of the page waits.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Bits of a key that one pass of `_order` sorts by: its counters stay in the nearest cache.
DIGIT = 11
PASSES = -(-64 // DIGIT)


def order(values: NDArray[Any]) -> NDArray[np.uint32]:
    """The places of values in ascending order, equal ones as they stand, uint32 ``[n]``.

    Parameters
    ----------
    values : whole numbers or floats ``[n]``. Unknown ones (NaN) come last.
    """
    if np.issubdtype(values.dtype, np.floating):
        # With 0 added, both zeros are the same.
        keys = _keys_of_floats((values.astype(np.float64) + 0.0).view(np.uint64))
    else:
        keys = values.astype(np.int64).view(np.uint64) ^ np.uint64(1 << 63)
    return np.asarray(_order(keys))


def descending(values: NDArray[Any], places: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The places of values from the largest down, from those of `order`, uint32 ``[n]``.

    Equal ones stay as they stand, and unknown ones (NaN) last.
    """
    return np.asarray(_descending(values, places))


@njit(cache=True, nogil=True)
def _descending(values: NDArray[Any], places: NDArray[np.uint32]) -> NDArray[np.uint32]:
    turned = np.empty_like(places)
    known = len(places)
    while known and values[places[known - 1]] != values[places[known - 1]]:
        known -= 1
        turned[known] = places[known]
    at, end = 0, known
    while end:
        start = end - 1
        while start and values[places[start - 1]] == values[places[end - 1]]:
            start -= 1
        turned[at : at + end - start] = places[start:end]
        at, end = at + end - start, start
    return turned


@njit(cache=True, nogil=True)
def _keys_of_floats(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Whole numbers in the order of the values.

    Negative numbers have all bits turned over, others their sign: then they count upwards.
    """
    top, infinity = np.uint64(1 << 63), np.uint64(0x7FF << 52)
    keys = np.empty_like(bits)
    for i in range(len(bits)):
        if bits[i] & ~top > infinity:
            keys[i] = ~np.uint64(0)
        else:
            keys[i] = ~bits[i] if bits[i] & top else bits[i] | top
    return keys


@njit(cache=True, nogil=True)
def _order(keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Sort by digits, the lowest first, which uses up the keys; one that all share is passed."""
    n, most = len(keys), np.uint64((1 << DIGIT) - 1)
    counts = np.zeros((PASSES, 1 << DIGIT), np.int64)
    for i in range(n):
        for k in range(PASSES):
            counts[k, (keys[i] >> np.uint64(k * DIGIT)) & most] += 1
    now, places = keys, np.arange(n).astype(np.uint32)
    next_now, next_places = np.empty_like(keys), np.empty_like(places)
    for k in range(PASSES):
        shift = np.uint64(k * DIGIT)
        if n and counts[k, (keys[0] >> shift) & most] == n:
            continue
        starts = np.cumsum(counts[k]) - counts[k]
        for i in range(n):
            digit = (now[i] >> shift) & most
            at = starts[digit]
            starts[digit] = at + 1
            next_now[at], next_places[at] = now[i], places[i]
        now, next_now = next_now, now
        places, next_places = next_places, places
    return places


def spread(values: NDArray[Any], bins: int) -> tuple[NDArray[np.int64], float, float]:
    """How many values lie in each of equal ``bins``, and the least and the largest one.

    Values that are not finite do not count. Without any the bins reach from 0 to 1; if all are
    equal, half a unit to either side.
    """
    known = values[np.isfinite(values)].astype(np.float64)
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.asarray(_spread(known, bins, low, high)), low, high


@njit(cache=True, nogil=True)
def _spread(values: NDArray[np.float64], bins: int, low: float, high: float) -> NDArray[np.int64]:
    counts = np.zeros(bins, np.int64)
    scale = bins / (high - low)
    for value in values:
        counts[min(int((value - low) * scale), bins - 1)] += 1
    return counts
