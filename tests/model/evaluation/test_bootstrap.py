"""Means and their intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from model.evaluation.bootstrap import holm, mean_interval, paired_interval, student_tails


def coverage(each_by_itself: bool, trials: int = 400) -> float:
    """How often the interval holds the true mean: 30 sequences of 5 triplets that are alike."""
    generator = np.random.default_rng(1)
    names = np.repeat(np.arange(30), 5)
    held = 0
    for _ in range(trials):
        values = np.repeat(generator.normal(0, 1, 30), 5) + generator.normal(0, 0.5, 150)
        drawn = np.arange(150) if each_by_itself else names
        estimate = mean_interval(values, drawn, resamples=400)
        held += estimate.low <= 0 <= estimate.high
    return held / trials


@pytest.mark.slow
def test_the_interval_holds_the_true_mean_of_correlated_triplets_95_times_in_100() -> None:
    clustered, former = coverage(False), coverage(True)
    print(f"coverage: sequences {clustered:.1%}, triplets as if independent {former:.1%}")
    assert 0.92 <= clustered <= 0.98
    assert former < 0.75


def test_the_interval_is_that_of_the_normal_distribution_for_many_sequences() -> None:
    values = np.random.default_rng(0).normal(30, 2, 1000)
    estimate = mean_interval(values, np.arange(1000), resamples=4000)
    half = 1.96 * values.std() / math.sqrt(1000)
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.02)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.02)


def test_triplets_of_one_sequence_do_not_narrow_the_interval() -> None:
    means = np.random.default_rng(0).normal(30, 2, 20)
    few = mean_interval(means, np.arange(20))
    many = mean_interval(np.repeat(means, 50), np.repeat(np.arange(20), 50))
    assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.05)


def test_sequences_of_unequal_length_weigh_by_their_triplets() -> None:
    names = np.array(["a"] * 3 + ["b", "c", "d", "e"])
    estimate = mean_interval(np.array([1.0, 1, 1, 5, 5, 5, 5]), names)
    assert estimate.mean == pytest.approx(23 / 7)
    assert (estimate.count, estimate.sequences, estimate.over_videos) == (7, 5, True)
    assert 1 <= estimate.low < estimate.mean < estimate.high <= 5


def test_with_four_sequences_the_interval_is_one_over_triplets() -> None:
    values = np.random.default_rng(0).normal(0, 1, 40)
    few = mean_interval(values, np.repeat(np.arange(4), 10))
    apart = mean_interval(values, np.arange(40))
    assert (few.low, few.high, few.sequences) == (apart.low, apart.high, 4)
    assert not few.over_videos
    assert apart.over_videos


def test_the_same_seed_gives_the_same_interval() -> None:
    values, names = np.random.default_rng(0).normal(size=50), np.repeat(np.arange(10), 5)
    once, again, other = (mean_interval(values, names, seed=seed) for seed in (3, 3, 4))
    assert (once.low, once.high) == (again.low, again.high)
    assert (once.low, once.high) != (other.low, other.high)


def test_one_image_has_an_interval_of_no_width() -> None:
    estimate = mean_interval(np.array([30.0]), ["a"])
    assert (estimate.mean, estimate.low, estimate.high, estimate.count) == (30, 30, 30, 1)


def test_infinite_values_are_excluded_and_counted() -> None:
    estimate = mean_interval(np.array([30.0, np.inf, 32.0]), ["a", "b", "c"])
    assert estimate.mean == 31
    assert (estimate.count, estimate.left_out, estimate.sequences) == (2, 1, 2)


def test_where_no_image_counts_there_is_no_mean() -> None:
    estimate = mean_interval(np.array([np.inf, np.inf]), ["a", "b"])
    assert math.isnan(estimate.mean)
    assert (estimate.count, estimate.left_out) == (0, 2)


def test_pairing_tells_models_apart_whose_own_intervals_overlap() -> None:
    generator = np.random.default_rng(0)
    names = np.repeat(np.arange(20), 5)
    difficulty = generator.normal(30, 4, 100)
    better = difficulty + 0.1 + generator.normal(0, 0.1, 100)
    one, two = mean_interval(difficulty, names), mean_interval(better, names)
    assert two.low < one.high
    difference = paired_interval(better, difficulty, names)
    assert difference.low > 0
    assert difference.p < 1e-4


def test_an_image_without_error_in_either_model_is_no_pair() -> None:
    values, others = np.array([np.inf, 31, 32]), np.array([30, np.inf, 30])
    estimate = paired_interval(values, others, ["a", "b", "c"])
    assert (estimate.mean, estimate.count, estimate.left_out) == (2, 1, 2)
    assert math.isnan(estimate.p)


def test_a_model_does_not_differ_from_itself() -> None:
    values = np.random.default_rng(0).normal(size=10)
    assert paired_interval(values, values, np.arange(10)).p == 1


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 8, 29, 378])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.05, 4.0])
def test_the_tails_of_students_t_are_scipys(t: float, degrees: int) -> None:
    assert student_tails(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), abs=1e-12)


def test_holm_multiplies_by_the_comparisons_that_are_left() -> None:
    assert holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(holm([0.01, math.nan])[1])
    assert holm([0.6, 0.9]) == [1, 1]
