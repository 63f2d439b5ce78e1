"""Passes over whole columns: the order of a column, and how its values are spread.

Pure. NumPy alone: nothing is compiled, so the first answer after an installation comes as fast as
all others.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_PLACE_BITS = np.uint64(32)


def order(values: NDArray[Any], descending: bool = False) -> NDArray[np.uint32]:
    """The places of values in order, equal ones as they stand, uint32 ``[n]``.

    Parameters
    ----------
    values : whole numbers or floats ``[n]``. Unknown ones (NaN) come last, in both directions.
    descending : the largest first.
    """
    # Sorts that keep equal values as they stand are slow; this one does not, and its ranks,
    # with the places in their lower bits, are numbers that differ.
    places = np.argsort(values)
    ordered = values[places]
    unknown = ordered != ordered
    new = np.zeros(len(values), bool)
    new[1:] = (ordered[1:] != ordered[:-1]) & ~unknown[:-1]
    if np.count_nonzero(new) == len(values) - 1 and not unknown.any():
        return (places[::-1] if descending else places).astype(np.uint32)
    ranks = np.cumsum(new, dtype=np.uint64)
    if descending and len(values):
        ranks = np.where(unknown, np.uint64(len(values)), ranks[-1] - ranks)
    keys = (ranks << _PLACE_BITS) | places.astype(np.uint64)
    keys.sort()
    return keys.astype(np.uint32)


def spread(values: NDArray[Any], bins: int) -> tuple[NDArray[np.int64], float, float]:
    """How many values lie in each of equal ``bins``, and the least and the largest one.

    Values that are not finite do not count. Without any the bins reach from 0 to 1; if all are
    equal, half a unit to either side.
    """
    known = values[np.isfinite(values)].astype(np.float64)
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    places = ((known - low) * (bins / (high - low))).astype(np.int64)
    return np.bincount(np.minimum(places, bins - 1), minlength=bins), low, high
