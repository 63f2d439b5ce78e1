"""PSNR and SSIM under named protocols, because two papers rarely mean the same number.

A protocol states how a prediction becomes 8-bit, what the peak of the PSNR is, and which window
and border the SSIM has. Nothing is guessed from the values of an image.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from model.evaluation.similarity import (
    GAUSSIAN_SIGMA,
    GAUSSIAN_SIZE,
    SIZES,
    UNIFORM_SIZE,
    Border,
    Plane,
    Window,
    ssim,
    window_filter,
)
from model.pixels import PEAK, Image, quantise

LUMA = (0.2989, 0.5870, 0.1140)  # of red, green and blue, as MATLAB documents them

Quantisation = Literal["truncate", "round", "half_even", "none"]
Colour = Literal["RGB", "grey"]
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
    colour: Colour = "RGB"
    averaging: str = "per image"

    measures: ClassVar[tuple[str, ...]] = ("psnr", "ssim")

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
        return SIZES[self.window]

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
        return self.score_pair(Pair(prediction, target))

    def score_pair(self, pair: "Pair") -> Score:
        """As `score`, sharing with other protocols what they compute of the same two images."""
        height, width = pair.target.shape[:2]
        if min(height, width) < self.smallest_side:
            raise ValueError(
                f"{width}x{height} is smaller than the SSIM window of "
                f"{self.name}, {self.smallest_side}x{self.smallest_side}"
            )
        peak = PEAK if self.peak == "255" else float(pair.target.max())
        psnr = _psnr(pair.mean_square_error(self.quantisation) + self.floor * PEAK**2, peak)
        how = self.ssim_quantisation or self.quantisation
        return Score(psnr, pair.ssim(how, self.window, self.border, self.colour))


class Pair:
    """A prediction and its target; what several protocols need of them is computed once.

    Raises
    ------
    ValueError
        if the shapes differ or are no RGB image, or values are of another type or range.
    """

    def __init__(self, prediction: Image, target: Image) -> None:
        if prediction.shape != target.shape:
            raise ValueError(f"prediction is {prediction.shape}, target {target.shape}")
        self.target = quantise(target, "round")
        self._prediction = prediction
        self._planes: dict[tuple[str, ...], Plane] = {}
        self._values: dict[tuple[str, ...], float] = {}

    def levels(self, how: Quantisation) -> Plane:
        """The prediction in 0..255, in whole levels unless ``how`` is ``"none"``."""
        if (how,) not in self._planes:
            self._planes[how,] = _levels(self._prediction, how)
        return self._planes[how,]

    def mean_square_error(self, how: Quantisation) -> float:
        """Over pixels and channels, in squared levels."""
        if (how,) not in self._values:
            error = self.levels(how) - self.target
            self._values[how,] = float(np.vdot(error, error)) / error.size
        return self._values[how,]

    def ssim(self, how: Quantisation, window: Window, border: Border, colour: Colour) -> float:
        """Mean SSIM of the prediction, quantised so, and the target."""
        key = (how, window, border, colour)
        if key not in self._values:
            x, y = self.levels(how), self.target.astype(np.float64)
            if colour == "grey":
                x, y = _grey(x), _grey(y)
            local_mean = window_filter(window, border)
            if key[1:] not in self._planes:
                self._planes[key[1:]] = local_mean(y)
            self._values[key] = ssim(x, y, self._planes[key[1:]], window, local_mean)
        return self._values[key]


def _levels(image: Image, how: Quantisation) -> Plane:
    if how != "none":
        return quantise(image, how).astype(np.float64)
    quantise(image, "round")  # which refuses what is no image
    return image.astype(np.float64) * (1 if image.dtype == np.uint8 else PEAK)


def _grey(image: Plane) -> Plane:
    """Luma of ITU-R BT.601, rounded to levels, as ``rgb2gray`` gives it for 8-bit images."""
    return np.asarray(np.floor(image @ np.array(LUMA) + 0.5))


def _psnr(mean_square: float, peak: float) -> float:
    if mean_square == 0:
        return float("inf")
    if peak == 0:
        return float("-inf")  # a black target has no peak, so any error is infinitely large
    return float(10 * np.log10(peak**2 / mean_square))


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
