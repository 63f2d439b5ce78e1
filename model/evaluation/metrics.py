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
LUMA = (0.2989, 0.5870, 0.1140)  # of red, green and blue, as MATLAB documents them

Quantisation = Literal["truncate", "round", "half_even", "none"]
Window = Literal["gaussian", "gaussian_3d", "uniform"]
Border = Literal["zero", "replicate", "inside"]
QUANTISED = {
    "truncate": "truncated to 8 bits",
    "round": "rounded to 8 bits",
    "half_even": "rounded to 8 bits, halves to even",
    "none": "not rounded",
}


class Score(NamedTuple):
    """Likeness of two images: ``psnr`` in dB (``inf`` if they are equal), ``ssim`` in -1..1."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Protocol:
    """One way to measure how like a prediction is to the true frame.

    Every protocol measures the PSNR over the three channels of RGB at once, each image on its own;
    a table gives the mean over images.

    Attributes
    ----------
    name : str
        By which settings and tables name it.
    quantisation : {"truncate", "round", "half_even", "none"}
        How a float prediction becomes 8-bit: towards zero, half up, halves to the even level, or
        not at all. The target is always rounded: it comes from an 8-bit frame.
    peak : {"255", "maximum of the target"}
        Of the PSNR; the maximum is that over all channels.
    window : {"gaussian", "gaussian_3d", "uniform"}
        Of the SSIM: 11x11 of sigma 1.5 with moments as weighted means, the same over 11x11 pixels
        and 11 channels (the colours taken as a volume), or 7x7 with unbiased variances and
        covariance.
    border : {"zero", "replicate", "inside"}
        Of the SSIM: the image is surrounded by black, or by its outermost values in all three
        directions, and every pixel counts; or only windows that lie inside the image count.
    source : str
        Whose arithmetic it is.
    ssim_quantisation : str or None
        That of the prediction in the SSIM, where it is another than the PSNR's.
    floor : float
        Added to the mean square error (of values in 0..1), so that the PSNR of equal images is
        finite.
    colour : {"RGB", "grey"}
        Of the SSIM; grey is the luma of ITU-R BT.601 in 8 bits.
    """

    name: str
    quantisation: Quantisation
    peak: Literal["255", "maximum of the target"]
    window: Window
    border: Border
    source: str
    ssim_quantisation: Quantisation | None = None
    floor: float = 0.0
    colour: Literal["RGB", "grey"] = "RGB"
    averaging: str = "per image"

    def __str__(self) -> str:
        size = f"{GAUSSIAN_SIZE}x{GAUSSIAN_SIZE}"
        shape = {
            "gaussian": f"Gaussian {size}, sigma {GAUSSIAN_SIGMA}",
            "gaussian_3d": f"Gaussian {size}x{GAUSSIAN_SIZE} over pixels and channels, "
            f"sigma {GAUSSIAN_SIGMA}",
            "uniform": f"uniform {UNIFORM_SIZE}x{UNIFORM_SIZE}",
        }[self.window]
        border = {
            "zero": "zero-padded border",
            "replicate": "replicated border",
            "inside": "windows inside the image only",
        }[self.border]
        floor = f", mean square error + {self.floor:g}" if self.floor else ""
        of_ssim = (
            f" of the prediction {QUANTISED[self.ssim_quantisation]}"
            if self.ssim_quantisation
            else ""
        )
        channels = ", mean of channels" if self.colour == "RGB" else ", of grey"
        return (
            f"{self.name}: prediction {QUANTISED[self.quantisation]}; RGB; "
            f"PSNR peak {self.peak}{floor}; SSIM{of_ssim} {shape}, {border}{channels}; "
            f"mean {self.averaging} ({self.source})"
        )

    @property
    def smallest_side(self) -> int:
        """Height and width in pixels that an image must at least have."""
        return UNIFORM_SIZE if self.window == "uniform" else GAUSSIAN_SIZE

    def score(self, prediction: Image, target: Image) -> Score:
        """Measure ``prediction`` against ``target``.

        Parameters
        ----------
        prediction, target : uint8 or float [H, W, 3]
            RGB; a float image is in 0..1.

        Returns
        -------
        Score
            PSNR in dB and SSIM; of two equal images ``(inf, 1.0)``, with a ``floor`` a finite PSNR.

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
        truth = quantise(target, "round")
        peak = PEAK if self.peak == "255" else float(truth.max())
        guess = _levels(prediction, self.quantisation)
        psnr = _psnr(guess, truth, peak, self.floor * PEAK**2)
        if self.ssim_quantisation is not None:
            guess = _levels(prediction, self.ssim_quantisation)
        x, y = guess, truth.astype(np.float64)
        if self.colour == "grey":
            x, y = _grey(x), _grey(y)
        return Score(psnr, _ssim(x, y, self.window, self.border))


