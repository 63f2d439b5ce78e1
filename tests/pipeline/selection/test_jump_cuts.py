"""Jump cuts are found where the picture changes, and nowhere else."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames.sequences import FrameSequence, open_frames
from pipeline.selection.jump_cuts import (
    cuts_among,
    distances_of_counts,
    find_cuts,
    histogram_counts,
    histogram_distance,
    neighbour_distances,
)
from tests.conftest import CUTS_OF_BIKES


def test_the_five_cuts_of_bikes_are_found_exactly(bikes_clip: FrameSequence) -> None:
    assert find_cuts(bikes_clip.read()) == CUTS_OF_BIKES


@pytest.mark.parametrize("name", ["bigbuckbunny", "carphone_pristine"])
def test_a_clip_without_a_cut_has_none(clips, name: str) -> None:
    (sequence,) = open_frames(clips / f"{name}.mp4")
    assert find_cuts(sequence.read()) == []


@given(seed=st.integers(0, 99), bins=st.sampled_from([2, 8, 16, 256]))
def test_the_distance_is_that_of_numpy_histograms_of_unit_length(seed: int, bins: int) -> None:
    noise = np.random.default_rng(seed)
    frames = noise.integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    frames[1] //= 2
    for channel, distance in enumerate(histogram_distance(*frames, bins=bins)):
        a, b = (np.histogram(f[..., channel], bins, (0, 256))[0].astype(float) for f in frames)
        a, b = a / np.sqrt((a**2).sum()), b / np.sqrt((b**2).sum())
        assert distance == pytest.approx(((a - b) ** 2).mean(), abs=1e-6)


def test_the_distance_does_not_depend_on_the_size_of_the_frames(noise) -> None:
    a, b = noise.integers(0, 256, (2, 10, 12, 3), dtype=np.uint8)
    b //= 3
    larger = [np.tile(frame, (3, 2, 1)) for frame in (a, b)]
    np.testing.assert_allclose(histogram_distance(*larger), histogram_distance(a, b), atol=1e-6)


def test_a_change_in_one_channel_is_enough() -> None:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[1, ..., 2] = 255
    distances = neighbour_distances(frames)
    assert (distances[0] > 0.1).tolist() == [False, False, True]
    assert cuts_among(distances, threshold=0.1) == [0]


def test_a_higher_threshold_finds_fewer_cuts(bikes_clip: FrameSequence) -> None:
    distances = neighbour_distances(bikes_clip.read())
    counts = [len(cuts_among(distances, threshold)) for threshold in (1e-3, 8e-3, 5e-2, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


@pytest.mark.parametrize("bins", [2, 3, 8, 100, 255, 256])
def test_counts_are_those_of_opencv(bins: int) -> None:
    frame = np.random.default_rng(bins).integers(0, 256, (37, 41, 3), np.uint8)
    expected = [cv2.calcHist([frame], [channel], None, [bins], [0, 256]) for channel in range(3)]
    np.testing.assert_array_equal(histogram_counts(frame, bins), np.reshape(expected, (3, bins)))


def test_one_frame_has_no_neighbours() -> None:
    assert neighbour_distances([np.zeros((4, 4, 3), np.uint8)]).shape == (0, 3)


@pytest.mark.parametrize("bins", [2, 8, 16, 32])
def test_finer_histograms_that_were_kept_give_the_very_same_distances(
    bikes_clip: FrameSequence, bins: int
) -> None:
    frames = list(bikes_clip.read(26, 34))
    counts = np.stack([histogram_counts(frame, 32) for frame in frames])
    kept = distances_of_counts(counts, bins)
    np.testing.assert_array_equal(kept, neighbour_distances(frames, bins))
