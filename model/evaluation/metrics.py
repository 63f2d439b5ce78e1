"""PSNR and SSIM under named protocols, because two papers rarely mean the same number.

A protocol states how a prediction becomes 8-bit, what the peak of the PSNR is, and which window
and border the SSIM has. Nothing is guessed from the values of an image.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from model.pixels import PEAK, Image, quantise

Plane = npt.NDArray[np.float64]

SSIM_C1 = (0.01 * PEAK) ** 2
SSIM_C2 = (0.03 * PEAK) ** 2
GAUSSIAN_SIZE, GAUSSIAN_SIGMA = 11, 1.5
UNIFORM_SIZE = 7


class Score(NamedTuple):
    """Likeness of two images: ``psnr`` in dB (``inf`` if they are equal), ``ssim`` in -1..1."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Protocol:
    """One way to measure how like a prediction is to the true frame.

    Every protocol measures RGB: the PSNR over the three channels at once, the SSIM as the mean
    over the channels, each image on its own; a table gives the mean over images.

    Attributes
    ----------
    name : str
        By which settings and tables name it.
    quantisation : {"truncate", "round"}
        How a float prediction becomes 8-bit: towards zero, or half up. The target is always
        rounded: it comes from an 8-bit frame.
    peak : {"255", "maximum of the target"}
        Of the PSNR; the maximum is that over all channels.
    window : {"gaussian", "uniform"}
        Of the SSIM: 11x11 of sigma 1.5 with moments as weighted means, or 7x7 with unbiased
        variances and covariance.
    border : {"zero", "inside"}
        Of the SSIM: the image is surrounded by black and every pixel counts, or only windows that
        lie inside the image count.
    source : str
        Whose arithmetic it is.
    """

    name: str
    quantisation: Literal["truncate", "round"]
    peak: Literal["255", "maximum of the target"]
    window: Literal["gaussian", "uniform"]
    border: Literal["zero", "inside"]
    source: str
    colour: str = "RGB"
    averaging: str = "per image"

    def __str__(self) -> str:
        shape = (
            f"Gaussian {GAUSSIAN_SIZE}x{GAUSSIAN_SIZE}, sigma {GAUSSIAN_SIGMA}"
            if self.window == "gaussian"
            else f"uniform {UNIFORM_SIZE}x{UNIFORM_SIZE}"
        )
        quantised = {"truncate": "truncated", "round": "rounded"}[self.quantisation]
        border = "zero-padded border" if self.border == "zero" else "windows inside the image only"
        return (
            f"{self.name}: prediction {quantised} to 8 bits; {self.colour}; "
            f"PSNR peak {self.peak}; SSIM {shape}, {border}, mean of channels; "
            f"mean {self.averaging} ({self.source})"
        )

    @property
    def smallest_side(self) -> int:
        """Height and width in pixels that an image must at least have."""
        return GAUSSIAN_SIZE if self.window == "gaussian" else UNIFORM_SIZE

    def score(self, prediction: Image, target: Image) -> Score:
        """Measure ``prediction`` against ``target``.

        Parameters
        ----------
        prediction, target : uint8 or float [H, W, 3]
            RGB; a float image is in 0..1.

        Returns
        -------
        Score
            PSNR in dB and SSIM; of two equal images ``(inf, 1.0)``.

        Raises
        ------
        ValueError
            if the shapes differ or are no RGB image, an image is smaller than the SSIM window,
            or values are of another type or range.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"prediction is {prediction.shape}, target {target.shape}")
        if min(target.shape[:2]) < self.smallest_side:
            raise ValueError(
                f"{target.shape[1]}x{target.shape[0]} is smaller than the SSIM window of "
                f"{self.name}, {self.smallest_side}x{self.smallest_side}"
            )
        guess = quantise(prediction, self.quantisation)
        truth = quantise(target, "round")
        peak = PEAK if self.peak == "255" else float(truth.max())
        return Score(_psnr(guess, truth, peak), _ssim(guess, truth, self.window, self.border))


def _psnr(guess: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], peak: float) -> float:
    error = guess.astype(np.int32) - truth
    mean_square = float(np.vdot(error, error)) / error.size
    if mean_square == 0:
        return float("inf")
    if peak == 0:
        return float("-inf")  # a black target has no peak, so any error is infinitely large
    return float(10 * np.log10(peak**2 / mean_square))


def _ssim(
    guess: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.uint8],
    window: Literal["gaussian", "uniform"],
    border: Literal["zero", "inside"],
) -> float:
    """Mean structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004, eq. 13)."""
    x, y = guess.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = _filter(x, window, border), _filter(y, window, border)
    # Only the sum of the two variances is needed, which saves one filter of five.
    squares = _filter(x * x + y * y, window, border)
    product = _filter(x * y, window, border)
    unbiased = UNIFORM_SIZE**2 / (UNIFORM_SIZE**2 - 1) if window == "uniform" else 1.0

    mean_square_sum = mean_x * mean_x + mean_y * mean_y
    mean_product = mean_x * mean_y
    variance_sum = unbiased * (squares - mean_square_sum)
    covariance = unbiased * (product - mean_product)
    similarity = ((2 * mean_product + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_square_sum + SSIM_C1) * (variance_sum + SSIM_C2)
    )
    return float(similarity.mean())


def _filter(
    image: Plane, window: Literal["gaussian", "uniform"], border: Literal["zero", "inside"]
) -> Plane:
    """Local mean of ``image``, cropped to where the window lies inside if ``border`` says so."""
    if window == "gaussian":
        kernel = cv2.getGaussianKernel(GAUSSIAN_SIZE, GAUSSIAN_SIGMA, cv2.CV_64F)
        mean = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
    else:
        size = (UNIFORM_SIZE, UNIFORM_SIZE)
        mean = cv2.boxFilter(image, cv2.CV_64F, size, borderType=cv2.BORDER_CONSTANT)
    if border == "inside":
        margin = (GAUSSIAN_SIZE if window == "gaussian" else UNIFORM_SIZE) // 2
        mean = mean[margin:-margin, margin:-margin]
    return np.asarray(mean, dtype=np.float64)


PROTOCOLS: MappingProxyType[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                "as_published",
                quantisation="truncate",
                peak="maximum of the target",
                window="gaussian",
                border="zero",
                source="Kartasev et al. 2018",
            ),
            Protocol(
                "niklaus",
                quantisation="truncate",
                peak="255",
                window="uniform",
                border="inside",
                source="sepconv-slomo's benchmark, scikit-image's defaults",
            ),
            Protocol(
                "standard",
                quantisation="round",
                peak="255",
                window="gaussian",
                border="inside",
                source="scikit-image with gaussian_weights, Wang et al. 2004",
            ),
        )
    }
)
