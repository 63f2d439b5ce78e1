"""The frame at any time between two, by optical flow: no network, no weights, no GPU.

The traditional way of interpolating frames, which Niklaus et al. (2017) set their network against.
Dense inverse search (Kroeger et al. 2016, by OpenCV) finds the motion in both directions. Each
flow is carried to the wanted time; along each, both frames are warped there, which gives two
candidates (`model.video.warping.warp`); they are weighed by the inverse square of what their two
warped frames disagree about.

`docs/video.md` tells what it reaches, and what else was tried.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.video.warping import BICUBIC, MARGIN, blend, padded, warp
from pipeline.flow.optical_flow import one_opencv_thread

Array = NDArray[np.float32]

# Below this side, dense inverse search finds no patch on its coarsest level.
LEAST_SIDE = 32
CARRY_STEPS = 4
# Rows that a thread does at once; the same on all machines, so that sums are too.
BAND = 16
BLUR_RADIUS = 6
# Sum over three channels of a difference that is noise, squared.
NOISE_FLOOR = 1e-3
# Added, in the same unit, where the motion there and back differ: what is covered or uncovered.
PENALTY = 0.3
# Two warped frames that agree no better than the unwarped ones by this share are not warped.
USELESS = 0.95


@dataclass(frozen=True)
class FlowMethod:
    """How dense inverse search is set: scale 0 is full size, 1 half; stride in pixels."""

    finest_scale: int
    patch_stride: int


METHODS = {
    "flow": FlowMethod(finest_scale=0, patch_stride=3),
    "flow-fast": FlowMethod(finest_scale=1, patch_stride=3),
}


def predict_by_flow(
    first: NDArray[Any], third: NDArray[Any], time: float = 0.5, method: str = "flow"
) -> Array:
    """Predict the frame at a time between two.

    Parameters
    ----------
    first, third : RGB [H, W, 3] of one size and type: uint8, uint16, or float32 in 0..1.
    time : 0 < time < 1; 0.5 is the middle.
    method : one of `METHODS`.

    Returns
    -------
    float32 [H, W, 3] in 0..1, not rounded.

    Raises
    ------
    ValueError
        if time or method are none of these.
    """
    if not 0.0 < time < 1.0:
        raise ValueError(f"time: must lie between 0 and 1, not {time}")
    if method not in METHODS:
        raise ValueError(f"no method {method!r}, there are: {', '.join(METHODS)}")
    first, third = np.ascontiguousarray(first), np.ascontiguousarray(third)
    with one_opencv_thread():
        greys = [_grey(frame) for frame in (first, third)]
        flows = find_motion(greys[0], greys[1], METHODS[method])
        return _synthesise(first, third, flows, time, cv2.norm(greys[0], greys[1], cv2.NORM_L1))


def find_motion(
    first: NDArray[np.uint8], third: NDArray[np.uint8], method: FlowMethod
) -> list[Array]:
    """Flow from the first to the third grey frame, and back: float32 [H, W, 2] in pixels."""
    rows, cols = first.shape
    border = (0, max(LEAST_SIDE - rows, 0), 0, max(LEAST_SIDE - cols, 0))
    frames = [cv2.copyMakeBorder(frame, *border, cv2.BORDER_REPLICATE) for frame in (first, third)]

    def search(pair: list[Any]) -> Array:
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(method.finest_scale)
        search.setPatchStride(method.patch_stride)
        return np.asarray(search.calc(pair[0], pair[1], None), np.float32)  # type: ignore[call-overload]

    found = _pool().map(search, (frames, frames[::-1]))
    return [np.ascontiguousarray(flow[:rows, :cols]) for flow in found]


def _synthesise(
    first: NDArray[Any], third: NDArray[Any], flows: list[Array], time: float, still: float
) -> Array:
    """Warp and blend; ``still``: sum of the differences of the unwarped grey frames, in levels."""
    rows, cols = first.shape[:2]
    frames = list(_pool().map(padded, (first, third)))
    candidates = np.empty((2, rows, cols, 3), np.float32)
    disagreement = np.empty((2, rows, cols), np.float32)
    out = np.empty((rows, cols, 3), np.float32)

    def warp_band(band: tuple[int, int]) -> float:
        step, penalty = np.float32(time), np.float32(PENALTY)
        one, other = frames
        there, back = flows
        begin, end = band
        return float(warp(
            one, other, there, back, step, BICUBIC, begin, end, CARRY_STEPS, penalty,
            candidates, disagreement,
        ))  # fmt: skip

    def blend_band(band: tuple[int, int]) -> None:
        blend(candidates, disagreement, *band, np.float32(NOISE_FLOOR), out)

    bands = _bands(rows)
    agreed = sum(_pool().map(warp_band, bands)) * 255 / 3
    window = (2 * BLUR_RADIUS + 1,) * 2
    disagreement = np.stack(list(_pool().map(lambda one: cv2.blur(one, window), disagreement)))
    if agreed > USELESS * still:
        # A cut, a flash or noise: motion explains nothing, and a warped frame is no better.
        mean = cv2.addWeighted(frames[0], 1 - time, frames[1], time, 0.0)
        return _cropped(mean, rows, cols)
    list(_pool().map(blend_band, bands))
    return out


def _cropped(flat: Any, rows: int, cols: int) -> Array:
    wide = flat.reshape(rows + 2 * MARGIN, cols + 2 * MARGIN, 4)
    return np.ascontiguousarray(wide[MARGIN:-MARGIN, MARGIN:-MARGIN, :3])


def _grey(frame: NDArray[Any]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    if grey.dtype == np.uint8:
        return np.asarray(grey, np.uint8)
    scale = 255.0 if grey.dtype == np.float32 else 255.0 / 65535.0
    return np.asarray(cv2.convertScaleAbs(grey, alpha=scale), np.uint8)


def _threads() -> int:
    return max(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, 2)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    # Results do not depend on the number of threads: each of the rows is computed by itself.
    return ThreadPoolExecutor(min(_threads(), 8), thread_name_prefix="flow")


def _bands(rows: int) -> list[tuple[int, int]]:
    return [(row, min(row + BAND, rows)) for row in range(0, rows, BAND)]
