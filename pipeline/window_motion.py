"""Motion of the windows of a flow."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Statistic = Literal["mean_magnitude", "norm_of_mean"]


class WindowMotion:
    """Motion of the windows of one triplet, from summed-area tables of its flow.

    Parameters
    ----------
    flow : ``[H, W, 2]``, (dx, dy) in pixels; pixels whose flow is unknown (NaN) count nowhere.
    """

    def __init__(self, flow: NDArray[np.floating]) -> None:
        known = np.isfinite(flow).all(axis=-1)
        if not known.all():
            flow = np.where(known[..., np.newaxis], flow, 0)
        dx, dy = flow[..., 0], flow[..., 1]
        planes = np.stack([dx, dy, np.hypot(dx, dy), known.astype(flow.dtype)], axis=-1)
        self._table = cv2.integral(planes, sdepth=cv2.CV_64F)

    def score(self, top: int, left: int, size: int, statistic: Statistic) -> float:
        """Motion in pixels of the window of ``size`` x ``size`` pixels at (``top``, ``left``).

        ``mean_magnitude`` is the mean length of the flow vectors, ``norm_of_mean`` the length of
        the mean vector. NaN if the flow of no pixel in the window is known.
        """
        table, bottom, right = self._table, top + size, left + size
        dx, dy, magnitude, known = (
            table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
        )
        if known < 0.5:
            return float("nan")
        if statistic == "mean_magnitude":
            return float(magnitude / known)
        return float(np.hypot(dx, dy) / known)
