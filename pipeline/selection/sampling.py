"""Which windows of which triplets become patches.

Pure and seeded: scores and settings in, chosen windows out. Every random number comes from a
stream that depends on (seed, sequence, triplet) only, so adding or removing a sequence changes no
other choice, and asking for more tries keeps those that were made.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.selection.frame_changes import TripletChanges, black_share
from pipeline.settings import PatchSettings

Triplet = tuple[str, int]  # name of the sequence, index of the first frame


class Reason(StrEnum):
    """Why a window was taken or refused."""

    TAKEN = "taken"
    JUMP_CUT = "jump cut"
    REPEATED_FRAME = "repeated frame"
    BRIGHTNESS = "brightness changes"
    MISFIT = "middle does not fit"
    BLACK_BARS = "black bars"
    LITTLE_MOTION = "little motion"
    UNKNOWN_MOTION = "unknown motion"
    ENOUGH_TAKEN = "enough taken"
    OVERLAP = "overlap"
    ENOUGH_OF_SEQUENCE = "enough of sequence"


@dataclass(frozen=True)
class Candidate:
    """A window that was tried.

    Attributes
    ----------
    sequence, first_frame : the triplet.
    attempt : how many windows of the triplet were tried before.
    top, left : corner of the window in pixels.
    motion : motion score in pixels; NaN where it is unknown.
    cut_distance, flow_cut, repeat, brightness_change, misfit : of the triplet, see
        `pipeline.selection.frame_changes.TripletChanges`.
    black_share : part of the window (0..1) that black bars cover.
    draw : the uniform random number (0..1) that motion / scale was compared with.
    lot : another one, by which windows are drawn where a sequence offers more than it may.
    reason : the outcome.
    """

    sequence: str
    first_frame: int
    attempt: int
    top: int
    left: int
    motion: float
    cut_distance: float
    flow_cut: float
    repeat: float
    brightness_change: float
    misfit: float
    black_share: float
    draw: float
    lot: float
    reason: Reason


def random_stream(seed: int, sequence: str, first_frame: int, *use: int) -> np.random.Generator:
    """The triplet's own stream of random numbers, or with ``use`` (1, 2 …) one of several more."""
    name = int.from_bytes(hashlib.sha256(sequence.encode()).digest()[:16], "big")
    return np.random.default_rng([seed, name, first_frame, *use])


def draw_triplets(triplets: Iterable[Triplet], count: int | None, seed: int) -> list[Triplet]:
    """Draw ``count`` triplets (``None``, or more than there are: all) at random, sorted.

    Each triplet has a random rank that depends on the seed and the triplet only, and those of
    lowest rank are drawn: the same on every machine and in any order of listing, and another
    sequence in the dataset displaces some but reshuffles none.
    """
    if count is None:
        return sorted(triplets)

    def rank(triplet: Triplet) -> tuple[float, Triplet]:
        return random_stream(seed, *triplet).random(), triplet

    return sorted(heapq.nsmallest(count, triplets, key=rank))


def sample_triplet(
    triplet: Triplet,
    frame_size: tuple[int, int],
    motion: Callable[[int, int], float],
    changes: TripletChanges,
    settings: PatchSettings,
) -> list[Candidate]:
    """Try windows of one triplet, in the order of their random numbers.

    Parameters
    ----------
    triplet : name of the sequence and first frame.
    frame_size : height and width of the frames in pixels, at least the patch size.
    motion : motion in pixels of the window at (top, left).
    changes : what changes between the triplet's frames.
    settings : how windows are drawn and accepted.

    Returns
    -------
    Every window tried, with its outcome. A window is refused if the triplet spans a jump cut, holds
    a repeated frame, or is beyond one of the limits that are set (brightness, fit, black bars); or
    by chance: it is accepted with probability min(1, motion / scale), unless it overlaps too much
    with one accepted before, until enough are taken.
    """
    size, stride = settings.patch_size, settings.patch_stride
    rows = (frame_size[0] - size) // stride + 1
    columns = (frame_size[1] - size) // stride + 1
    if settings.window == "centre":
        middle = [(length - size) // 2 // stride * stride for length in frame_size]
        places: Sequence[tuple[int, int, float]] = [(middle[0], middle[1], 0.0)]
    else:
        # Row by row: the first tries are the same however many there are.
        uniform = random_stream(settings.seed, *triplet).random((settings.tries, 3))
        places = [
            (int(y * rows) * stride, int(x * columns) * stride, float(draw))
            for y, x, draw in uniform
        ]
    lots = random_stream(settings.seed, *triplet, 1).random(len(places)).tolist()
    candidates: list[Candidate] = []
    taken: list[tuple[int, int]] = []
    unfit = _judge_triplet(changes, settings)
    for attempt, (top, left, draw) in enumerate(places):
        score = motion(top, left)
        black = black_share(changes.bars, frame_size, top, left, size)
        reason = unfit or _judge((top, left), score, black, draw, taken, settings)
        if reason is Reason.TAKEN:
            taken.append((top, left))
        candidates.append(
            Candidate(
                *triplet,
                attempt,
                top,
                left,
                score,
                changes.cut_distance,
                changes.flow_cut,
                changes.repeat,
                changes.brightness_change,
                changes.misfit,
                black,
                draw,
                lots[attempt],
                reason,
            )
        )
    return candidates


def _judge_triplet(changes: TripletChanges, settings: PatchSettings) -> Reason | None:
    """Why no window of a triplet is taken; ``None``: they are judged one by one."""

    def above(value: float, limit: float | None) -> bool:
        return limit is not None and value > limit

    # Scores by flow are there where cuts were measured with that method.
    if np.isnan(changes.flow_cut):
        cut = changes.cut_distance > settings.cut_threshold
    else:
        cut = changes.flow_cut > settings.flow_cut_threshold
    if cut:
        return Reason.JUMP_CUT
    if settings.repeat_threshold is not None and changes.repeat < settings.repeat_threshold:
        return Reason.REPEATED_FRAME
    if above(changes.brightness_change, settings.max_brightness_change):
        return Reason.BRIGHTNESS
    if above(changes.misfit, settings.max_misfit):
        return Reason.MISFIT
    return None


def _judge(
    place: tuple[int, int],
    motion: float,
    black: float,
    draw: float,
    taken: Sequence[tuple[int, int]],
    settings: PatchSettings,
) -> Reason:
    if settings.max_black_share is not None and black > settings.max_black_share:
        return Reason.BLACK_BARS
    if settings.window == "centre":
        return Reason.TAKEN
    if np.isnan(motion):
        return Reason.UNKNOWN_MOTION
    if draw >= motion / settings.motion_scale:
        return Reason.LITTLE_MOTION
    if len(taken) >= settings.max_taken:
        return Reason.ENOUGH_TAKEN
    if any(overlap(place, other, settings.patch_size) > settings.max_overlap for other in taken):
        return Reason.OVERLAP
    return Reason.TAKEN


def overlap(a: tuple[int, int], b: tuple[int, int], size: int) -> float:
    """The part of the area (0..1) that two windows of one ``size`` at (top, left) share."""
    height, width = (max(size - abs(one - other), 0) for one, other in zip(a, b, strict=True))
    return height * width / size**2


def lot_limit(lots: NDArray[np.float64], count: int) -> float:
    """The limit below which the ``count`` smallest ``lots`` lie (all, if there are no more)."""
    return float(np.partition(lots, count)[count]) if len(lots) > count else float("inf")
