"""The motion of a window is the mean over its pixels, whatever window is asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.selection.window_motion import WindowMotion

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


@pytest.mark.parametrize("shape", [(23, 31), (60, 80), (97, 131)])
def test_a_score_is_the_same_wherever_the_flow_lies_in_memory(shape: tuple[int, int]) -> None:
    flow = np.random.default_rng(0).normal(0, 5, (*shape, 2)).astype(np.float32)
    held, scores = [], set()
    for size in range(1, 200):
        held.append(np.empty(16 * size, np.uint8))  # moves what is allocated next
        motion = WindowMotion(flow.copy())
        scores.add(motion.score(0, 0, 20, "mean_magnitude"))
        scores.add(-motion.score(0, 0, 20, "norm_of_mean"))
    assert len(scores) == 2
