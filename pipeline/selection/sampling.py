"""Which windows of which triplets are tried, and with what outcome.

Pure and seeded: scores and settings in, judged windows out (`pipeline.selection.judging` has the
rules). Every random number comes from a
stream that depends on (seed, sequence, triplet) only, so adding or removing a sequence changes no
other choice, and asking for more tries keeps those that were made.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.selection.frame_changes import TripletChanges, black_share
from pipeline.selection.judging import REASONS, Reason, Windows, judge
from pipeline.settings import PatchSettings

Triplet = tuple[str, int]  # name of the sequence, index of the first frame


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
    Every window tried, with its outcome (see `pipeline.selection.judging.judge`).
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
    scores = [motion(top, left) for top, left, _ in places]
    black = [black_share(changes.bars, frame_size, top, left, size) for top, left, _ in places]
    codes = judge(
        Windows(
            triplet=np.zeros(len(places), np.int64),
            top=np.array([top for top, _, _ in places]),
            left=np.array([left for _, left, _ in places]),
            motion=np.array(scores),
            cut_distance=np.full(len(places), changes.cut_distance),
            flow_cut=np.full(len(places), changes.flow_cut),
            repeat=np.full(len(places), changes.repeat),
            brightness_change=np.full(len(places), changes.brightness_change),
            misfit=np.full(len(places), changes.misfit),
            black_share=np.array(black),
            draw=np.array([draw for _, _, draw in places]),
        ),
        settings,
    )
    return [
        Candidate(
            *triplet,
            attempt,
            top,
            left,
            scores[attempt],
            changes.cut_distance,
            changes.flow_cut,
            changes.repeat,
            changes.brightness_change,
            changes.misfit,
            black[attempt],
            draw,
            lots[attempt],
            REASONS[int(code)],
        )
        for attempt, ((top, left, draw), code) in enumerate(zip(places, codes, strict=True))
    ]
