"""Cuts by flow: jumps inside a shot are found; pans, flashes and dissolves are none."""

import numpy as np
import pytest

from pipeline.frames.sequences import Frame, FrameSequence, open_frames
from pipeline.selection.flow_cuts import cut_scores, find_flow_cuts
from pipeline.selection.jump_cuts import find_cuts
from tests.conftest import CUTS_OF_BIKES


@pytest.fixture(scope="module")
def shot(bikes_clip: FrameSequence) -> list[Frame]:
    """Two shots of bikes, of 61 and 50 frames."""
    return list(bikes_clip.read(76, 187))


def test_the_five_cuts_of_bikes_are_found_exactly(bikes_clip: FrameSequence) -> None:
    assert find_flow_cuts(bikes_clip.read()) == CUTS_OF_BIKES


def test_a_clip_without_a_cut_has_none(clips) -> None:
    (sequence,) = open_frames(clips / "carphone_pristine.mp4")
    assert find_flow_cuts(sequence.read()) == []


def test_a_jump_inside_a_shot_that_histograms_do_not_see_is_found(shot: list[Frame]) -> None:
    jumping = shot[61:71] + shot[91:103]
    assert find_cuts(jumping) == []
    assert find_flow_cuts(jumping) == [9]


def test_a_fast_pan_is_no_cut(shot: list[Frame]) -> None:
    """A window of a third of the width that crosses the picture in eight frames, and back."""
    lefts = [round(abs(index % 16 - 8) / 8 * (640 - 212)) for index in range(30)]
    panned = [
        np.ascontiguousarray(frame[:, left : left + 212])
        for frame, left in zip(shot, lefts, strict=False)
    ]
    assert find_flow_cuts(panned) == []


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(shot: list[Frame], length: int) -> None:
    flashing = list(shot[:20])
    for index in range(10, 10 + length):
        flashing[index] = (flashing[index] * 0.3 + 255 * 0.7).astype(np.uint8)
    assert find_cuts(flashing)
    assert find_flow_cuts(flashing) == []


@pytest.mark.parametrize("length", [8, 24])
def test_a_dissolve_is_no_cut(shot: list[Frame], length: int) -> None:
    before, after = shot[:36], shot[61:]
    shares = (np.arange(length) + 1) / (length + 1)
    middle = [
        np.rint(a * (1 - share) + b * share).astype(np.uint8)
        for a, b, share in zip(before[36 - length :], after, shares, strict=False)
    ]
    assert find_flow_cuts(before[: 36 - length] + middle + after[length : length + 8]) == []


def test_a_still_picture_with_a_little_noise_has_no_cut(noise) -> None:
    picture = noise.integers(40, 200, (90, 160, 3)).astype(np.uint8)
    frames = [picture + noise.integers(0, 2, picture.shape, dtype=np.uint8) for _ in range(8)]
    assert find_flow_cuts(frames) == []


@pytest.mark.parametrize("pattern", [[2], [3], [2, 3], [1, 1, 1, 2]])
def test_repeated_frames_make_no_cuts_and_hide_none(shot: list[Frame], pattern: list[int]) -> None:
    """Animation on twos and threes, 24 frames a second in 60 and in 30."""
    counts = [pattern[index % len(pattern)] for index in range(20)]
    # Of the two shots of `shot`, ten frames each.
    repeated = [
        frame for frame, count in zip(shot[51:71], counts, strict=True) for _ in range(count)
    ]
    assert find_flow_cuts(repeated) == [sum(counts[:10]) - 1]


def test_two_frames_have_nothing_to_be_compared_with(shot: list[Frame]) -> None:
    assert np.isnan(cut_scores(np.array([50.0]), np.array([50.0]))).all()
    assert find_flow_cuts([shot[0], shot[80]]) == []


def test_a_pair_is_compared_with_the_three_before_and_after_it() -> None:
    residuals = np.array([4.75, 1.75, 1.75, 1.75, 8.0, 1.75, 1.75, np.nan])
    others = np.array([1.75, 4.75, 4.75, 8.0, 4.75, 8.0, 8.0, np.nan])
    others[[1, 2]] = 8.0
    others[4] = 1.75
    others[3] = 8.0
    expected = residuals / (0.25 + others)
    np.testing.assert_allclose(cut_scores(residuals, residuals), expected, rtol=1e-6)
    # Where one measure sees nothing, the geometric mean is small.
    even = np.full(8, 1.75)
    np.testing.assert_allclose(
        cut_scores(residuals, even)[:7], np.sqrt(expected * 1.75 / 2)[:7], rtol=1e-6
    )
