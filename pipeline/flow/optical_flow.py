"""Optical flow between two frames, by one of several methods.

A method is a function of two frames and its own parameters, listed in `METHODS`. To add one, write
the function and give it a line there.

================== =====================================================================
method             what it is
================== =====================================================================
simpleflow         SimpleFlow (Tao et al. 2012), `pipeline.flow.simpleflow`: the default
simpleflow-opencv  the same by OpenCV, more than ten times slower; for comparison
dis                dense inverse search (Kroeger et al. 2016), by OpenCV; on luminance
farneback          polynomial expansion (Farnebäck 2003), by OpenCV; on luminance
================== =====================================================================

The methods rank windows by motion differently (`benchmarks/bench_flow.py` prints how much), so they
are choices, not stand-ins for each other.
"""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.flow.simpleflow import check_frames, simpleflow
from pipeline.frames.sequences import Frame

Flow = NDArray[np.float32]

_DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
# DIS matches patches of 8 x 8 pixels on halved images and refuses frames that hold too few of them.
_DIS_LEAST_SIDE = 16


def compute_flow(first: Frame, third: Frame, method: str = "simpleflow", **parameters: Any) -> Flow:
    """Dense optical flow from one frame to another.

    OpenCV is kept at one thread meanwhile, since callers run frame pairs in parallel. Its number of
    threads is one for the whole process: it is set when the first of several simultaneous calls
    begins, and set back when the last one ends.

    Parameters
    ----------
    first, third : uint8 [H, W, 3]
        RGB frames of one size.
    method : str
        One of `METHODS`.
    **parameters
        Of the method's function in this module, or of `pipeline.flow.simpleflow.simpleflow`.

    Returns
    -------
    float32 [H, W, 2]
        (dx, dy) in pixels: what is at (x, y) in `first` is at (x + dx, y + dy) in `third`. The
        SimpleFlow methods leave NaN where no pixel around is visible in both frames.

    Raises
    ------
    ValueError
        If the method or a parameter does not exist, if a parameter is out of its range, or if the
        frames are not uint8 [H, W, 3] of one size.
    """
    if method not in METHODS:
        raise ValueError(f"no flow method {method!r}, there are: {', '.join(METHODS)}")
    compute = METHODS[method]
    allowed = list(inspect.signature(compute).parameters)[2:]
    unknown = [name for name in parameters if name not in allowed]
    if unknown:
        raise ValueError(f"{method} has no parameter {unknown[0]!r}, it has: {', '.join(allowed)}")
    check_frames(first, third)
    with one_opencv_thread():
        return compute(first, third, **parameters)


def simpleflow_opencv(first: Frame, third: Frame, **parameters: float) -> Flow:
    """SimpleFlow by OpenCV; parameters as of `pipeline.flow.simpleflow.simpleflow`."""
    given = inspect.signature(simpleflow).bind(first, third, **parameters)
    given.apply_defaults()
    try:
        flow = cv2.optflow.calcOpticalFlowSF(
            np.ascontiguousarray(first), np.ascontiguousarray(third), *given.args[2:]
        )
    except cv2.error as error:
        raise ValueError(
            f"OpenCV's SimpleFlow refuses frames of {list(first.shape)} with "
            f"{given.arguments['layers']} layers: "
            f"{error.err}"
        ) from error
    return np.asarray(flow, np.float32)


def dis(first: Frame, third: Frame, preset: str = "medium") -> Flow:
    """Dense inverse search; frames under 16 pixels are extended by their edges for it."""
    if preset not in _DIS_PRESETS:
        raise ValueError(f"no DIS preset {preset!r}, there are: {', '.join(_DIS_PRESETS)}")
    rows, cols = first.shape[:2]
    grey = [
        cv2.copyMakeBorder(
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY),
            0,
            max(0, _DIS_LEAST_SIDE - rows),
            0,
            max(0, _DIS_LEAST_SIDE - cols),
            cv2.BORDER_REPLICATE,
        )
        for frame in (first, third)
    ]
    # The stubs of OpenCV want the flow to start from, which may be None.
    flow = cv2.DISOpticalFlow.create(_DIS_PRESETS[preset]).calc(*grey, None)  # type: ignore
    return np.ascontiguousarray(flow[:rows, :cols], np.float32)


def farneback(
    first: Frame,
    third: Frame,
    pyramid_scale: float = 0.5,
    levels: int = 3,
    window: int = 15,
    iterations: int = 3,
    neighbourhood: int = 5,
    sigma: float = 1.2,
) -> Flow:
    """Farnebäck's method; parameters as of ``cv2.calcOpticalFlowFarneback``, in order."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, third)]
    flow = cv2.calcOpticalFlowFarneback(
        *grey,
        None,  # type: ignore
        pyramid_scale,
        levels,
        window,
        iterations,
        neighbourhood,
        sigma,
        0,
    )
    return np.asarray(flow, np.float32)


# Named one by one, so that `compute_flow` tells which there are.
simpleflow_opencv.__signature__ = inspect.signature(simpleflow)  # type: ignore[attr-defined]

METHODS: dict[str, Callable[..., Flow]] = {
    "simpleflow": simpleflow,
    "simpleflow-opencv": simpleflow_opencv,
    "dis": dis,
    "farneback": farneback,
}

_threads_lock = threading.Lock()
_calls_under_way = 0
_threads_before = 0


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV at one thread meanwhile, also when several callers overlap."""
    global _calls_under_way, _threads_before
    with _threads_lock:
        if _calls_under_way == 0:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _calls_under_way += 1
    try:
        yield
    finally:
        with _threads_lock:
            _calls_under_way -= 1
            if _calls_under_way == 0:
                cv2.setNumThreads(_threads_before)
