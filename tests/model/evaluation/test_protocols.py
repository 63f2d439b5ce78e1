"""The field's protocols against their definitions, restated on ten real frame pairs.

A restatement uses plain loops over windows' offsets, not the filters of the module under test.
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from model.evaluation.metrics import PROTOCOLS

Frame = NDArray[np.uint8]
Float = NDArray[np.float64]
Pair = tuple[NDArray[np.float32], Frame]


@pytest.fixture(scope="module", params=range(0, 30, 3))
def pair(request: pytest.FixtureRequest, bikes: Frame) -> Pair:
    """A prediction of a real frame, float32 in 0..1 and off the levels, and the true frame."""
    first, target, third = bikes[request.param : request.param + 3, 60:120, 200:280]
    weight = np.float32(0.45)
    prediction = weight * first.astype(np.float32) + (1 - weight) * third.astype(np.float32)
    return prediction / np.float32(255), target


def gaussian() -> Float:
    weights = np.array([math.exp(-((x - 5) ** 2) / (2 * 1.5**2)) for x in range(11)])
    return weights / weights.sum()


def ssim_matlab(x: Float, y: Float, peak: float) -> float:
    """SSIM with a three-dimensional Gaussian window over rows, columns and channels, replicated."""

    def blurred(volume: Float) -> Float:
        for axis in range(3):
            width = [(5, 5) if axis == other else (0, 0) for other in range(3)]
            padded = np.pad(volume, width, mode="edge")
            count = volume.shape[axis]
            volume = sum(
                weight * np.take(padded, range(offset, offset + count), axis)
                for offset, weight in enumerate(gaussian())
            )
        return volume

    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    a, b = blurred(x), blurred(y)
    xx, yy, xy = blurred(x * x) - a * a, blurred(y * y) - b * b, blurred(x * y) - a * b
    numerator = (2 * a * b + c1) * (2 * xy + c2)
    return float((numerator / ((a * a + b * b + c1) * (xx + yy + c2))).mean())


def test_rife_rounds_for_the_psnr_and_not_for_the_ssim(pair: Pair) -> None:
    prediction, target = pair
    truth = target / 255.0
    rounded = np.round(prediction * 255).astype(np.uint8) / 255.0
    score = PROTOCOLS["rife"].score(prediction, target)
    assert score.psnr == pytest.approx(-10 * math.log10(((truth - rounded) ** 2).mean()), abs=1e-6)
    ssim = ssim_matlab(truth, prediction.astype(np.float64), 1)
    assert score.ssim == pytest.approx(ssim, abs=1e-6)


def test_ema_vfi_rounds_for_both(pair: Pair) -> None:
    prediction, target = pair
    truth, rounded = target / 255.0, np.round(prediction * 255).astype(float) / 255.0
    score = PROTOCOLS["ema_vfi"].score(prediction, target)
    assert score.psnr == pytest.approx(-10 * math.log10(((truth - rounded) ** 2).mean()), abs=1e-6)
    assert score.ssim == pytest.approx(ssim_matlab(truth, rounded.astype(float), 1), abs=1e-6)


def test_cain_rounds_and_adds_a_hundred_millionth(pair: Pair) -> None:
    prediction, target = pair
    rounded, truth = np.round(prediction * 255).clip(0, 255).astype(float), target.astype(float)
    score = PROTOCOLS["cain"].score(prediction, target)
    error = (((rounded - truth) / 255) ** 2).mean() + 1e-8
    assert score.psnr == pytest.approx(-10 * math.log10(error), abs=1e-6)
    assert score.ssim == pytest.approx(ssim_matlab(rounded, truth, 255), abs=1e-6)


def test_flavr_rounds_nothing(pair: Pair) -> None:
    prediction, target = pair
    guess, truth = prediction.astype(float), target / 255.0
    score = PROTOCOLS["flavr"].score(prediction, target)
    error = ((guess - truth) ** 2).mean() + 1e-8
    assert score.psnr == pytest.approx(-10 * math.log10(error), abs=1e-6)
    assert score.ssim == pytest.approx(ssim_matlab(guess, truth, 1), abs=1e-6)


def test_softsplat_is_scikit_image_by_default(pair: Pair) -> None:
    prediction, target = pair
    rounded = (prediction.clip(0, 1) * 255.0).round().astype(np.uint8)
    score = PROTOCOLS["softsplat"].score(prediction, target)
    psnr = peak_signal_noise_ratio(target, rounded, data_range=255)
    ssim = structural_similarity(target, rounded, data_range=255, channel_axis=2)
    assert score == pytest.approx((psnr, ssim), abs=1e-6)


def test_matlab_grey_is_the_ssim_of_rgb2gray(pair: Pair) -> None:
    prediction, target = pair
    rounded = np.floor(prediction * 255 + np.float32(0.5)).astype(np.uint8)

    def grey(image: Frame) -> Frame:
        red, green, blue = (image[..., channel].astype(float) for channel in range(3))
        return np.floor(0.2989 * red + 0.5870 * green + 0.1140 * blue + 0.5).astype(np.uint8)

    ssim = structural_similarity(
        grey(target),
        grey(rounded),
        data_range=255,
        gaussian_weights=True,
        use_sample_covariance=False,
    )
    score = PROTOCOLS["matlab_grey"].score(prediction, target)
    assert score.ssim == pytest.approx(ssim, abs=1e-6)
    assert score.psnr == PROTOCOLS["standard"].score(prediction, target).psnr


def test_a_floor_holds_the_psnr_of_equal_images_at_80_db(bikes: Frame) -> None:
    for name in ("cain", "flavr"):
        assert PROTOCOLS[name].score(bikes[0], bikes[0]) == pytest.approx((80, 1))


def test_protocols_lie_so_far_apart_on_one_set_of_predictions(bikes: Frame) -> None:
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in PROTOCOLS}
    for start in range(0, 30, 3):
        first, target, third = bikes[start : start + 3]
        prediction = (first.astype(np.float32) + third.astype(np.float32)) / np.float32(510)
        for name, protocol in PROTOCOLS.items():
            scores[name].append(protocol.score(prediction, target))
    means = {name: np.mean(values, axis=0) for name, values in scores.items()}
    for name, (psnr, ssim) in means.items():
        print(f"{name:14} {psnr:7.3f} dB {ssim:.4f}")
    psnrs, ssims = zip(*means.values(), strict=True)
    assert max(psnrs) - min(psnrs) > 0.005
    assert max(ssims) - min(ssims) > 0.005
    assert means["rife"][1] > means["standard"][1]
