"""The rules judge all triplets at once as going through each window by window does."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as running
from hypothesis import strategies as st

from pipeline.selection.judging import (
    CODES,
    REASONS,
    UNTRIED,
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

    def of_triplets(highest: float, unknown: float = 0.0) -> np.ndarray:
        values = random.uniform(0, highest, triplets)
        values[random.random(triplets) < unknown] = np.nan
        return np.repeat(values, tries)

    return Windows(
        triplet=np.repeat(np.arange(triplets), tries),
        top=random.integers(0, 60, count),
        left=random.integers(0, 60, count),
        motion=motion,
        cut_distance=of_triplets(0.01),
        flow_cut=of_triplets(2, unknown=0.5),
        repeat=of_triplets(1),
        brightness_change=of_triplets(100),
        misfit=of_triplets(40, unknown=0.5),
        black_share=random.random(count),
        draw=random.random(count),
    )


def one_after_the_other(windows: Windows, settings: PatchSettings) -> list[Reason]:
    """The rules as the paper's recipe says them: a window, then the next."""
    taken: dict[int, list[tuple[int, int]]] = {}
    reasons = []

    def beyond(value: float, limit: float | None) -> bool:
        return limit is not None and value > limit

    for at, (triplet, top, left, motion, draw) in enumerate(
        zip(
            windows.triplet,
            windows.top,
            windows.left,
            windows.motion,
            windows.draw,
            strict=True,
        )
    ):
        before = taken.setdefault(int(triplet), [])
        place = (int(top), int(left))
        if np.isnan(windows.flow_cut[at]):
            cut = windows.cut_distance[at] > settings.cut_threshold
        else:
            cut = windows.flow_cut[at] > settings.flow_cut_threshold
        repeat = settings.repeat_threshold
        if cut:
            reason = Reason.JUMP_CUT
        elif repeat is not None and windows.repeat[at] < repeat:
            reason = Reason.REPEATED_FRAME
        elif beyond(windows.brightness_change[at], settings.max_brightness_change):
            reason = Reason.BRIGHTNESS
        elif beyond(windows.misfit[at], settings.max_misfit):
            reason = Reason.MISFIT
        elif beyond(windows.black_share[at], settings.max_black_share):
            reason = Reason.BLACK_BARS
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


# The first call compiles.
@running(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    overlap=st.floats(0, 1),
    most=st.integers(1, 12),
    scale=st.floats(0.1, 5),
    limits=st.fixed_dictionaries(
        {
            "repeat_threshold": st.none() | st.floats(0.05, 0.5),
            "max_brightness_change": st.none() | st.floats(20, 90),
            "max_misfit": st.none() | st.floats(5, 35),
            "max_black_share": st.none() | st.floats(0.1, 0.9),
        }
    ),
)
def test_all_at_once_is_one_after_the_other(
    seed: int, overlap: float, most: int, scale: float, limits: dict[str, float | None]
) -> None:
    settings = PatchSettings(
        patch_size=48, max_overlap=overlap, max_taken=most, motion_scale=scale, tries=12
    ).model_copy(update=limits)
    windows = some_windows(seed)
    assert [REASONS[code] for code in judge(windows, settings)] == one_after_the_other(
        windows, settings
    )


def test_windows_that_do_not_count_as_tried_are_as_if_they_were_not_there() -> None:
    windows, settings = some_windows(3), PatchSettings(patch_size=48, max_taken=2, max_overlap=0.3)
    tried = np.arange(60) % 12 < 5
    fewer = Windows(*(getattr(windows, field.name)[tried] for field in fields(windows)))
    codes = judge(windows, settings, tried)
    assert (codes[~tried] == UNTRIED).all()
    assert codes[tried].tolist() == judge(fewer, settings).tolist()


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
