"""Motion of the windows of a flow."""

from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Statistic = Literal["mean_magnitude", "norm_of_mean"]


class WindowMotion:
    """Motion of the windows of one triplet, from summed-area tables of its flow.

    A table is made when a statistic first needs it; a window then costs four look-ups in each.

    Parameters
    ----------
    flow : ``[H, W, 2]``, (dx, dy) in pixels; pixels whose flow is unknown (NaN) count nowhere.
    """

    def __init__(self, flow: NDArray[np.floating]) -> None:
        dx, dy = cv2.split(np.ascontiguousarray(flow, np.float32))
        # Not cv2.magnitude, whose last bit depends on where its arguments lie in memory.
        length = np.sqrt(dx * dx + dy * dy)
        known = np.isfinite(length)
        self._unknown = None
        if not known.all():
            dx, dy, length = (np.where(known, plane, 0) for plane in (dx, dy, length))
            self._unknown = cv2.integral((~known).astype(np.uint8))
        self._dx, self._dy, self._length = dx, dy, length

    @cached_property
    def _dx_table(self) -> NDArray[np.float64]:
        return np.asarray(cv2.integral(self._dx, sdepth=cv2.CV_64F), np.float64)

    @cached_property
    def _dy_table(self) -> NDArray[np.float64]:
        return np.asarray(cv2.integral(self._dy, sdepth=cv2.CV_64F), np.float64)

    @cached_property
    def _length_table(self) -> NDArray[np.float64]:
        return np.asarray(cv2.integral(self._length, sdepth=cv2.CV_64F), np.float64)

    def score(self, top: int, left: int, size: int, statistic: Statistic) -> float:
        """Motion in pixels of the window of ``size`` x ``size`` pixels at (``top``, ``left``).

        ``mean_magnitude`` is the mean length of the flow vectors, ``norm_of_mean`` the length of
        the mean vector. NaN if the flow of no pixel in the window is known.
        """

        def total(table: NDArray[np.generic]) -> float:
            bottom, right = top + size, left + size
            return float(
                table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
            )

        known = size * size - (0 if self._unknown is None else total(self._unknown))
        if known == 0:
            return float("nan")
        if statistic == "mean_magnitude":
            return total(self._length_table) / known
        return float(np.hypot(total(self._dx_table), total(self._dy_table)) / known)
