"""Passes over whole columns: the order of a column, and how its values are spread.

Pure. NumPy alone: nothing is compiled, so the first answer after an installation comes as fast as
all others.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def order(values: NDArray[Any], descending: bool = False) -> NDArray[np.uint32]:
    """The places of values in order, equal ones as they stand, uint32 ``[n]``.

    Parameters
    ----------
    values : whole numbers or floats ``[n]``. Unknown ones (NaN) come last, in both directions.
    descending : the largest first.
    """
    # NumPy sorts numbers alone several times as fast as it finds their places. So the places take
    # the lower bits of the numbers; where those told two values apart, a second sort does.
    keys = _keys(values, descending)
    place_bits = np.uint64(max(len(keys) - 1, 1).bit_length())
    packed = (keys >> place_bits << place_bits) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    places = (packed & ((np.uint64(1) << place_bits) - np.uint64(1))).astype(np.uint32)
    ordered = keys[places]
    if (ordered[1:] < ordered[:-1]).any():
        places = places[np.argsort(ordered, kind="stable")]
    return places


def _keys(values: NDArray[Any], descending: bool) -> NDArray[np.uint64]:
    """Whole numbers in the order of the values, which begin at the highest bit."""
    top = np.uint64(1 << 63)
    if np.issubdtype(values.dtype, np.floating):
        # With 0 added, both zeros are the same. Negative numbers have all bits turned over, others
        # their sign: then they count upwards.
        bits = (values.astype(np.float64) + 0.0).view(np.uint64)
        keys = np.where(bits & top, ~bits, bits | top)
    else:
        keys = values.astype(np.int64).view(np.uint64) ^ top
    unknown = values != values
    known = keys if not unknown.any() else keys[~unknown]
    if not len(known):
        return np.zeros(len(keys), np.uint64)
    low, high = known.min(), known.max()
    keys = high - keys if descending else keys - low
    last = int(high - low) + int(unknown.any())
    keys[unknown] = last
    return keys << np.uint64(64 - max(last, 1).bit_length())


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
