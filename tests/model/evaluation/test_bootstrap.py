"""Means and their intervals."""

import math

import numpy as np
import pytest

from model.evaluation.bootstrap import mean_interval, paired_interval


def test_the_interval_is_that_of_the_normal_distribution_for_many_images() -> None:
    values = np.random.default_rng(0).normal(30, 2, 1000)
    estimate = mean_interval(values, resamples=4000)
    half = 1.96 * values.std() / math.sqrt(1000)
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.02)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.02)


def test_the_interval_holds_the_true_mean_about_95_times_in_100() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        estimate = mean_interval(generator.normal(0, 1, 40), resamples=500)
        held += estimate.low <= 0 <= estimate.high
    assert 0.90 <= held / 300 <= 0.985


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_one_image_has_an_interval_of_no_width() -> None:
    estimate = mean_interval(np.array([30.0]))
    assert (estimate.mean, estimate.low, estimate.high, estimate.count) == (30, 30, 30, 1)


def test_infinite_values_are_left_out_and_counted() -> None:
    estimate = mean_interval(np.array([30.0, np.inf, 32.0]))
    assert estimate.mean == 31
    assert (estimate.count, estimate.left_out) == (2, 1)


def test_where_no_image_counts_there_is_no_mean() -> None:
    estimate = mean_interval(np.array([np.inf, np.inf]))
    assert math.isnan(estimate.mean)
    assert (estimate.count, estimate.left_out) == (0, 2)


def test_pairing_tells_models_apart_whose_own_intervals_overlap() -> None:
    generator = np.random.default_rng(0)
    difficulty = generator.normal(30, 4, 100)
    better = difficulty + 0.1 + generator.normal(0, 0.1, 100)
    one, two = mean_interval(difficulty), mean_interval(better)
    assert two.low < one.high
    assert paired_interval(better, difficulty).low > 0


def test_an_image_without_error_in_either_model_is_no_pair() -> None:
    estimate = paired_interval(np.array([np.inf, 31, 32]), np.array([30, np.inf, 30]))
    assert (estimate.mean, estimate.count, estimate.left_out) == (2, 1, 2)
