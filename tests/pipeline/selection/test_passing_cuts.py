"""Cuts found while frames pass are those found when all are at hand."""

import pytest

from pipeline.frames.sequences import Frame, FrameSequence
from pipeline.selection.flow_cuts import REACH, find_flow_cuts
from pipeline.selection.jump_cuts import DEFAULT_THRESHOLD, find_cuts
from pipeline.selection.passing_cuts import with_cuts
from pipeline.settings import DEFAULT_FLOW_CUT_THRESHOLD, CutMethod

LIMITS: dict[CutMethod, float] = {
    "histogram": DEFAULT_THRESHOLD,
    "flow": DEFAULT_FLOW_CUT_THRESHOLD,
}


@pytest.fixture(scope="module")
def frames(bikes_clip: FrameSequence) -> list[Frame]:
    """Frames 20 to 79 of bikes, with cuts after its frames 29 and 75, at a quarter of the size."""
    return [frame[::4, ::4].copy() for frame in bikes_clip.read(20, 80)]


@pytest.mark.parametrize("method", LIMITS)
def test_the_cuts_of_a_clip_are_marked(method: CutMethod, frames: list[Frame]) -> None:
    marked = list(with_cuts(range(60), frames.__getitem__, method, LIMITS[method]))
    assert [index for index, _ in marked] == list(range(60))
    assert [index for index, cut in marked if cut] == [9, 55]


@pytest.mark.parametrize("method", LIMITS)
@pytest.mark.parametrize("length", range(3 * REACH + 2))
def test_a_clip_of_any_length_is_marked_as_if_it_were_read_whole(
    length: int, method: CutMethod, frames: list[Frame]
) -> None:
    piece = frames[5 : 5 + length]
    find = {"histogram": find_cuts, "flow": find_flow_cuts}[method]
    marked = list(with_cuts(piece, lambda frame: frame, method, LIMITS[method]))
    assert len(marked) == length
    assert [index for index, (_, cut) in enumerate(marked) if cut] == find(piece)


def test_without_a_method_no_frame_is_looked_at(frames: list[Frame]) -> None:
    def never(index: int) -> Frame:
        raise AssertionError("the picture was asked for")

    assert list(with_cuts(range(3), never, None, 1.0)) == [(0, False), (1, False), (2, False)]


def test_few_frames_are_held_at_a_time(frames: list[Frame]) -> None:
    read = 0

    def reading():
        nonlocal read
        for frame in frames:
            read += 1
            yield frame

    marked = with_cuts(reading(), lambda frame: frame, "flow", LIMITS["flow"])
    for position, _ in enumerate(marked, start=1):
        assert read - position <= REACH + 1
