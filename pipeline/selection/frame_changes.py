"""What changes from frame to frame, beyond the colours: repeats, brightness, black bars, flow.

The measures are taken on frames reduced to about 160x90 pixels of luma, where the noise of sensors
and codecs has averaged out and a flow costs a millisecond or two. They are kept beside the
histogram distances, and thresholds are applied later, so they can be retuned without decoding.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.frames.sequences import Frame

# Pixels of a reduced frame: 160x90, whatever the shape.
REDUCED_PIXELS = 160 * 90
# The part of the reduced frame, of those pixels that change most, over which the change is
# averaged: a small thing that moves before a still background counts, a noisy pixel does not.
CHANGING_PART = 0.1
# Luma (0..255) up to which a pixel belongs to a black bar: black of 16, and what codecs make of it.
BLACK_LUMA = 32
# Height and width below which a reduced frame is not reduced further; DIS needs patches of 8.
SMALLEST_SIDE = 32

# Columns of the cuts table, in this order after those of the histograms.
CHANGES = (
    "change",
    "difference",
    "brightness",
    "bar_top",
    "bar_bottom",
    "bar_left",
    "bar_right",
)
FITS = ("residual", "misfit")

Luma = NDArray[np.uint8]


@dataclass(frozen=True)
class Bars:
    """Black bars at the four edges of a frame, in pixels; a black frame is bar altogether."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class TripletChanges:
    """What changes inside a triplet.

    Attributes
    ----------
    cut_distance : largest histogram distance over channels and neighbouring frames.
    flow_cut : larger of the pairs' `pipeline.selection.flow_cuts.cut_scores`; NaN if not measured.
    repeat : `repeat_ratio`.
    brightness_change : largest change of the mean luma between neighbouring frames, in levels.
    misfit : mean error of the middle frame made from the outer two, in levels; NaN if not measured.
    bars : black bars that all three frames have, in pixels.
    """

    cut_distance: float
    flow_cut: float
    repeat: float
    brightness_change: float
    misfit: float
    bars: Bars


