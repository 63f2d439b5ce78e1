"""Jump cuts of a video that passes by: each frame with whether a cut follows it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from pipeline.frames.sequences import Frame
from pipeline.selection.flow_cuts import REACH, cut_scores
from pipeline.selection.frame_changes import CHANGES, FITS, ChangeMeter
from pipeline.selection.jump_cuts import histogram_distance
from pipeline.settings import CutMethod

T = TypeVar("T")


def with_cuts(
    frames: Iterable[T], rgb: Callable[[T], Frame], method: CutMethod | None, threshold: float
) -> Iterator[tuple[T, bool]]:
    """Yield each frame, and whether a cut lies between it and the next one.

    Parameters
    ----------
    frames : of any type; no more than `REACH` + 2 of them are held at a time.
    rgb : makes the uint8 RGB picture ``[H, W, 3]`` of a frame; all of one size.
    method, threshold : how cuts are found, and above what; a method of None finds none.
    """
    if method is None:
        yield from ((frame, False) for frame in frames)
    elif method == "histogram":
        yield from _by_histograms(frames, rgb, threshold)
    else:
        yield from _by_flow(frames, rgb, threshold)


def _by_histograms(
    frames: Iterable[T], rgb: Callable[[T], Frame], threshold: float
) -> Iterator[tuple[T, bool]]:
    before: tuple[T, Frame] | None = None
    for frame in frames:
        picture = rgb(frame)
        if before is not None:
            yield before[0], float(histogram_distance(before[1], picture).max()) > threshold
        before = frame, picture
    if before is not None:
        yield before[0], False


def _by_flow(
    frames: Iterable[T], rgb: Callable[[T], Frame], threshold: float
) -> Iterator[tuple[T, bool]]:
    meter = ChangeMeter(fits=True)
    held: deque[T] = deque()
    for frame in frames:
        held.append(frame)
        meter.add(rgb(frame))
        if len(held) == REACH + 2:
            # Of the oldest held frame's pair, as many pairs before it as after it are measured.
            yield held.popleft(), bool(_scores(meter)[-REACH - 1] > threshold)
            del meter.rows[: -2 * REACH]
    scores = _scores(meter)
    for position, frame in enumerate(held, start=1 - len(held)):
        yield frame, bool(position and scores[position] > threshold)


def _scores(meter: ChangeMeter) -> np.ndarray:
    rows = np.array(meter.rows, np.float32).reshape(-1, len(CHANGES) + len(FITS))
    return cut_scores(rows[:, len(CHANGES)], rows[:, CHANGES.index("difference")])
