"""The frame at any time between two, by optical flow: no network, no weights, no GPU.

The traditional way of interpolating frames, which Niklaus et al. (2017) set their network against.
Dense inverse search finds the motion in both directions (`model.video.inverse_search`), and
overlapped blocks are moved along it to the wanted time (`model.video.warping`).

`docs/video.md` tells what it reaches, and what else was tried.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.video.inverse_search import find_flow, pyramid
from model.video.warping import SPLINE, compose, planar
from pipeline.flow.optical_flow import one_opencv_thread
from pipeline.processor import thread_count

Array = NDArray[np.float32]

# Rows that a thread does at once; the same on all machines, so that sums are too.
BAND = 96
# Moved samples that disagree by more than this share of what unmoved ones do explain nothing.
USELESS = 0.5


@dataclass(frozen=True)
class FlowMethod:
    """How far and how densely to search, and to compose.

    Attributes
    ----------
    finest_scale : of the search: 0 is full size, 1 half.
    search_stride, stride : distance of the patches, in pixels, of the search and of the frame made.
    iterations : steps of a patch's search, at most.
    """

    finest_scale: int
    search_stride: int
    stride: int
    iterations: int


METHODS = {
    "flow": FlowMethod(finest_scale=0, search_stride=3, stride=3, iterations=4),
    "flow-fast": FlowMethod(finest_scale=1, search_stride=3, stride=4, iterations=4),
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
        flows = find_motion(first, third, METHODS[method])
        return follow(first, third, flows, np.float32(time), METHODS[method].stride)


def find_motion(first: NDArray[Any], third: NDArray[Any], method: FlowMethod) -> list[Array]:
    """Flow from the first to the third RGB frame, and back.

    Returns
    -------
    Two of float32 [h, w, 2], at the size of the finest scale and in its pixels.
    """

    def levels(frame: NDArray[Any]) -> Any:
        return pyramid(_grey(frame), method.finest_scale)

    def search(pair: tuple[Any, Any]) -> Array:
        return find_flow(*pair, method.search_stride, method.iterations)

    one, other = _pool().map(levels, (first, third))
    return list(_pool().map(search, ((one, other), (other, one))))


def follow(
    first: NDArray[Any], third: NDArray[Any], flows: list[Array], time: np.float32, stride: int
) -> Array:
    """Make the frame at a time between two RGB frames, along the motion from each to the other.

    Parameters
    ----------
    first, third : as of `predict_by_flow`.
    flows : of `find_motion`, or float32 [H, W, 2] of another method.
    time : 0 < time < 1.
    stride : distance of the patches that it is made of, in pixels, up to 8.

    Returns
    -------
    float32 [H, W, 3] in 0..1.
    """
    rows = first.shape[0]
    one, other = _pool().map(planar, (first, third))
    out = np.empty(first.shape, np.float32)

    def band(begin: int) -> tuple[float, float]:
        end = min(begin + BAND, rows)
        there, back = flows
        moved, still = compose(
            (one.pixels, other.pixels), (one.spline, other.spline), there, back,
            time, stride, SPLINE, begin, end, out,
        )  # fmt: skip
        return float(moved), float(still)

    moved, still = np.sum(list(_pool().map(band, range(0, rows, BAND))), axis=0)
    if moved > USELESS * still:
        # A cut, a flash or noise: motion explains nothing, and a moved sample is no better.
        return _mean(first, third, time)
    return out


def _mean(first: NDArray[Any], third: NDArray[Any], time: np.float32) -> Array:
    peak = 1.0 if first.dtype == np.float32 else float(np.iinfo(first.dtype).max)
    one, other = (np.asarray(frame, np.float32) / np.float32(peak) for frame in (first, third))
    return np.asarray((1 - time) * one + time * other, np.float32)


def _grey(frame: NDArray[Any]) -> Array:
    """Luminance in levels of 0..255."""
    peak = 1.0 if frame.dtype == np.float32 else float(np.iinfo(frame.dtype).max)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return np.multiply(grey, np.float32(255.0 / peak), dtype=np.float32)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    # Results do not depend on the number of threads: each band of rows is computed by itself.
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="flow")
