"""The rules judge all triplets at once as going through each window by window does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.selection.judging import (
    CODES,
    REASONS,
    Reason,
    Windows,
    judge,
    limit_sequences,
    overlap,
)
from pipeline.settings import PatchSettings


def some_windows(seed: int, triplets: int = 5, tries: int = 12) -> Windows:
    random = np.random.default_rng(seed)
    count = triplets * tries
    motion = random.uniform(0, 3, count)
    motion[random.random(count) < 0.1] = np.nan
    return Windows(
        np.repeat(np.arange(triplets), tries),
        random.integers(0, 60, count),
        random.integers(0, 60, count),
        motion,
        np.repeat(random.uniform(0, 0.01, triplets), tries),
        random.random(count),
    )


def one_after_the_other(windows: Windows, settings: PatchSettings) -> list[Reason]:
    """The rules as the paper's recipe says them: a window, then the next."""
    taken: dict[int, list[tuple[int, int]]] = {}
    reasons = []
    for triplet, top, left, motion, cut, draw in zip(
        windows.triplet,
        windows.top,
        windows.left,
        windows.motion,
        windows.cut_distance,
        windows.draw,
        strict=True,
    ):
        before = taken.setdefault(int(triplet), [])
        place = (int(top), int(left))
        if cut > settings.cut_threshold:
            reason = Reason.JUMP_CUT
        elif np.isnan(motion):
            reason = Reason.UNKNOWN_MOTION
        elif draw >= motion / settings.motion_scale:
            reason = Reason.LITTLE_MOTION
        elif len(before) >= settings.max_taken:
            reason = Reason.ENOUGH_TAKEN
        elif any(
            overlap(place, other, settings.patch_size) > settings.max_overlap for other in before
        ):
            reason = Reason.OVERLAP
        else:
            reason = Reason.TAKEN
            before.append(place)
        reasons.append(reason)
    return reasons


@given(
    seed=st.integers(0, 2**32),
    overlap=st.floats(0, 1),
    most=st.integers(1, 12),
    scale=st.floats(0.1, 5),
)
def test_all_at_once_is_one_after_the_other(
    seed: int, overlap: float, most: int, scale: float
) -> None:
    settings = PatchSettings(
        patch_size=48, max_overlap=overlap, max_taken=most, motion_scale=scale, tries=12
    )
    windows = some_windows(seed)
    assert [REASONS[code] for code in judge(windows, settings)] == one_after_the_other(
        windows, settings
    )


def test_no_windows_have_no_outcomes() -> None:
    windows = some_windows(0, triplets=0)
    assert len(judge(windows, PatchSettings())) == 0
    assert len(judge(windows, PatchSettings(max_overlap=0.5))) == 0


@pytest.mark.parametrize("most", [None, 1, 3, 100])
def test_of_each_sequence_the_smallest_lots_stay(most: int | None) -> None:
    random = np.random.default_rng(1)
    sequence, lots = np.repeat([0, 1, 2], 7), random.random(21)
    codes = np.full(21, CODES[Reason.TAKEN], np.uint8)
    codes[random.random(21) < 0.3] = CODES[Reason.OVERLAP]
    offered = codes == CODES[Reason.TAKEN]
    limit_sequences(codes, sequence, lots, most)
    for number in range(3):
        mine = offered & (sequence == number)
        kept = lots[mine & (codes == CODES[Reason.TAKEN])]
        assert sorted(kept) == sorted(lots[mine])[:most]
