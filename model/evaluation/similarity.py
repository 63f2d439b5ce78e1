"""Structural similarity of two images under a choice of window and border."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from model.pixels import PEAK

Plane = npt.NDArray[np.float64]
Window = Literal["gaussian", "gaussian_3d", "uniform"]
Border = Literal["zero", "replicate", "inside"]

C1 = (0.01 * PEAK) ** 2
C2 = (0.03 * PEAK) ** 2
GAUSSIAN_SIZE, GAUSSIAN_SIGMA = 11, 1.5
UNIFORM_SIZE = 7
SIZES: dict[Window, int] = {
    "gaussian": GAUSSIAN_SIZE,
    "gaussian_3d": GAUSSIAN_SIZE,
    "uniform": UNIFORM_SIZE,
}
Filter = Callable[[Plane], Plane]


def window_filter(window: Window, border: Border) -> Filter:
    """The local mean that a window takes, cropped to where it lies inside if ``border`` says so."""
    edge = cv2.BORDER_REPLICATE if border == "replicate" else cv2.BORDER_CONSTANT
    margin = SIZES[window] // 2 if border == "inside" else 0
    return partial(_local_mean, window=window, edge=edge, margin=margin)


def ssim(x: Plane, y: Plane, mean_y: Plane, window: Window, local_mean: Filter) -> float:
    """Mean structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004, eq. 13).

    ``x`` and ``y`` are in levels, 0..255; ``mean_y`` is ``local_mean(y)``, which several
    predictions of one target share.
    """
    mean_x = local_mean(x)
    # Only the sum of the two variances is needed, which saves one filter of five.
    squares = local_mean(x * x + y * y)
    product = local_mean(x * y)
    unbiased = UNIFORM_SIZE**2 / (UNIFORM_SIZE**2 - 1) if window == "uniform" else 1.0

    mean_square_sum = mean_x * mean_x + mean_y * mean_y
    mean_product = mean_x * mean_y
    variance_sum = unbiased * (squares - mean_square_sum)
    covariance = unbiased * (product - mean_product)
    similarity = ((2 * mean_product + C1) * (2 * covariance + C2)) / (
        (mean_square_sum + C1) * (variance_sum + C2)
    )
    return float(similarity.mean())


def _local_mean(image: Plane, window: Window, edge: int, margin: int) -> Plane:
    if window == "uniform":
        mean = cv2.boxFilter(image, cv2.CV_64F, (UNIFORM_SIZE, UNIFORM_SIZE), borderType=edge)
    else:
        kernel = np.asarray(
            cv2.getGaussianKernel(GAUSSIAN_SIZE, GAUSSIAN_SIGMA, cv2.CV_64F), dtype=np.float64
        )
        mean = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=edge)
        if window == "gaussian_3d":
            mean = mean @ _across_channels(kernel[:, 0], image.shape[2])
    if margin:
        mean = mean[margin:-margin, margin:-margin]
    return np.asarray(mean, dtype=np.float64)


def _across_channels(kernel: Plane, channels: int) -> Plane:
    """Weight of each channel (row) in each filtered channel (column), the outermost replicated."""
    reach = np.arange(channels) + np.arange(len(kernel))[:, None] - len(kernel) // 2
    weights = np.zeros((channels, channels))
    columns = np.broadcast_to(np.arange(channels), reach.shape)
    np.add.at(weights, (reach.clip(0, channels - 1), columns), kernel[:, None])
    return weights
