"""Means with intervals: how far a mean over images can be trusted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
CHUNK = 1 << 22  # indices drawn at once, so that memory does not grow with the number of images


@dataclass(frozen=True)
class Estimate:
    """A mean over images.

    Attributes
    ----------
    mean, low, high : the mean and its 95 % bootstrap interval; NaN where no image counts.
    count : images that count.
    left_out : images whose value is not finite (the PSNR of equal images) and does not count.
    """

    mean: float
    low: float
    high: float
    count: int
    left_out: int = 0


def mean_interval(values: NDArray[np.floating], resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean of a value an image, with its percentile bootstrap interval (Efron 1979).

    Values that are not finite are left out and counted: the PSNR of two equal images is infinite
    and would make every mean so. Images are drawn independently, so where many come from one
    sequence the interval is narrower than for as many unrelated images.

    Parameters
    ----------
    values : ``[n]``, one an image.
    resamples : bootstrap samples.
    seed : the same seed gives the same interval.
    """
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    left_out = values.size - finite.size
    if not finite.size:
        return Estimate(np.nan, np.nan, np.nan, 0, left_out)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, CHUNK // finite.size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(finite.size, size=(rows, finite.size))
        means[start : start + rows] = finite[drawn].mean(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(float(finite.mean()), float(low), float(high), finite.size, left_out)


def paired_interval(
    values: NDArray[np.floating],
    baseline: NDArray[np.floating],
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean of ``values - baseline``, image by image, with its interval.

    Pairing removes what the images themselves differ by, so two models can be told apart by far
    less than the width of their own intervals. An image counts if both values are finite.
    """
    values, baseline = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    both = np.isfinite(values) & np.isfinite(baseline)
    difference = np.full(values.shape, np.nan)
    difference[both] = values[both] - baseline[both]
    return mean_interval(difference, resamples, seed)
