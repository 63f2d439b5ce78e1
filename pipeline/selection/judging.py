"""Why each window is taken or refused: the rules alone, on columns of numbers.

Pure. `sample` judges the windows of one triplet at a time with them, and whoever asks what other
settings would take judges all windows of a store at once: the same functions, the same answers.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.settings import PatchSettings


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
    EXCLUDED = "excluded"


REASONS = tuple(Reason)
"""What the codes that `judge` returns stand for."""
CODES = {reason: code for code, reason in enumerate(REASONS)}


@dataclass(frozen=True)
class Windows:
    """Windows in the order in which they are tried, those of one triplet side by side.

    Attributes
    ----------
    triplet : number of the triplet, int64 ``[n]``, ascending from 0.
    top, left : corners in pixels, int64 ``[n]``.
    motion : in pixels, NaN where it is unknown, float64 ``[n]``.
    cut_distance, flow_cut, repeat, brightness_change, misfit : of the triplet, float64 ``[n]``; see
        `pipeline.selection.frame_changes.TripletChanges`.
    black_share : part of the window (0..1) that black bars cover, float64 ``[n]``.
    draw : uniform random number (0..1) that motion / scale is compared with, float64 ``[n]``.
    """

    triplet: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    motion: NDArray[np.float64]
    cut_distance: NDArray[np.float64]
    flow_cut: NDArray[np.float64]
    repeat: NDArray[np.float64]
    brightness_change: NDArray[np.float64]
    misfit: NDArray[np.float64]
    black_share: NDArray[np.float64]
    draw: NDArray[np.float64]


def judge(windows: Windows, settings: PatchSettings) -> NDArray[np.uint8]:
    """The outcome of every window within its triplet, as codes (see `REASONS`), uint8 ``[n]``.

    A window is refused if the triplet spans a jump cut, holds a repeated frame, or is beyond one of
    the limits that are set (brightness, fit, black bars); or by chance: it is accepted with
    probability min(1, motion / scale), unless it overlaps too much with one accepted before, until
    enough are taken. What a sequence or the user refuses on top of that is not judged here.
    """
    codes = np.full(len(windows.motion), CODES[Reason.TAKEN], np.uint8)
    if settings.window == "random":
        codes[windows.draw >= windows.motion / settings.motion_scale] = CODES[Reason.LITTLE_MOTION]
        codes[np.isnan(windows.motion)] = CODES[Reason.UNKNOWN_MOTION]
    # What comes last decides. An unknown number (NaN) is beyond no limit.
    for reason, value, limit in (
        (Reason.BLACK_BARS, windows.black_share, settings.max_black_share),
        (Reason.MISFIT, windows.misfit, settings.max_misfit),
        (Reason.BRIGHTNESS, windows.brightness_change, settings.max_brightness_change),
    ):
        if limit is not None:
            codes[value > limit] = CODES[reason]
    if settings.repeat_threshold is not None:
        codes[windows.repeat < settings.repeat_threshold] = CODES[Reason.REPEATED_FRAME]
    # Scores by flow are there where cuts were measured with that method.
    cut = np.where(
        np.isnan(windows.flow_cut),
        windows.cut_distance > settings.cut_threshold,
        windows.flow_cut > settings.flow_cut_threshold,
    )
    codes[cut] = CODES[Reason.JUMP_CUT]
    if settings.window == "random":
        passed = np.flatnonzero(codes == CODES[Reason.TAKEN])
        if settings.max_overlap < 1:
            codes[passed] = _apart(windows, passed, settings)
        else:
            ordinal = _ordinals(windows.triplet[passed])
            codes[passed[ordinal >= settings.max_taken]] = CODES[Reason.ENOUGH_TAKEN]
    return codes


def _apart(
    windows: Windows, passed: NDArray[np.int64], settings: PatchSettings
) -> NDArray[np.uint8]:
    """Outcomes of the windows ``passed`` of which none may overlap too much with one before it.

    In each round every triplet takes the first of its windows that is left, and those that overlap
    with it are out. That is to go through each triplet's windows one after the other, for all
    triplets at a time.
    """
    codes = np.full(len(passed), CODES[Reason.OVERLAP], np.uint8)
    triplet, top, left = (column[passed] for column in (windows.triplet, windows.top, windows.left))
    waiting = np.arange(len(passed))
    for _ in range(settings.max_taken):
        if not len(waiting):
            break
        starts, group = _groups(triplet[waiting])
        codes[waiting[starts]] = CODES[Reason.TAKEN]
        chosen = waiting[starts][group]
        shared = overlap(
            (top[waiting], left[waiting]), (top[chosen], left[chosen]), settings.patch_size
        )
        keep = shared <= settings.max_overlap
        keep[starts] = False
        waiting = waiting[keep]
    # After a triplet's last one nothing is looked at, whether it overlaps or not.
    taken = np.flatnonzero(codes == CODES[Reason.TAKEN])
    starts, group = _groups(triplet[taken])
    counts = np.diff(np.append(starts, len(taken)))
    ends = taken[starts + counts - 1][counts >= settings.max_taken]
    limit = np.full(int(triplet.max(initial=-1)) + 1, len(passed))
    limit[triplet[ends]] = ends
    codes[np.arange(len(passed)) > limit[triplet]] = CODES[Reason.ENOUGH_TAKEN]
    return codes


def _groups(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each run of equal values starts, and to which run each value belongs."""
    first = np.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    return np.flatnonzero(first), np.cumsum(first) - 1


def _ordinals(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal values stand before each one in its run."""
    starts, group = _groups(values)
    return np.arange(len(values)) - starts[group]


Place = tuple[int | NDArray[np.int64], int | NDArray[np.int64]]


def overlap(a: Place, b: Place, size: int) -> NDArray[np.float64]:
    """The part of the area (0..1) that two windows of one ``size`` at (top, left) share."""
    height, width = (
        np.maximum(size - np.abs(np.subtract(one, other)), 0)
        for one, other in zip(a, b, strict=True)
    )
    return np.asarray(height * width / size**2)


def lot_limit(lots: NDArray[np.float64], count: int) -> float:
    """The limit below which the ``count`` smallest ``lots`` lie (all, if there are no more)."""
    return float(np.partition(lots, count)[count]) if len(lots) > count else float("inf")


def limit_sequences(
    codes: NDArray[np.uint8],
    sequence: NDArray[np.int64],
    lots: NDArray[np.float64],
    count: int | None,
) -> None:
    """Refuse, in ``codes``, what is more than ``count`` windows taken of a sequence.

    Parameters
    ----------
    sequence : number of each window's sequence, int64 ``[n]``.
    lots : random numbers of the windows; the smallest ones of a sequence stay.
    """
    if count is None:
        return
    taken = np.flatnonzero(codes == CODES[Reason.TAKEN])
    order = taken[np.argsort(sequence[taken], kind="stable")]
    starts, _ = _groups(sequence[order])
    for group in np.split(order, starts[1:]):
        over = lots[group] >= lot_limit(lots[group], count)
        codes[group[over]] = CODES[Reason.ENOUGH_OF_SEQUENCE]
