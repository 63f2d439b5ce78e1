"""The protocols against scikit-image, cases computed by hand, and misuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from model.evaluation.metrics import PROTOCOLS
from model.pixels import quantise

Frame = NDArray[np.uint8]
# The others see how far a float in single precision lies from its level.
ROUNDED = [n for n, p in PROTOCOLS.items() if "none" not in (p.quantisation, p.ssim_quantisation)]


@pytest.fixture(scope="module", params=[0, 12, 28])
def real(request: pytest.FixtureRequest, bikes: Frame) -> tuple[NDArray[np.float32], Frame]:
    """Linear interpolation of a real triplet, float32 in 0..1, and its true frame; the last
    triplet holds a jump cut."""
    first, target, third = bikes[request.param : request.param + 3, 40:200, 100:380]
    prediction = (first.astype(np.float32) / 255 + third.astype(np.float32) / 255) / 2
    return prediction, target


def test_standard_equals_scikit_image_with_gaussian_weights(
    real: tuple[NDArray[np.float32], Frame],
) -> None:
    prediction, target = real
    rounded = (prediction * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    score = PROTOCOLS["standard"].score(prediction, target)
    assert score.psnr == pytest.approx(
        peak_signal_noise_ratio(target, rounded, data_range=255), abs=1e-6
    )
    assert score.ssim == pytest.approx(
        structural_similarity(
            target,
            rounded,
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            use_sample_covariance=False,
        ),
        abs=1e-6,
    )


def test_niklaus_equals_the_arithmetic_of_its_benchmark(
    real: tuple[NDArray[np.float32], Frame],
) -> None:
    prediction, target = real
    truncated = (prediction.clip(0.0, 1.0) * 255.0).astype(np.uint8)
    score = PROTOCOLS["niklaus"].score(prediction, target)
    assert score.psnr == pytest.approx(
        peak_signal_noise_ratio(target, truncated, data_range=255), abs=1e-9
    )
    assert score.ssim == pytest.approx(
        structural_similarity(target, truncated, data_range=255, channel_axis=2), abs=1e-9
    )


def test_as_published_equals_its_formulas_with_black_surroundings(
    real: tuple[NDArray[np.float32], Frame],
) -> None:
    prediction, target = real
    x = (prediction * 255.0).astype(np.uint8) / 255
    y = target / 255

    def blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(image, 1.5, mode="constant", radius=5, axes=(0, 1))

    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
    similarity /= (mean_x**2 + mean_y**2 + 1e-4) * (variances + 9e-4)
    score = PROTOCOLS["as_published"].score(prediction, target)
    assert score.ssim == pytest.approx(similarity.mean(), abs=1e-9)
    assert score.psnr == pytest.approx(
        10 * math.log10(y.max() ** 2 / ((x - y) ** 2).mean()), abs=1e-9
    )


def test_truncating_costs_what_half_a_level_of_bias_costs(bikes: Frame) -> None:
    # At 36 dB the mean square error is 16.3, and the squared bias of truncation adds about 1/4.
    target = bikes[10]
    noise = np.random.default_rng(0).normal(0, 10 ** (-36 / 20), target.shape)
    prediction = np.clip(target / 255 + noise, 0, 1)
    rounded = PROTOCOLS["standard"].score(prediction, target).psnr
    truncated = PROTOCOLS["niklaus"].score(prediction, target).psnr
    assert rounded - truncated == pytest.approx(0.06, abs=0.02)


def test_truncating_costs_the_bias_of_half_a_level_where_a_mean_of_two_frames_is_odd(
    bikes: Frame,
) -> None:
    first, target, third = bikes[10:13].astype(int)
    prediction = (first.astype(np.float32) + third.astype(np.float32)) / np.float32(510)
    odd = (first + third) % 2
    error = (first + third) // 2 - target  # of the truncated prediction; rounded, odd sums gain 1
    gain = 10 * math.log10((error**2).mean() / ((error + odd) ** 2).mean())
    scores = {name: PROTOCOLS[name].score(prediction, bikes[11]).psnr for name in PROTOCOLS}
    assert scores["standard"] - scores["niklaus"] == pytest.approx(gain, abs=1e-9)
    assert abs(gain) > 1e-3


def test_a_target_with_a_maximum_of_nine_tenths_loses_0_92_db_as_published(bikes: Frame) -> None:
    first, target, third = (frame // 2 for frame in bikes[10:13])
    target[0, 0] = round(0.9 * 255)
    prediction = (first.astype(np.float32) + third) / 510
    lost = PROTOCOLS["as_published"].score(prediction, target).psnr
    lost -= PROTOCOLS["niklaus"].score(prediction, target).psnr
    assert lost == pytest.approx(20 * math.log10(230 / 255), abs=1e-9)


@pytest.mark.parametrize("name", [name for name, p in PROTOCOLS.items() if not p.floor])
def test_equal_images_score_infinity_and_one(name: str, bikes: Frame) -> None:
    score = PROTOCOLS[name].score(bikes[0], bikes[0])
    assert score.psnr == math.inf
    assert score.ssim == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["niklaus", "standard"])
def test_one_level_of_error_everywhere_is_48_13_db(name: str) -> None:
    target = np.full((16, 16, 3), 100, np.uint8)
    assert PROTOCOLS[name].score(target + 1, target).psnr == pytest.approx(20 * math.log10(255))


def test_ssim_of_two_flat_images_is_its_luminance_term() -> None:
    x, y = 100.0, 120.0
    images = (np.full((16, 16, 3), value, np.uint8) for value in (x, y))
    expected = (2 * x * y + 6.5025) / (x * x + y * y + 6.5025)
    assert PROTOCOLS["standard"].score(*images).ssim == pytest.approx(expected)


def test_a_black_target_has_no_peak_as_published() -> None:
    black = np.zeros((16, 16, 3), np.uint8)
    assert PROTOCOLS["as_published"].score(black + 1, black).psnr == -math.inf


@given(
    arrays.arrays(np.uint8, (12, 13, 3)),
    arrays.arrays(np.uint8, (12, 13, 3)),
    st.sampled_from(ROUNDED),
)
def test_eight_bit_images_score_as_their_float_images(a: Frame, b: Frame, name: str) -> None:
    protocol = PROTOCOLS[name]
    expected = protocol.score(a, b)
    for dtype in (np.float32, np.float64):
        assert protocol.score(a.astype(dtype) / 255, b.astype(dtype) / 255) == expected


@given(arrays.arrays(np.uint8, (12, 13, 3)), arrays.arrays(np.uint8, (12, 13, 3)))
def test_scores_lie_in_their_ranges(a: Frame, b: Frame) -> None:
    for protocol in PROTOCOLS.values():
        assert -1 <= protocol.score(a, b).ssim <= 1 + 1e-9
    assert PROTOCOLS["standard"].score(a, b) == pytest.approx(PROTOCOLS["standard"].score(b, a))


def test_quantising_keeps_levels_and_rounds_halves_up() -> None:
    halves = (np.arange(511) / 510).reshape(-1, 1, 1).repeat(3, axis=2)
    expected = np.arange(511).reshape(-1, 1, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(quantise(halves, "truncate"), expected // 2)
    np.testing.assert_array_equal(quantise(halves, "round"), (expected + 1) // 2)


@pytest.mark.parametrize("value", [-0.01, 1.01, 100.0, np.nan, np.inf])
def test_a_float_image_outside_zero_to_one_is_refused(value: float, bikes: Frame) -> None:
    image = bikes[0] / 255
    image[3, 4, 1] = value
    with pytest.raises(ValueError, match=r"a float image is in 0\.\.1"):
        PROTOCOLS["standard"].score(image, bikes[0])


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.bool_])
def test_other_types_are_refused(dtype: type, bikes: Frame) -> None:
    with pytest.raises(ValueError, match="uint8 or float"):
        PROTOCOLS["standard"].score(bikes[0].astype(dtype), bikes[0])


def test_images_of_two_sizes_are_refused(bikes: Frame) -> None:
    with pytest.raises(ValueError, match=r"\(271, 640, 3\)"):
        PROTOCOLS["standard"].score(bikes[0, 1:], bikes[0])


def test_an_image_smaller_than_the_window_is_refused(bikes: Frame) -> None:
    small = bikes[0, :10]
    PROTOCOLS["niklaus"].score(small, small)
    with pytest.raises(ValueError, match="smaller than the SSIM window of standard, 11x11"):
        PROTOCOLS["standard"].score(small, small)


def test_each_protocol_states_itself_in_one_line() -> None:
    for name, protocol in PROTOCOLS.items():
        text = str(protocol)
        assert text.startswith(f"{name}: ")
        assert "\n" not in text
    assert "truncated" in str(PROTOCOLS["niklaus"])
    assert "uniform 7x7" in str(PROTOCOLS["niklaus"])
    assert "peak maximum of the target" in str(PROTOCOLS["as_published"])
