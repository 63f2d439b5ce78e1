"""Repeats, brightness, black bars and fits after flow are measured on natural video."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.frames.sequences import Frame, FrameSequence, open_frames
from pipeline.selection.frame_changes import (
    CHANGES,
    FITS,
    Bars,
    black_bars,
    black_share,
    change,
    frame_changes,
    luma,
    reduce,
    repeat_ratio,
)

THRESHOLD = 0.2


def ratios(frames: list[Frame]) -> NDArray[np.float64]:
    """Repeat ratio of every triplet of neighbouring frames."""
    changes = [change(reduce(luma(a)), reduce(luma(b)))[0] for a, b in pairwise(frames)]
    return np.array([repeat_ratio(np.array(pair)) for pair in pairwise(changes)])


def shares(length: int, count: int) -> NDArray[np.float64]:
    """How much of each pixel lies in each of ``count`` equal parts of a line, in pixels."""
    parts, pixels = np.arange(count)[:, None] * length / count, np.arange(length)
    ends = np.minimum(parts + length / count, pixels + 1)
    return np.maximum(ends - np.maximum(parts, pixels), 0)


@given(height=st.integers(1, 900), width=st.integers(1, 900), seed=st.integers(0, 99))
def test_a_reduced_picture_is_the_mean_of_the_areas_that_its_pixels_cover(
    height: int, width: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    reduced = reduce(picture)
    rows, columns = reduced.shape
    sums = shares(height, rows) @ picture @ shares(width, columns).T
    means = sums * (rows * columns) / (height * width)
    assert np.abs(reduced - means).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("size", [(360, 640), (720, 1280), (1080, 1920), (90, 160)])
def test_a_picture_is_reduced_by_a_whole_number_as_opencv_reduces_it(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    expected = cv2.resize(picture, (160, 90), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(reduce(picture), expected)


@pytest.mark.parametrize("size", [(272, 640), (480, 854), (800, 1920), (544, 1280)])
def test_a_picture_is_reduced_as_opencv_does_but_for_rounding(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    reduced = reduce(picture)
    expected = cv2.resize(picture, reduced.shape[::-1], interpolation=cv2.INTER_AREA)
    different = reduced != expected
    assert different.mean() < 1e-3
    assert np.abs(reduced[different].astype(int) - expected[different]).max(initial=0) <= 1


@pytest.mark.parametrize("shape", [(90, 160), (32, 33), (1, 7)])
@pytest.mark.parametrize("most", [1, 9, 255])
def test_a_change_is_the_mean_of_the_largest_differences_and_that_of_all(
    shape: tuple[int, int], most: int
) -> None:
    a, b = np.random.default_rng(0).integers(0, most + 1, (2, *shape), np.uint8)
    differences = np.sort(np.abs(a.astype(int) - b), axis=None)
    tenth = differences[-max(a.size // 10, 1) :]
    assert change(a, b) == (tenth.mean(), differences.mean())


def pulled_down(frames: list[Frame]) -> tuple[list[Frame], list[bool]]:
    """24 frames a second in 30: every fourth frame twice; and which triplets hold a copy."""
    order = [index for k in range(len(frames)) for index in ([k, k] if k % 4 == 3 else [k])]
    repeated = [
        order[i] == order[i + 1] or order[i + 1] == order[i + 2] for i in range(len(order) - 2)
    ]
    return [frames[index] for index in order], repeated


@pytest.fixture(scope="module")
def shot(bikes_clip: FrameSequence) -> list[Frame]:
    """30 frames of one shot."""
    return list(bikes_clip.read(30, 60))


def test_the_copies_of_a_pulled_down_video_are_found_exactly(shot: list[Frame]) -> None:
    frames, repeated = pulled_down(shot)
    assert ((ratios(frames) < THRESHOLD) == repeated).all()


def test_copies_with_noise_of_their_own_are_found(shot: list[Frame], noise) -> None:
    frames, repeated = pulled_down(shot)
    noisy = [
        np.clip(frame + noise.normal(0, 5, frame.shape), 0, 255).astype(np.uint8)
        for frame in frames
    ]
    assert not any(np.array_equal(a, b) for a, b in pairwise(noisy))
    assert ((ratios(noisy) < THRESHOLD) == repeated).all()


def test_frames_on_twos_and_threes_are_found(shot: list[Frame]) -> None:
    for times in (2, 3):
        frames = [frame for frame in shot[:8] for _ in range(times)]
        assert (ratios(frames) < THRESHOLD).all()


def test_the_repeats_of_a_film_at_25_frames_a_second_are_found(clips) -> None:
    """bigbuckbunny is animation at 24 frames a second: every 25th frame is the one before."""
    (film,) = open_frames(clips / "bigbuckbunny.mp4")
    changes = frame_changes(film.read(0, 60), fits=False)[:, CHANGES.index("change")]
    found = [first for first in range(58) if repeat_ratio(changes[first : first + 2]) < THRESHOLD]
    assert found == [5, 6, 30, 31, 55, 56]


def test_three_equal_frames_are_repeats() -> None:
    assert repeat_ratio(np.zeros(2)) == 0.0


def test_brightness_is_what_was_added(shot: list[Frame]) -> None:
    darker = [(frame // 2).astype(np.uint8) for frame in shot[:2]]
    frames = [darker[0], darker[0] + np.uint8(20), darker[1]]
    brightness = frame_changes(frames, fits=False)[:, CHANGES.index("brightness")]
    assert brightness[0] == pytest.approx(20, abs=0.1)
    assert brightness[1] == pytest.approx(-20, abs=1)


def test_the_bars_of_a_letterbox_and_a_pillarbox_are_measured_to_the_pixel(
    shot: list[Frame],
) -> None:
    frame = np.maximum(shot[0], 60)
    frame[:31] = frame[-17:] = 16
    assert black_bars(luma(frame)) == Bars(31, 17, 0, 0)
    frame[:, :9] = frame[:, -40:] = 0
    assert black_bars(luma(frame)) == Bars(31, 17, 9, 40)
    assert black_share(black_bars(luma(frame)), frame.shape[:2], 0, 100, 62) == 0.5


def test_a_black_frame_is_bar_altogether() -> None:
    black = np.full((40, 60), 16, np.uint8)
    assert black_share(black_bars(black), (40, 60), 3, 5, 20) == 1.0


def test_the_middle_of_a_moving_scene_fits_better_than_that_of_a_dissolve(
    bikes_clip: FrameSequence,
) -> None:
    frames = list(bikes_clip.read(6, 18))
    other = list(bikes_clip.read(40, 46))
    moving = frame_changes(frames[:6], fits=True)[:-1, -1]
    dissolve = [
        np.rint(a * (1 - share) + b * share).astype(np.uint8)
        for a, b, share in zip(frames, other, np.linspace(0.1, 0.9, 6), strict=False)
    ]
    dissolving = frame_changes(dissolve, fits=True)[:-1, -1]
    assert dissolving.min() > 1.5 * moving.max()


def test_fits_are_left_out_where_they_are_not_asked_for(shot: list[Frame]) -> None:
    measured = frame_changes(shot[:4], fits=True)
    without = frame_changes(shot[:4], fits=False)
    assert measured.shape == without.shape == (3, len(CHANGES) + len(FITS))
    assert np.isnan(without[:, -len(FITS) :]).all()
    np.testing.assert_array_equal(without[:, : -len(FITS)], measured[:, : -len(FITS)])
    assert np.isfinite(measured[:, -2]).all()
    assert np.isnan(measured[-1, -1])