def _levels(image: Image, how: Quantisation) -> Plane:
    """The image in 0..255, in whole levels unless ``how`` is ``"none"``."""
    if how != "none":
        return quantise(image, how).astype(np.float64)
    quantise(image, "round")  # which refuses what is no image
    return image.astype(np.float64) * (1 if image.dtype == np.uint8 else PEAK)


def _grey(image: Plane) -> Plane:
    """Luma of ITU-R BT.601, rounded to levels, as ``rgb2gray`` gives it for 8-bit images."""
    return np.asarray(np.floor(image @ np.array(LUMA) + 0.5))


def _psnr(guess: Plane, truth: npt.NDArray[np.uint8], peak: float, floor: float) -> float:
    error = guess - truth
    mean_square = float(np.vdot(error, error)) / error.size + floor
    if mean_square == 0:
        return float("inf")
    if peak == 0:
        return float("-inf")  # a black target has no peak, so any error is infinitely large
    return float(10 * np.log10(peak**2 / mean_square))


def _ssim(x: Plane, y: Plane, window: Window, border: Border) -> float:
    """Mean structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004, eq. 13)."""
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


def _filter(image: Plane, window: Window, border: Border) -> Plane:
    """Local mean of ``image``, cropped to where the window lies inside if ``border`` says so."""
    edge = cv2.BORDER_REPLICATE if border == "replicate" else cv2.BORDER_CONSTANT
    if window == "uniform":
        size = (UNIFORM_SIZE, UNIFORM_SIZE)
        mean = cv2.boxFilter(image, cv2.CV_64F, size, borderType=edge)
    else:
        kernel = np.asarray(
            cv2.getGaussianKernel(GAUSSIAN_SIZE, GAUSSIAN_SIGMA, cv2.CV_64F), dtype=np.float64
        )
        mean = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=edge)
        if window == "gaussian_3d":
            mean = mean @ _across_channels(kernel[:, 0], image.shape[2])
    if border == "inside":
        margin = (UNIFORM_SIZE if window == "uniform" else GAUSSIAN_SIZE) // 2
        mean = mean[margin:-margin, margin:-margin]
    return np.asarray(mean, dtype=np.float64)


def _across_channels(kernel: npt.NDArray[np.float64], channels: int) -> Plane:
    """Weight of each channel (row) in each filtered channel (column), the outermost replicated."""
    weights = np.zeros((channels, channels))
    for channel in range(channels):
        for offset, weight in enumerate(kernel, start=-(len(kernel) // 2)):
            weights[min(max(channel + offset, 0), channels - 1), channel] += weight
    return weights


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
            Protocol(
                "matlab_grey",
                quantisation="round",
                peak="255",
                window="gaussian",
                border="inside",
                source="MATLAB lineage, ssim_index of Wang et al. 2004 on rgb2gray",
                colour="grey",
            ),
            Protocol(
                "softsplat",
                quantisation="half_even",
                peak="255",
                window="uniform",
                border="inside",
                source="softmax-splatting's benchmarks, scikit-image's defaults",
            ),
            Protocol(
                "rife",
                quantisation="half_even",
                peak="255",
                window="gaussian_3d",
                border="replicate",
                source="ECCV2022-RIFE's benchmark/Vimeo90K.py",
                ssim_quantisation="none",
            ),
            Protocol(
                "ema_vfi",
                quantisation="half_even",
                peak="255",
                window="gaussian_3d",
                border="replicate",
                source="EMA-VFI's benchmark/UCF101.py",
            ),
            Protocol(
                "cain",
                quantisation="half_even",
                peak="255",
                window="gaussian_3d",
                border="replicate",
                source="CAIN's utils.py",
                floor=1e-8,
            ),
            Protocol(
                "flavr",
                quantisation="none",
                peak="255",
                window="gaussian_3d",
                border="replicate",
                source="FLAVR's myutils.py",
                floor=1e-8,
            ),
        )
    }
)
