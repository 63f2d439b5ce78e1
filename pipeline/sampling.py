"""Which windows of which triplets become patches.

Pure and seeded: scores and settings in, chosen windows out. Every random number comes from a
stream that depends on (seed, sequence, triplet) only, so adding or removing a sequence changes no
other choice, and asking for more tries keeps those that were made.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from pipeline.settings import PatchSettings

Triplet = tuple[str, int]  # name of the sequence, index of the first frame


class Reason(StrEnum):
    """Why a window was taken or refused."""

    TAKEN = "taken"
    JUMP_CUT = "jump cut"
    LITTLE_MOTION = "little motion"
    UNKNOWN_MOTION = "unknown motion"
    ENOUGH_TAKEN = "enough taken"


@dataclass(frozen=True)
class Candidate:
    """A window that was tried.

    Attributes
    ----------
    sequence, first_frame : the triplet.
    attempt : how many windows of the triplet were tried before.
    top, left : corner of the window in pixels.
    motion : motion score in pixels; NaN where it is unknown.
    cut_distance : the triplet's largest histogram distance over channels and neighbouring frames.
    draw : the uniform random number (0..1) that motion / scale was compared with.
    reason : the outcome.
    """

    sequence: str
    first_frame: int
    attempt: int
    top: int
    left: int
    motion: float
    cut_distance: float
    draw: float
    reason: Reason


def random_stream(seed: int, sequence: str, first_frame: int) -> np.random.Generator:
    """The triplet's own stream of random numbers."""
    name = int.from_bytes(hashlib.sha256(sequence.encode()).digest()[:16], "big")
    return np.random.default_rng([seed, name, first_frame])


def draw_triplets(triplets: Iterable[Triplet], count: int | None, seed: int) -> list[Triplet]:
    """Draw ``count`` triplets (``None``, or more than there are: all) at random, sorted.

    Each triplet has a random rank that depends on the seed and the triplet only, and those of
    lowest rank are drawn: the same on every machine and in any order of listing, and another
    sequence in the dataset displaces some but reshuffles none.
    """
    ranked = sorted(triplets, key=lambda triplet: (random_stream(seed, *triplet).random(), triplet))
    return sorted(ranked[:count])


def sample_triplet(
    triplet: Triplet,
    frame_size: tuple[int, int],
    motion: Callable[[int, int], float],
    cut_distance: float,
    settings: PatchSettings,
) -> list[Candidate]:
    """Try windows of one triplet, in the order of their random numbers.

    Parameters
    ----------
    triplet : name of the sequence and first frame.
    frame_size : height and width of the frames in pixels, at least the patch size.
    motion : motion in pixels of the window at (top, left).
    cut_distance : largest histogram distance between the triplet's neighbouring frames.
    settings : how windows are drawn and accepted.

    Returns
    -------
    Every window tried, with its outcome. A window is refused if the triplet spans a jump cut, or
    by chance: it is accepted with probability min(1, motion / scale), until enough are taken.
    """
    rows = frame_size[0] - settings.patch_size + 1
    columns = frame_size[1] - settings.patch_size + 1
    if settings.window == "centre":
        places: Sequence[tuple[int, int, float]] = [((rows - 1) // 2, (columns - 1) // 2, 0.0)]
    else:
        # Row by row: the first tries are the same however many there are.
        uniform = random_stream(settings.seed, *triplet).random((settings.tries, 3))
        places = [(int(y * rows), int(x * columns), float(draw)) for y, x, draw in uniform]
    candidates: list[Candidate] = []
    taken = 0
    for attempt, (top, left, draw) in enumerate(places):
        score = motion(top, left)
        reason = _judge(score, cut_distance, draw, taken, settings)
        taken += reason is Reason.TAKEN
        candidates.append(
            Candidate(*triplet, attempt, top, left, score, cut_distance, draw, reason)
        )
    return candidates


def _judge(
    motion: float, cut_distance: float, draw: float, taken: int, settings: PatchSettings
) -> Reason:
    if cut_distance > settings.cut_threshold:
        return Reason.JUMP_CUT
    if settings.window == "centre":
        return Reason.TAKEN
    if np.isnan(motion):
        return Reason.UNKNOWN_MOTION
    if draw >= motion / settings.motion_scale:
        return Reason.LITTLE_MOTION
    if taken >= settings.max_taken:
        return Reason.ENOUGH_TAKEN
    return Reason.TAKEN
