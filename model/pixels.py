"""How a float prediction becomes 8-bit: for files, pictures and scores alike."""

from typing import Literal

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8] | npt.NDArray[np.floating]

PEAK = 255.0
RANGE_TOLERANCE = 1e-4  # of the peak: rounding in float32 arithmetic, far less than one level


def quantise(image: Image, how: Literal["truncate", "round", "half_even"]) -> npt.NDArray[np.uint8]:
    """Turn an RGB image ``[H, W, 3]`` into uint8; uint8 stays as it is.

    The arithmetic is that of float32, as in the published codes, so that exact multiples of 1/255
    keep their level when truncated. Rounding is half up, so that it agrees with a prediction that
    is held in fixed point; ``"half_even"`` rounds halves to the even level, as NumPy and PyTorch
    do.

    Raises
    ------
    ValueError
        for another shape or type, values that are not finite, or values outside 0..1.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an RGB image [H, W, 3] is needed, not {image.shape}")
    if image.dtype == np.uint8:
        return np.asarray(image, dtype=np.uint8)
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"an image is uint8 or float in 0..1, not {image.dtype}")
    low, high = float(image.min()), float(image.max())
    # Written so that a NaN, for which every comparison is false, is refused too.
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise ValueError(f"a float image is in 0..1, but this one is in {low:.6g}..{high:.6g}")
    levels = np.clip(image.astype(np.float32), 0, 1) * np.float32(PEAK)
    if how == "half_even":
        return np.rint(levels).astype(np.uint8)
    if how == "round":
        levels = levels + np.float32(0.5)
    return levels.astype(np.uint8)