def luma(frame: Frame) -> Luma:
    """Luma of a uint8 RGB frame ``[H, W, 3]`` (BT.601 weights), uint8 ``[H, W]``."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)


def reduce(picture: Luma) -> Luma:
    """A picture averaged down to about `REDUCED_PIXELS`; a smaller one as it is."""
    height, width = picture.shape
    scale = min(1.0, (REDUCED_PIXELS / (height * width)) ** 0.5)
    size = (max(round(width * scale), SMALLEST_SIDE), max(round(height * scale), SMALLEST_SIDE))
    reduced = np.empty(size[::-1], np.uint8)
    _average_areas(np.ascontiguousarray(picture), reduced)
    return reduced


@njit(cache=True, nogil=True)
def _average_areas(picture: Luma, reduced: Luma) -> None:
    """Each pixel the mean of the area that it covers, rounded; what it covers in part counts so.

    As OpenCV's INTER_AREA, but in integers, and several times as fast where the sides are no
    multiples.
    """
    (height, width), (rows, columns) = picture.shape, reduced.shape
    line = np.empty(width, np.uint32)
    # Lengths are counted in parts of a pixel, so many that every border falls between two.
    left = np.arange(columns) * width
    first, last = left // columns, (left + width - 1) // columns
    before, behind = left - first * columns, (last + 1) * columns - (left + width)
    scale = 1 / (height * width)
    for row in range(rows):
        top, bottom = row * height, (row + 1) * height
        line[:] = 0
        for y in range(top // rows, -(-bottom // rows)):
            share = np.uint32(min(bottom, (y + 1) * rows) - max(top, y * rows))
            for x in range(width):
                line[x] += np.uint32(share * np.uint32(picture[y, x]))
        for column in range(columns):
            whole = np.int64(0)
            for x in range(first[column], last[column] + 1):
                whole += np.int64(line[x])
            total = columns * whole - before[column] * np.int64(line[first[column]])
            total -= behind[column] * np.int64(line[last[column]])
            reduced[row, column] = np.uint8(np.rint(total * scale))


def change(a: Luma, b: Luma) -> tuple[float, float]:
    """Mean absolute difference of two reduced frames, in levels (0..255).

    Returns that of the pixels that differ most, and that of all.
    """
    largest = max(int(a.size * CHANGING_PART), 1)
    of_largest, of_all = _sums_of_differences(
        np.ascontiguousarray(a).reshape(-1), np.ascontiguousarray(b).reshape(-1), largest
    )
    return of_largest / largest, of_all / a.size


@njit(cache=True, nogil=True)
def _sums_of_differences(a: Luma, b: Luma, largest: int) -> tuple[int, int]:
    """The sum of so many largest absolute differences of values in a row, and the sum of all."""
    # As in `jump_cuts`, neighbours count in tables of their own.
    tables = np.zeros((4, 256), np.int64)
    in_fours = len(a) // 4 * 4
    for place in range(0, in_fours, 4):
        for part in range(4):
            tables[part, abs(np.int64(a[place + part]) - np.int64(b[place + part]))] += 1
    for place in range(in_fours, len(a)):
        tables[0, abs(np.int64(a[place]) - np.int64(b[place]))] += 1
    counts = tables[0] + tables[1] + tables[2] + tables[3]
    of_largest = of_all = 0
    left = largest
    for level in range(255, 0, -1):
        of_all += level * counts[level]
        of_largest += level * min(left, counts[level])
        left -= min(left, counts[level])
    return of_largest, of_all


def black_bars(picture: Luma) -> Bars:
    """The rows and columns at the edges that hold nothing brighter than `BLACK_LUMA`."""
    height, width = picture.shape
    # Most pictures have none, which one look at the outermost lines tells.
    top = bottom = left = right = 0
    if _black(picture[0]) or _black(picture[-1]):
        rows = np.flatnonzero(cv2.reduce(picture, 1, cv2.REDUCE_MAX).ravel() > BLACK_LUMA)
        if not len(rows):
            return Bars(height, 0, width, 0)
        top, bottom = int(rows[0]), height - 1 - int(rows[-1])
    if _black(picture[:, 0]) or _black(picture[:, -1]):
        columns = np.flatnonzero(cv2.reduce(picture, 0, cv2.REDUCE_MAX).ravel() > BLACK_LUMA)
        left, right = int(columns[0]), width - 1 - int(columns[-1])
    return Bars(top, bottom, left, right)


def _black(line: Luma) -> bool:
    return int(line.max()) <= BLACK_LUMA


class Warp:
    """One frame made from another after a small flow.

    The flow is OpenCV's DIS (fast preset) of two reduced frames; it is not the flow by which motion
    is scored.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(1)
        self._grid = np.zeros((0, 0, 2), np.float32)

    def error(self, source: Luma, target: Luma) -> Luma:
        """Absolute difference of ``target`` and what ``source`` makes of it, in levels."""
        height, width = target.shape
        if self._grid.shape[:2] != (height, width):
            across, down = np.meshgrid(np.arange(width), np.arange(height))
            self._grid = np.dstack([across, down]).astype(np.float32)
        # The stubs of OpenCV want the flow to start from, which may be None.
        place = self._grid + self._flow.calc(target, source, None)  # type: ignore
        made = cv2.remap(
            source,
            place[..., 0],
            place[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(cv2.absdiff(made, target), np.uint8)


class ChangeMeter:
    """Measures of neighbouring frames, that are shown one after another.

    Parameters
    ----------
    fits : whether `FITS` are measured too, which needs two small flows a frame.
    """

    def __init__(self, fits: bool) -> None:
        self._warp = Warp() if fits else None
        self._before: tuple[Luma, float, Bars] | None = None
        self._into_middle: Luma | None = None
        self.rows: list[list[float]] = []

    def add(self, frame: Frame) -> None:
        """Show the next frame; from the second on, ``rows`` grows by one."""
        picture = luma(frame)
        now = reduce(picture), float(cv2.mean(picture)[0]), black_bars(picture)
        if self._before is not None:
            (small, brightness, bars), (later, later_brightness, later_bars) = self._before, now
            row: list[float] = [*change(small, later), later_brightness - brightness]
            row += [
                min(bars.top, later_bars.top),
                min(bars.bottom, later_bars.bottom),
                min(bars.left, later_bars.left),
                min(bars.right, later_bars.right),
            ]
            row += self._fits(small, later)
            self.rows.append(row)
        self._before = now

    def _fits(self, small: Luma, later: Luma) -> list[float]:
        if self._warp is None:
            return [np.nan, np.nan]
        forward, backward = self._warp.error(small, later), self._warp.error(later, small)
        if self._into_middle is not None:
            # What the outer two make of the middle frame; where one has it covered, the other
            # may show it.
            best = np.minimum(self._into_middle, backward)
            self.rows[-1][-1] = float(best.mean())
        self._into_middle = forward
        return [min(float(forward.mean()), float(backward.mean())), np.nan]


def frame_changes(frames: Iterable[Frame], fits: bool) -> NDArray[np.float32]:
    """Measures of every neighbouring pair of frames.

    Returns
    -------
    float32 ``[number of frames - 1, 9]``, the columns `CHANGES` and `FITS`. Of row ``i``:

    ``change`` : mean absolute difference of frames ``i`` and ``i + 1`` in the tenth of the picture
    that differs most, in levels (0..255);
    ``difference`` : the same over the whole picture;
    ``brightness`` : mean luma of frame ``i + 1`` less that of frame ``i``, in levels;
    ``bar_top`` … ``bar_right`` : black bars that both frames have, in pixels;
    ``residual`` : mean absolute error of one frame made from the other after flow, in the better of
    the two directions, in levels;
    ``misfit`` : the same for frame ``i + 1`` made from frames ``i`` and ``i + 2``, from the better
    of both at each pixel; NaN in the last row.

    The last two are NaN unless ``fits``.
    """
    meter = ChangeMeter(fits)
    for frame in frames:
        meter.add(frame)
    return np.array(meter.rows, np.float32).reshape(-1, len(CHANGES) + len(FITS))


def repeat_ratio(changes: NDArray[np.floating]) -> float:
    """How alike a triplet's nearer two frames are, against the other two (0..1).

    ``changes`` are those of its two pairs of frames. 0: one frame is the other, to the bit of the
    reduced frames; about 1: motion goes on evenly. A copy that was encoded again, or has noise of
    its own, comes close to 0 if the rest moves more than the noise.
    """
    smaller, larger = float(np.min(changes)), float(np.max(changes))
    return smaller / larger if larger > 0 else 0.0


def black_share(bars: Bars, frame_size: tuple[int, int], top: int, left: int, size: int) -> float:
    """The part (0..1) of the window of ``size`` x ``size`` at (``top``, ``left``) that is bars."""
    height = min(top + size, frame_size[0] - bars.bottom) - max(top, bars.top)
    width = min(left + size, frame_size[1] - bars.right) - max(left, bars.left)
    return 1 - max(height, 0) * max(width, 0) / size**2
