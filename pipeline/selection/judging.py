"""Why each window is taken or refused: the rules alone, on columns of numbers.

Pure. `sample` judges the windows of one triplet at a time with them, and whoever asks what other
settings would take judges all windows of a store at once: the same functions, the same answers.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np
from numba import njit
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
UNTRIED = len(REASONS)
"""The code of a window that does not count as tried."""
# As plain numbers, which are all that compiled code knows.
_TAKEN = CODES[Reason.TAKEN]
_JUMP_CUT = CODES[Reason.JUMP_CUT]
_REPEATED_FRAME = CODES[Reason.REPEATED_FRAME]
_BRIGHTNESS = CODES[Reason.BRIGHTNESS]
_MISFIT = CODES[Reason.MISFIT]
_BLACK_BARS = CODES[Reason.BLACK_BARS]
_LITTLE_MOTION = CODES[Reason.LITTLE_MOTION]
_UNKNOWN_MOTION = CODES[Reason.UNKNOWN_MOTION]
_ENOUGH_TAKEN = CODES[Reason.ENOUGH_TAKEN]
_OVERLAP = CODES[Reason.OVERLAP]


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


def judge(
    windows: Windows, settings: PatchSettings, tried: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """The outcome of every window within its triplet, as codes (see `REASONS`), uint8 ``[n]``.

    A window is refused if the triplet spans a jump cut, holds a repeated frame, or is beyond one of
    the limits that are set (brightness, fit, black bars); or by chance: it is accepted with
    probability min(1, motion / scale), unless it overlaps too much with one accepted before, until
    enough are taken. What a sequence or the user refuses on top of that is not judged here.

    ``tried`` says which windows there are at all, bool ``[n]``; others have the code `UNTRIED`.
    """
    codes = np.full(len(windows.motion), UNTRIED, np.uint8)
    limits = (
        settings.repeat_threshold,
        settings.max_brightness_change,
        settings.max_misfit,
        settings.max_black_share,
    )
    given: list[Any] = [
        *(_column(getattr(windows, field.name)) for field in fields(windows)),
        _column(np.ones(len(codes), bool) if tried is None else tried),
        settings.window == "random",
        settings.motion_scale,
        settings.cut_threshold,
        settings.flow_cut_threshold,
        # Nothing is beyond a limit that is not a number.
        *(np.nan if limit is None else float(limit) for limit in limits),
        settings.max_taken,
        settings.max_overlap,
        settings.patch_size,
        codes,
    ]
    _judge(*given)
    return codes


def _column(values: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to, whether the values can or not: one compiled function."""
    column = np.ascontiguousarray(values).view()
    column.flags.writeable = False
    return column


@njit(cache=True, nogil=True, error_model="numpy")
def _judge(
    triplet: NDArray[np.int64],
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    motion: NDArray[np.float64],
    cut_distance: NDArray[np.float64],
    flow_cut: NDArray[np.float64],
    repeat: NDArray[np.float64],
    brightness_change: NDArray[np.float64],
    misfit: NDArray[np.float64],
    black_share: NDArray[np.float64],
    draw: NDArray[np.float64],
    tried: NDArray[np.bool_],
    random: bool,
    scale: float,
    most_cut: float,
    most_flow_cut: float,
    least_repeat: float,
    most_brightness: float,
    most_misfit: float,
    most_black: float,
    max_taken: int,
    max_overlap: float,
    size: int,
    codes: NDArray[np.uint8],
) -> None:
    """Go through the windows one after the other and write the outcome of each tried one."""
    # Those accepted of the triplet at hand.
    accepted = np.empty(min(max_taken, len(codes)), np.int64)
    count = 0
    for i in range(len(codes)):
        if i > 0 and triplet[i] != triplet[i - 1]:
            count = 0
        if not tried[i]:
            continue
        # Scores by flow are there where cuts were measured with that method.
        by_flow = not np.isnan(flow_cut[i])
        if (by_flow and flow_cut[i] > most_flow_cut) or (
            not by_flow and cut_distance[i] > most_cut
        ):
            codes[i] = _JUMP_CUT
        elif repeat[i] < least_repeat:
            codes[i] = _REPEATED_FRAME
        elif brightness_change[i] > most_brightness:
            codes[i] = _BRIGHTNESS
        elif misfit[i] > most_misfit:
            codes[i] = _MISFIT
        elif black_share[i] > most_black:
            codes[i] = _BLACK_BARS
        elif not random:
            codes[i] = _TAKEN
        elif np.isnan(motion[i]):
            codes[i] = _UNKNOWN_MOTION
        elif draw[i] >= motion[i] / scale:
            codes[i] = _LITTLE_MOTION
        elif count >= max_taken:
            codes[i] = _ENOUGH_TAKEN
        else:
            codes[i] = _TAKEN
            for j in accepted[:count]:
                height = max(size - abs(top[i] - top[j]), 0)
                width = max(size - abs(left[i] - left[j]), 0)
                if height * width / size**2 > max_overlap:
                    codes[i] = _OVERLAP
                    break
            if codes[i] == _TAKEN:
                accepted[count] = i
                count += 1


def _groups(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each run of equal values starts, and to which run each value belongs."""
    first = np.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    return np.flatnonzero(first), np.cumsum(first) - 1


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
