"""What a paired difference says of two models."""

import math

import pytest

from model.evaluation.bootstrap import Estimate
from model.reporting.comparison import NONE, verdict


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.3, "better"), (-0.3, -0.1, "worse"), (-0.1, 0.1, "cannot be told apart")],
)
def test_an_interval_around_zero_tells_no_two_models_apart(
    low: float, high: float, words: str
) -> None:
    assert verdict(Estimate((low + high) / 2, low, high, 10, sequences=5, p=0.02)) == words


def test_four_videos_allow_no_verdict() -> None:
    assert verdict(Estimate(0.2, 0.1, 0.3, 100, sequences=4)) == NONE


def test_what_does_not_outlast_the_correction_is_no_verdict() -> None:
    assert verdict(Estimate(0.2, 0.1, 0.3, 100, sequences=9, p=0.06)) == "cannot be told apart"


def test_without_an_image_in_common_there_is_no_verdict() -> None:
    assert verdict(None) == verdict(Estimate(math.nan, math.nan, math.nan, 0, 3)) == "–"
