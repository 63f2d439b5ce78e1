"""Windows are drawn and judged by seeded streams of random numbers, one a triplet."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.selection.frame_changes import Bars, TripletChanges
from pipeline.selection.judging import Reason, lot_limit, overlap
from pipeline.selection.sampling import Candidate, draw_triplets, sample_triplet
from pipeline.settings import PatchSettings

TRIPLET = ("boat", 6)
# One object, so that candidates that hold it are equal.
UNKNOWN = float("nan")


def windows(
    motion: float = 10.0,
    cut_distance: float = 0.0,
    size: tuple[int, int] = (300, 400),
    triplet: tuple[str, int] = TRIPLET,
    changes: dict[str, Any] | None = None,
    **settings: object,
) -> list[Candidate]:
    chosen = PatchSettings.model_validate(settings)
    usual = TripletChanges(
        cut_distance,
        flow_cut=UNKNOWN,
        repeat=1.0,
        brightness_change=0.0,
        misfit=UNKNOWN,
        bars=Bars(0, 0, 0, 0),
    )
    found = replace(usual, **(changes or {}))
    return sample_triplet(triplet, size, lambda top, left: motion, found, chosen)


def reasons(candidates: list[Candidate]) -> set[Reason]:
    return {candidate.reason for candidate in candidates}


@given(height=st.integers(150, 400), width=st.integers(150, 400), seed=st.integers(0, 2**32))
def test_windows_lie_inside_the_frame(height: int, width: int, seed: int) -> None:
    for candidate in windows(size=(height, width), seed=seed):
        assert 0 <= candidate.top <= height - 150
        assert 0 <= candidate.left <= width - 150


def test_every_place_can_be_drawn() -> None:
    tried = windows(size=(152, 151), tries=400, max_taken=1)
    assert {(window.top, window.left) for window in tried} == {
        (top, left) for top in range(3) for left in range(2)
    }


def test_the_share_of_windows_accepted_is_motion_over_scale() -> None:
    tried = [
        window
        for first in range(300)
        for window in windows(5.0, triplet=("boat", first), tries=30, max_taken=30)
    ]
    taken = sum(window.reason is Reason.TAKEN for window in tried)
    # 9,000 draws at 5 / 25: the standard deviation of the share is 0.004.
    assert taken / len(tried) == pytest.approx(0.2, abs=0.02)
    assert all((window.draw < 0.2) == (window.reason is Reason.TAKEN) for window in tried)


def test_motion_above_the_scale_is_always_accepted_until_enough_are_taken() -> None:
    outcome = [window.reason for window in windows(26.0)]
    assert outcome == [Reason.TAKEN] * 20 + [Reason.ENOUGH_TAKEN] * 10


def test_a_still_window_is_never_accepted() -> None:
    assert reasons(windows(0.0)) == {Reason.LITTLE_MOTION}


def test_unknown_motion_is_refused_as_such() -> None:
    assert reasons(windows(float("nan"))) == {Reason.UNKNOWN_MOTION}


def test_a_triplet_across_a_cut_gives_nothing() -> None:
    assert reasons(windows(100.0, cut_distance=0.009)) == {Reason.JUMP_CUT}
    assert Reason.JUMP_CUT not in reasons(windows(100.0, cut_distance=0.007))
    assert reasons(windows(0.0, cut_distance=0.009, window="centre")) == {Reason.JUMP_CUT}


def test_a_cut_measured_by_flow_is_judged_by_flow_and_not_by_histograms() -> None:
    fitting, jumping = {"flow_cut": 1.2}, {"flow_cut": 5.0}
    assert Reason.JUMP_CUT not in reasons(windows(100.0, cut_distance=0.5, changes=fitting))
    assert reasons(windows(100.0, changes=jumping)) == {Reason.JUMP_CUT}
    allowed = windows(100.0, changes=jumping, flow_cut_threshold=6.0)
    assert Reason.JUMP_CUT not in reasons(allowed)


@pytest.mark.parametrize("window", ["random", "centre"])
def test_a_repeated_frame_refuses_the_triplet_unless_repeats_are_allowed(window: str) -> None:
    repeated = {"repeat": 0.05}
    refused = windows(100.0, changes=repeated, window=window)
    assert reasons(refused) == {Reason.REPEATED_FRAME}
    assert all(candidate.repeat == 0.05 for candidate in refused)
    allowed = windows(100.0, changes=repeated, window=window, repeat_threshold=None)
    assert Reason.TAKEN in reasons(allowed)


@pytest.mark.parametrize(
    ("changes", "setting", "limit", "reason"),
    [
        ({"brightness_change": 12.0}, "max_brightness_change", 10.0, Reason.BRIGHTNESS),
        ({"misfit": 9.0}, "max_misfit", 8.0, Reason.MISFIT),
        ({"bars": Bars(200, 0, 0, 0)}, "max_black_share", 0.0, Reason.BLACK_BARS),
    ],
)
def test_a_limit_refuses_what_is_beyond_it_and_is_off_by_default(
    changes: dict[str, Any], setting: str, limit: float, reason: Reason
) -> None:
    assert reason not in reasons(windows(100.0, changes=changes))
    assert reason in reasons(windows(100.0, changes=changes, **{setting: limit}))


def test_only_windows_that_reach_into_the_black_bars_are_refused_for_them() -> None:
    letterbox = {"bars": Bars(60, 60, 0, 0)}
    for window in windows(100.0, changes=letterbox, max_black_share=0.0, max_taken=30):
        inside = 60 <= window.top <= 300 - 60 - 150
        assert (window.black_share == 0) == inside
        assert (window.reason is Reason.BLACK_BARS) == (not inside)


def test_the_centre_window_is_taken_whatever_its_motion() -> None:
    (window,) = windows(0.0, window="centre", size=(481, 854))
    assert (window.top, window.left, window.reason) == (165, 352, Reason.TAKEN)


def test_more_tries_keep_those_that_were_made() -> None:
    few, many = windows(tries=20), windows(tries=40)
    assert many[:20] == few


@given(
    height=st.integers(150, 400),
    width=st.integers(150, 400),
    stride=st.integers(1, 200),
    window=st.sampled_from(["random", "centre"]),
)
def test_windows_lie_on_the_grid_and_inside_the_frame(
    height: int, width: int, stride: int, window: str
) -> None:
    for candidate in windows(size=(height, width), patch_stride=stride, window=window):
        assert candidate.top % stride == candidate.left % stride == 0
        assert candidate.top <= height - 150
        assert candidate.left <= width - 150


def test_every_place_of_the_grid_can_be_drawn() -> None:
    tried = windows(size=(191, 170), tries=300, max_taken=1, patch_stride=20)
    assert {(w.top, w.left) for w in tried} == {(t, left) for t in (0, 20, 40) for left in (0, 20)}


@given(limit=st.floats(0, 1), seed=st.integers(0, 99))
def test_no_two_windows_taken_from_a_triplet_overlap_more_than_allowed(
    limit: float, seed: int
) -> None:
    tried = windows(26.0, max_overlap=limit, seed=seed)
    taken = [(w.top, w.left) for w in tried if w.reason is Reason.TAKEN]
    for index, one in enumerate(taken):
        assert all(overlap(one, other, 150) <= limit for other in taken[:index])
    for window in tried:
        if window.reason is Reason.OVERLAP:
            assert any(overlap((window.top, window.left), one, 150) > limit for one in taken)
    free = windows(26.0, seed=seed)
    assert [(w.top, w.left, w.draw) for w in free] == [(w.top, w.left, w.draw) for w in tried]


@given(a=st.tuples(*[st.integers(0, 30)] * 2), b=st.tuples(*[st.integers(0, 30)] * 2))
def test_overlap_is_the_share_of_pixels_in_common(a: tuple[int, int], b: tuple[int, int]) -> None:
    covered = np.zeros((2, 50, 50), bool)
    for mask, (top, left) in zip(covered, (a, b), strict=True):
        mask[top : top + 20, left : left + 20] = True
    assert overlap(a, b, 20) == pytest.approx(covered.all(axis=0).sum() / 400)


@given(lots=st.lists(st.floats(0, 1), unique=True, max_size=30), count=st.integers(1, 40))
def test_the_smallest_lots_are_kept(lots: list[float], count: int) -> None:
    kept = [lot for lot in lots if lot < lot_limit(np.array(lots), count)]
    assert sorted(kept) == sorted(lots)[:count]


def test_seed_sequence_and_frame_each_change_the_windows() -> None:
    variants = [
        windows(),
        windows(seed=1),
        windows(triplet=("boats", 6)),
        windows(triplet=("boat", 9)),
    ]
    places = [tuple((w.top, w.left) for w in tried) for tried in variants]
    assert len(set(places)) == len(places)
    assert windows() == windows()


NAMES = st.sampled_from(["boat", "rhino", "flamingo"])
TRIPLETS = st.lists(st.tuples(NAMES, st.integers(0, 90)), unique=True, max_size=40)


@given(triplets=TRIPLETS, count=st.integers(1, 50), seed=st.integers(0, 9))
def test_a_draw_does_not_depend_on_the_order_of_the_listing(
    triplets: list[tuple[str, int]], count: int, seed: int
) -> None:
    drawn = draw_triplets(triplets, count, seed)
    assert drawn == draw_triplets(triplets[::-1], count, seed)
    assert len(drawn) == min(count, len(triplets))
    assert set(drawn) <= set(triplets)
    assert draw_triplets(triplets, None, seed) == sorted(triplets)


@given(triplets=TRIPLETS, more=TRIPLETS, count=st.integers(1, 50))
def test_another_sequence_displaces_some_triplets_and_brings_back_none(
    triplets: list[tuple[str, int]], more: list[tuple[str, int]], count: int
) -> None:
    before = set(draw_triplets(triplets, count, 42))
    after = set(draw_triplets({*triplets, *more}, count, 42))
    assert after & set(triplets) <= before


def test_a_draw_is_fair() -> None:
    triplets = [("boat", first) for first in range(20)]
    counts = np.zeros(20)
    for seed in range(1000):
        for _, first in draw_triplets(triplets, 5, seed):
            counts[first] += 1
    # Each is drawn with probability 1/4: 250 of 1,000, standard deviation 14.
    assert abs(counts - 250).max() < 70
