"""Optical flow between two frames."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Frame

Flow = NDArray[np.float32]


def compute_flow(
    first: Frame,
    third: Frame,
    layers: int = 3,
    averaging_block_size: int = 2,
    max_flow: int = 4,
) -> Flow:
    """SimpleFlow (Tao et al. 2012) from one frame to another, as OpenCV computes it.

    Parameters
    ----------
    first, third : uint8 RGB ``[H, W, 3]``, of one size.
    layers : levels of the image pyramid.
    averaging_block_size : radius in pixels of the block over which the matching cost is summed.
    max_flow : largest displacement searched at each level, in pixels of that level.

    Returns
    -------
    float32 ``[H, W, 2]``, (dx, dy) in pixels; NaN where no pixel around was matched with
    confidence.

    Raises
    ------
    ValueError
        if the frames are not uint8 RGB of one size.
    """
    for name, frame in (("first", first), ("third", third)):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"{name}: uint8 [H, W, 3] expected, not {frame.dtype} {frame.shape}")
    if first.shape != third.shape:
        raise ValueError(f"frames differ in size: {first.shape} and {third.shape}")
    # OpenCV's own threads would compete with the worker processes.
    cv2.setNumThreads(1)
    flow = cv2.optflow.calcOpticalFlowSF(
        np.ascontiguousarray(first[..., ::-1]),
        np.ascontiguousarray(third[..., ::-1]),
        layers,
        averaging_block_size,
        max_flow,
    )
    return np.asarray(flow, np.float32)
