"""When the frames of the new video are shown, and between which of the source they lie."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model.video.pictures import Picture
from pipeline.errors import MidframeError
from pipeline.selection.frame_changes import change, luma, reduce

# Frames on either side that tell how much changes usually, and how much less a repeat changes.
NEIGHBOURS = 6
REPEAT_SHARE = 0.2
# A picture that is shown longer than so many frames stands still, and is no repeat.
LONGEST_RUN = 5
# A new frame this near to one of the source, in units of the source's time base or as a share of
# the distance, is that frame: times in files are rounded.
NEAR_UNITS, NEAR_SHARE = 1, Fraction(1, 20)


@dataclass(frozen=True)
class Instant:
    """A frame to be made: ``time`` is 0 for the first of two, 1 for the second; ``pts`` and
    ``duration`` are in units of the new time base."""

    pts: int
    duration: int
    time: Fraction


@dataclass(frozen=True)
class Interval:
    """From one frame to the next other one.

    Attributes
    ----------
    times : of the first frame, of its repeats, and of the second frame or of the end, in units of
        the source's time base.
    second : ``None`` behind the last frame.
    cut : whether a jump cut lies before the second frame.
    """

    first: Picture
    second: Picture | None
    times: tuple[int, ...]
    cut: bool = False


class Times:
    """So many frames for one of the source, at even distances."""

    def __init__(self, times: int, time_base: Fraction, rate: Fraction) -> None:
        if times < 2:
            raise MidframeError(f"times: must be 2 or more, not {times}")
        self._times = times
        self.time_base, self.rate = time_base / times, rate * times

    def instants(self, interval: Interval) -> Iterator[Instant]:
        """The frames from the first of an interval to just before the second."""
        times = interval.times
        moving = times if interval.second is not None else times[:-1]
        for here, there in pairwise(moving):
            for k in range(self._times):
                moment = here + Fraction(k * (there - here), self._times)
                share = (moment - times[0]) / (times[-1] - times[0])
                share = share if interval.second is not None else Fraction(0)
                yield Instant(here * self._times + k * (there - here), there - here, share)
        if interval.second is None:
            here, there = times[-2:]
            yield Instant(here * self._times, (there - here) * self._times, Fraction(0))


class Rate:
    """A constant number of frames a second, whatever the source's."""

    def __init__(self, rate: Fraction, time_base: Fraction) -> None:
        if rate <= 0:
            raise MidframeError(f"rate: must be above 0, not {rate}")
        self.time_base, self.rate = 1 / rate, rate
        self._ticks = time_base * rate

    def instants(self, interval: Interval) -> Iterator[Instant]:
        """The frames from the first of an interval to just before the second."""
        start, end = interval.times[0], interval.times[-1]
        near = min(Fraction(NEAR_UNITS), (end - start) * NEAR_SHARE)
        # What begins where the video ends, up to that rounding, is not begun.
        bound = end if interval.second is not None else end - near
        for number in range(_ceil(start * self._ticks), _ceil(bound * self._ticks)):
            after = number / self._ticks - start
            share = after / (end - start)
            if interval.second is None or after <= near:
                share = Fraction(0)
            elif end - start - after <= near:
                share = Fraction(1)
            yield Instant(number, 1, share)


def intervals(pictures: Iterable[Picture], replace: bool) -> Iterator[Interval]:
    """The ways from each frame to the next; with ``replace``, to the next that is no repeat."""
    first: Picture | None = None
    last: Picture | None = None
    times: list[int] = []
    gap = 1
    for picture, is_repeat in (
        _with_repeats(pictures) if replace else ((p, False) for p in pictures)
    ):
        if first is not None and last is not None:
            gap = picture.pts - times[-1]
            if not is_repeat:
                yield Interval(first, picture, (*times, picture.pts), last.cut_follows)
        if is_repeat:
            times.append(picture.pts)
        else:
            first, times = picture, [picture.pts]
        last = picture
    if first is not None and last is not None:
        # The file ends when the source does: its last frame stays as long as it did there.
        end = last.pts + (last.duration or gap)
        yield Interval(first, None, (*times, end))


def _with_repeats(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, bool]]:
    """Each picture, and whether it repeats the one before.

    A repeat changes little against its neighbours, after noise and compression too.
    """
    waiting: list[Picture] = []
    changes: list[float] = []
    before: NDArray[np.uint8] | None = None
    shown = run = 0

    def judged(at: int) -> bool:
        nonlocal run
        around = changes[max(at - NEIGHBOURS, 1) : at + NEIGHBOURS + 1]
        usual = float(np.quantile(around, 0.8)) if at else 0.0
        found = at > 0 and (changes[at] == 0 or changes[at] < REPEAT_SHARE * usual)
        run = run + 1 if found else 0
        return 0 < run <= LONGEST_RUN

    for picture in pictures:
        small = reduce(luma(picture.levels))
        changes.append(0.0 if before is None else change(before, small)[0])
        before = small
        waiting.append(picture)
        if len(waiting) > NEIGHBOURS:
            yield waiting.pop(0), judged(shown)
            shown += 1
    for picture in waiting:
        yield picture, judged(shown)
        shown += 1


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
