"""Frames predicted along the motion, against frames whose motion is known."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.interpolation import load_predictor
from model.video import flow_prediction
from model.video.flow_prediction import METHODS, predict_by_flow
from model.video.interpolation import linear
from tests.model.videos import psnr

Frame = NDArray[np.uint8]
TIMES = (0.25, 0.5, 0.75)


def moved(frame: Frame, time: float, kind: str) -> Frame:
    """The middle 160 x 240 of a frame whose content is moved, turned or zoomed by ``time``."""
    if kind == "moved":
        matrix = np.array([[1, 0, 9.0 * time], [0, 1, -5.0 * time]])
    elif kind == "turned":
        matrix = cv2.getRotationMatrix2D((300.0, 130.0), 5.0 * time, 1.0)
    else:
        matrix = cv2.getRotationMatrix2D((300.0, 130.0), 0.0, 1.0 + 0.06 * time)
    size = (frame.shape[1], frame.shape[0])
    whole = cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_LANCZOS4)
    return np.ascontiguousarray(whole[50:210, 180:420])


def rounded(prediction: NDArray[np.float32]) -> Frame:
    return np.floor(prediction * 255 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["moved", "turned", "zoomed"])
def test_a_known_motion_is_followed_at_any_time(kind: str, method: str, bikes: Frame) -> None:
    first, third = (moved(bikes[0], time, kind) for time in (0.0, 1.0))
    predictor = load_predictor(method)
    for time in TIMES:
        truth = moved(bikes[0], time, kind)
        found = psnr(rounded(predictor(first, third, time)), truth)
        assert found > 32
        assert found > psnr(rounded(linear(first, third, time)), truth) + 4


def test_what_a_foreground_covers_and_uncovers_is_better_than_a_mean(bikes: Frame) -> None:
    def scene(time: float) -> Frame:
        frame = bikes[0, 20:220, 100:420].copy()
        left = round(60 + 24 * time)
        frame[60:150, left : left + 90] = bikes[2, 100:190, 500:590]
        return frame

    first, third = scene(0), scene(1)
    for time in TIMES:
        truth = scene(time)
        found = psnr(rounded(predict_by_flow(first, third, time)), truth)
        assert found > psnr(rounded(linear(first, third, time)), truth) + 3


def test_two_equal_frames_give_the_same_frame(bikes: Frame) -> None:
    np.testing.assert_array_equal(rounded(predict_by_flow(bikes[0], bikes[0])), bikes[0])


def test_two_scenes_are_mixed_as_linear_mixes_them(bikes: Frame) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), np.uint8)
    np.testing.assert_allclose(
        predict_by_flow(noise[0], noise[1], 0.25), linear(noise[0], noise[1], 0.25), atol=1e-5
    )


def test_time_reversed_gives_the_mirrored_time(bikes: Frame) -> None:
    first, third = bikes[0, :96, :128], bikes[2, :96, :128]
    np.testing.assert_allclose(
        predict_by_flow(first, third, 0.25), predict_by_flow(third, first, 0.75), atol=1e-4
    )


def test_sixteen_bits_and_floats_give_what_eight_bits_give(bikes: Frame) -> None:
    first, third = bikes[0, :96, :128], bikes[2, :96, :128]
    expected = predict_by_flow(first, third)
    deep = predict_by_flow(first.astype(np.uint16) * 257, third.astype(np.uint16) * 257)
    floats = predict_by_flow(first.astype(np.float32) / 255, third.astype(np.float32) / 255)
    np.testing.assert_allclose(deep, expected, atol=0.02)
    np.testing.assert_allclose(floats, expected, atol=0.02)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (17, 9), (33, 47)])
def test_frames_of_any_size_are_predicted(size: tuple[int, int], bikes: Frame) -> None:
    first, third = (np.ascontiguousarray(bikes[i, : size[0], : size[1]]) for i in (0, 2))
    prediction = predict_by_flow(first, third)
    assert prediction.shape == (*size, 3)
    assert prediction.dtype == np.float32
    assert 0 <= prediction.min() <= prediction.max() <= 1


def test_a_prediction_is_no_darker_than_the_frames_beside_it(bikes: Frame) -> None:
    mean = predict_by_flow(bikes[0], bikes[2]).mean((0, 1)) * 255
    beside = (bikes[0].mean((0, 1)) + bikes[2].mean((0, 1))) / 2
    np.testing.assert_allclose(mean, beside, atol=0.3)


def test_a_time_outside_and_an_unknown_method_are_refused(bikes: Frame) -> None:
    with pytest.raises(ValueError, match="time: must lie between 0 and 1"):
        predict_by_flow(bikes[0], bikes[2], 1.0)
    with pytest.raises(ValueError, match="no method 'best', there are: flow, flow-fast"):
        predict_by_flow(bikes[0], bikes[2], method="best")


def panned(frame: Frame, left: float) -> Frame:
    """160 x 240 of a frame, seen from ``left`` on."""
    matrix = np.array([[1, 0, -left], [0, 1, -50.0]])
    return cv2.warpAffine(frame, matrix, (240, 160), flags=cv2.INTER_LANCZOS4).astype(np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_motion_is_followed_while_the_light_changes(method: str, bikes: Frame) -> None:
    def lit(time: float) -> Frame:
        light = moved(bikes[0], time, "moved") * (0.7 + 0.15 * time) + 24 * time
        return np.floor(light + 0.5).astype(np.uint8)

    for time in TIMES:
        found = psnr(rounded(predict_by_flow(lit(0), lit(1), time, method)), lit(time))
        assert found > 32
        assert found > psnr(rounded(linear(lit(0), lit(1), time)), lit(time)) + 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("speed", [20, -20])
def test_what_enters_and_leaves_the_picture_comes_from_the_frame_that_has_it(
    speed: int, method: str, bikes: Frame
) -> None:
    first, third = panned(bikes[0], 200), panned(bikes[0], 200 + speed)
    for time in TIMES:
        truth = panned(bikes[0], 200 + speed * time)
        prediction = rounded(predict_by_flow(first, third, time, method))
        mean = rounded(linear(first, third, time))
        for edge in (slice(0, 20), slice(-20, None)):
            found = psnr(prediction[:, edge], truth[:, edge])
            assert found > psnr(mean[:, edge], truth[:, edge]) + 5


@pytest.mark.parametrize("method", METHODS)
def test_lines_of_two_pixels_move_as_a_whole(method: str, bikes: Frame) -> None:
    def scene(time: float) -> Frame:
        frame = np.ascontiguousarray(cv2.GaussianBlur(bikes[0], (0, 0), 4)[50:210, 180:420])
        for k in range(4):
            x = round(16 * (30 + 50 * k + 8 * time))  # in sixteenths of a pixel
            ends = (x, 16 * 10), (x + 16 * 20, 16 * 150)
            cv2.line(frame, *ends, (20, 20, 20), 2, cv2.LINE_AA, 4)
        return frame

    for time in TIMES:
        prediction = rounded(predict_by_flow(scene(0), scene(1), time, method))
        assert psnr(prediction, scene(time)) > 35


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_threads_changes_no_bit(
    method: str, bikes: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads in (1, 2, 5):
        with ThreadPoolExecutor(threads) as pool:
            monkeypatch.setattr(flow_prediction, "_pool", lambda pool=pool: pool)
            found.append(predict_by_flow(bikes[0], bikes[2], 0.4, method))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
