"""Means with intervals: how far a mean over triplets can be trusted.

Triplets of one sequence are alike, so a sequence is what is drawn at random: the intervals come
from resampling sequences, and triplets within them (two-stage cluster bootstrap, Davison and
Hinkley 1997, section 3.8).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

CONFIDENCE = 0.95
FEWEST_SEQUENCES = 5  # fewer say nothing of how far videos differ
CHUNK = 1 << 20  # values drawn at once, so that memory does not grow with the number of triplets
MOST_DEGREES = 1000  # of freedom; beyond, Student's t is the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A mean over triplets.

    Attributes
    ----------
    mean, low, high : the mean and its 95 % bootstrap interval; NaN where no triplet counts.
    count : triplets that count.
    left_out : triplets whose value is not finite (the PSNR of equal images) and does not count.
    sequences : sequences that hold the triplets that count.
    p : of a difference, the probability of one as large if there were none; NaN where there are
        too few sequences to tell. Tables correct it for the number of their comparisons.
    """

    mean: float
    low: float
    high: float
    count: int
    left_out: int = 0
    sequences: int = 0
    p: float = math.nan

    @property
    def over_videos(self) -> bool:
        """Whether the interval is one over videos; otherwise over the triplets of these few."""
        return self.sequences >= FEWEST_SEQUENCES


def mean_interval(
    values: NDArray[np.floating],
    sequences: npt.ArrayLike,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean of a value a triplet, with its percentile bootstrap interval.

    Values that are not finite are excluded and counted: the PSNR of two equal images is infinite
    and would make every mean so. With fewer than `FEWEST_SEQUENCES` sequences the interval is one
    over triplets as if each were drawn by itself (Efron 1979), which is narrower than the truth
    for other videos; `Estimate.over_videos` tells.

    Parameters
    ----------
    values : ``[n]``, one a triplet.
    sequences : ``[n]``, the name of the sequence that holds each triplet.
    resamples : bootstrap samples.
    seed : the same seed gives the same interval.
    """
    return _estimate(values, sequences, resamples, seed)[0]


def paired_interval(
    values: NDArray[np.floating],
    baseline: NDArray[np.floating],
    sequences: npt.ArrayLike,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean of ``values - baseline``, triplet by triplet, with its interval and its ``p``.

    Pairing removes what the images themselves differ by, so two models can be told apart by far
    less than the width of their own intervals. A triplet counts if both values are finite.
    ``p`` compares the mean with the spread of the bootstrap's means, by Student's t with one
    degree of freedom fewer than there are sequences.
    """
    values, baseline = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    both = np.isfinite(values) & np.isfinite(baseline)
    difference = np.full(values.shape, np.nan)
    difference[both] = values[both] - baseline[both]
    estimate, spread = _estimate(difference, sequences, resamples, seed)
    if not estimate.over_videos:
        return estimate
    if estimate.mean == 0:
        p = 1.0
    elif spread == 0:
        p = 0.0
    else:
        p = student_tails(abs(estimate.mean) / spread, estimate.sequences - 1)
    return Estimate(
        estimate.mean,
        estimate.low,
        estimate.high,
        estimate.count,
        estimate.left_out,
        estimate.sequences,
        p,
    )


def _estimate(
    values: NDArray[np.floating], sequences: npt.ArrayLike, resamples: int, seed: int
) -> tuple[Estimate, float]:
    """The estimate, and the standard deviation of the bootstrap's means."""
    values, names = np.asarray(values, np.float64), np.asarray(sequences)
    if values.shape != names.shape:
        raise ValueError(f"{values.shape} values have {names.shape} names of sequences")
    counts = np.isfinite(values)
    finite = values[counts]
    left_out = values.size - finite.size
    if not finite.size:
        return Estimate(np.nan, np.nan, np.nan, 0, left_out), math.nan
    groups = np.unique(names[counts], return_inverse=True)[1]
    sequence_count = int(groups.max()) + 1
    if sequence_count < FEWEST_SEQUENCES:
        groups = np.arange(finite.size)
    means = np.concatenate(list(_resampled_means(finite, groups, resamples, seed)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    mean = float(finite.mean())
    estimate = Estimate(mean, float(low), float(high), finite.size, left_out, sequence_count)
    return estimate, float(means.std())


def _resampled_means(
    values: NDArray[np.float64], groups: NDArray[np.intp], resamples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """Means over groups drawn with replacement, and over values drawn so within each."""
    generator = np.random.default_rng(seed)
    values = values[np.argsort(groups, kind="stable")]
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    step = max(1, CHUNK // values.size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(sizes.size, size=(rows, sizes.size))
        drawn_sizes = sizes[drawn]
        within = np.repeat(drawn_sizes.ravel(), drawn_sizes.ravel())
        offsets = np.repeat(starts[drawn].ravel(), drawn_sizes.ravel())
        picked = values[offsets + generator.integers(within)]
        row_sizes = drawn_sizes.sum(axis=1)
        yield np.add.reduceat(picked, np.cumsum(row_sizes) - row_sizes) / row_sizes


def student_tails(t: float, degrees: int) -> float:
    """Probability that Student's t is farther from 0 than ``t``, which is at least 0.

    The finite series for a whole number of degrees of freedom (Abramowitz and Stegun 1964, 26.7.3
    and 26.7.4).
    """
    degrees = min(degrees, MOST_DEGREES)
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + odd, degrees, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(max(1 - inside, 0.0), 1.0)


def holm(ps: Sequence[float]) -> list[float]:
    """Correct probabilities for their number (Holm 1979); NaN stays and is not counted.

    A comparison may be held true at 5 % if its corrected value is at most 0.05; then the chance
    that any one in the family is wrongly held true is at most 5 %.
    """
    order = sorted((p, index) for index, p in enumerate(ps) if not math.isnan(p))
    corrected = list(ps)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[index] = largest
    return corrected
