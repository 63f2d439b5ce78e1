"""Motion of the windows of a flow."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Statistic = Literal["mean_magnitude", "norm_of_mean"]


class WindowMotion:
    """Motion of the windows of one triplet, from summed-area tables of its flow.

    A statistic's table is made when it is first asked for; a window then costs four look-ups.

    Parameters
    ----------
    flow : ``[H, W, 2]``, (dx, dy) in pixels; pixels whose flow is unknown (NaN) count nowhere.
    """

    def __init__(self, flow: NDArray[np.floating]) -> None:
        flow = np.ascontiguousarray(flow, np.float32)
        dx, dy = cv2.split(flow)
        # Not cv2.magnitude, whose last bit depends on where its arguments lie in memory.
        length = np.sqrt(dx * dx + dy * dy)
        unknown = ~np.isfinite(length)
        self._unknown = None
        if unknown.any():
            flow = np.where(unknown[..., np.newaxis], 0, flow)
            length = np.where(unknown, 0, length)
            self._unknown = cv2.integral(unknown.astype(np.uint8))
        self._summands = {"mean_magnitude": length, "norm_of_mean": flow}
        self._tables: dict[Statistic, NDArray[np.float64]] = {}

    def score(self, top: int, left: int, size: int, statistic: Statistic) -> float:
        """Motion in pixels of the window of ``size`` x ``size`` pixels at (``top``, ``left``).

        ``mean_magnitude`` is the mean length of the flow vectors, ``norm_of_mean`` the length of
        the mean vector. NaN if the flow of no pixel in the window is known.
        """

        def total(table: NDArray[np.number]) -> NDArray[np.number]:
            bottom, right = top + size, left + size
            return np.asarray(
                table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
            )

        known = size * size - (0 if self._unknown is None else int(total(self._unknown)))
        if known == 0:
            return float("nan")
        if statistic not in self._tables:
            table = cv2.integral(self._summands[statistic], sdepth=cv2.CV_64F)
            self._tables[statistic] = np.asarray(table, np.float64)
        # The length of the summed vector; a sum of lengths is one of a single component.
        return float(np.linalg.norm(total(self._tables[statistic]))) / known
