"""Middlebury's errors against their definitions, restated pixel by pixel on ten real pairs."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from model.evaluation.interpolation_error import ERRORS

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module", params=range(0, 30, 3))
def pair(request: pytest.FixtureRequest, bikes: Frame) -> tuple[NDArray[np.float32], Frame]:
    first, target, third = bikes[request.param : request.param + 3, 60:100, 200:250]
    weight = np.float32(0.45)
    prediction = weight * first.astype(np.float32) + (1 - weight) * third.astype(np.float32)
    return prediction / np.float32(255), target


def derivative(values: list[float], at: int) -> float:
    before, after = max(at - 1, 0), min(at + 1, len(values) - 1)
    return (values[after] - values[before]) / (after - before)


def test_middlebury_is_the_root_mean_square_of_colour_differences(
    pair: tuple[NDArray[np.float32], Frame],
) -> None:
    prediction, target = pair
    guess = np.floor(prediction * 255 + np.float32(0.5)).astype(int)
    truth = target.astype(float)
    height, width, _ = truth.shape
    plain, normalised = 0.0, 0.0
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                squared = (guess[y, x, channel] - truth[y, x, channel]) ** 2
                down = derivative(list(truth[:, x, channel]), y)
                across = derivative(list(truth[y, :, channel]), x)
                plain += squared
                normalised += squared / (down**2 + across**2 + 1.0)
    score = ERRORS["middlebury"].score(prediction, target)
    expected = math.sqrt(plain / (height * width)), math.sqrt(normalised / (height * width))
    assert score == pytest.approx(expected, abs=1e-6)


def test_middlebury_other_is_the_mean_absolute_difference_of_rounded_values(
    pair: tuple[NDArray[np.float32], Frame],
) -> None:
    prediction, target = pair
    expected = np.abs(np.round(prediction * 255) - target * 1.0).mean()
    score = ERRORS["middlebury_other"].score(prediction, target)
    assert score == pytest.approx((expected,), abs=1e-6)


@pytest.mark.parametrize("name", ERRORS)
def test_equal_images_have_no_error(name: str, bikes: Frame) -> None:
    assert set(ERRORS[name].score(bikes[0], bikes[0])) == {0.0}


@pytest.mark.parametrize("name", ERRORS)
def test_images_of_other_shapes_are_refused(name: str, bikes: Frame) -> None:
    with pytest.raises(ValueError, match="prediction is"):
        ERRORS[name].score(bikes[0][:-1], bikes[0])
