"""The motion store holds the flow of every triplet, and scores any window of it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import MidframeError
from pipeline.frames import FrameSequence, open_frames
from pipeline.motion import MotionStore, WindowMotion, score
from pipeline.optical_flow import compute_flow
from pipeline.patches import Source
from pipeline.provenance import read_manifest
from pipeline.settings import MotionSettings
from tests.conftest import directory_bytes


def test_the_flow_is_that_between_first_and_third_frame(source: Source) -> None:
    store = MotionStore(source.motion)
    for sequence in open_frames(source.frames):
        for row, first in enumerate(store.first_frames(sequence.name)):
            a, _, b = sequence.read(first, first + 3)
            flow = compute_flow(a, b, layers=3, averaging_block_size=2, max_flow=4)
            # Stored as float16: 11 bits.
            stored = store.flow(sequence.name, row)
            np.testing.assert_allclose(stored, flow, rtol=2**-10, atol=1e-7)


def test_another_method_of_flow_can_be_stored(dataset: Path, tmp_path: Path) -> None:
    score(dataset, tmp_path / "motion", MotionSettings(method="dis"), workers=0)
    (sequence, _) = open_frames(dataset)
    a, _, b = sequence.read(0, 3)
    stored = MotionStore(tmp_path / "motion").flow(sequence.name, 0)
    np.testing.assert_allclose(stored, compute_flow(a, b, "dis"), rtol=2**-10, atol=1e-6)


def test_every_third_frame_starts_a_triplet(source: Source) -> None:
    assert MotionStore(source.motion).first_frames("cut") == [0, 3, 6, 9]
    assert read_manifest(source.motion, "motion", 1)["triplets"] == 6


def test_overlapping_triplets_are_scored_too(dataset: Path, source: Source, tmp_path: Path) -> None:
    score(dataset, tmp_path / "motion", MotionSettings(stride=1), workers=0)
    dense = MotionStore(tmp_path / "motion")
    assert dense.first_frames("ride") == [0, 1, 2, 3]
    np.testing.assert_array_equal(dense.flow("ride", 3), MotionStore(source.motion).flow("ride", 1))


@pytest.mark.slow
def test_workers_do_not_change_a_byte(source: Source, tmp_path: Path) -> None:
    score(source.frames, tmp_path / "motion", MotionSettings(), workers=2)
    assert directory_bytes(tmp_path / "motion") == directory_bytes(source.motion)


def test_a_sequence_that_was_not_scored_is_named(source: Source) -> None:
    with pytest.raises(MidframeError, match="holds no motion of sequence 'boat'"):
        MotionStore(source.motion).first_frames("boat")


def test_a_frame_that_vanishes_meanwhile_leaves_nothing_half_written(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = [
        FrameSequence(s.name, s.path, s.frame_count + 3, s.height, s.width)
        for s in open_frames(dataset)
    ]
    monkeypatch.setattr("pipeline.motion.open_frames", lambda path: longer)
    with pytest.raises(MidframeError, match="has the file changed"):
        score(dataset, tmp_path / "motion", MotionSettings(), workers=0)
    assert list(tmp_path.iterdir()) == []


FLOWS = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).normal(0, 5, (23, 31, 2)).astype(np.float32)
)


@settings(max_examples=50)
@given(flow=FLOWS, top=st.integers(0, 15), left=st.integers(0, 23), size=st.integers(1, 8))
def test_a_window_scores_as_if_it_were_cut_out(
    flow: np.ndarray, top: int, left: int, size: int
) -> None:
    motion = WindowMotion(flow)
    window = flow[top : top + size, left : left + size].astype(float).reshape(-1, 2)
    assert motion.score(top, left, size, "mean_magnitude") == pytest.approx(
        np.linalg.norm(window, axis=1).mean()
    )
    assert motion.score(top, left, size, "norm_of_mean") == pytest.approx(
        np.linalg.norm(window.mean(axis=0)), abs=1e-9
    )


def test_opposite_motions_cancel_in_the_norm_of_the_mean_only() -> None:
    flow = np.zeros((10, 10, 2))
    flow[:, :5, 0], flow[:, 5:, 0] = 4.0, -4.0
    motion = WindowMotion(flow)
    assert motion.score(0, 0, 10, "norm_of_mean") == pytest.approx(0.0)
    assert motion.score(0, 0, 10, "mean_magnitude") == pytest.approx(4.0)


def test_pixels_of_unknown_flow_do_not_count() -> None:
    flow = np.full((10, 10, 2), 3.0)
    flow[:5] = np.nan
    motion = WindowMotion(flow)
    assert motion.score(0, 0, 10, "mean_magnitude") == pytest.approx(np.hypot(3, 3))
    assert np.isnan(motion.score(0, 0, 5, "mean_magnitude"))
