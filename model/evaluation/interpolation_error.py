"""Interpolation error: how far predicted colours lie from the true ones, in levels.

Two measures go by this name. Middlebury's (Baker, Scharstein, Lewis, Roth, Black and Szeliski,
"A Database and Evaluation Methodology for Optical Flow", IJCV 92, 2011) is a root mean square of
colour vectors; that of tables for Middlebury's "other" images is a mean of absolute differences.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np

from model.evaluation.metrics import QUANTISED, Pair, Quantisation
from model.evaluation.similarity import Plane
from model.pixels import Image

EPSILON = 1.0  # squared levels a squared pixel


class InterpolationError(NamedTuple):
    """Middlebury's IE in levels, and the same normalised by the gradient of the true frame."""

    ie: float
    nie: float


class MeanAbsoluteError(NamedTuple):
    """Mean absolute difference in levels."""

    ie: float


@dataclass(frozen=True)
class Middlebury:
    """IE and normalised IE as Baker et al. (2011) define them, over all pixels.

    IE is the root of the mean, over pixels, of the squared length of the difference of colours
    (the sum over R, G and B). In the normalised error each channel's squared difference is divided
    by the squared length of that channel's gradient in the true frame, plus 1. The paper leaves
    open how the gradient is taken: here by central differences, at the border by one-sided ones.
    """

    name: str = "middlebury"
    quantisation: Quantisation = "round"
    measures: ClassVar[tuple[str, ...]] = ("ie", "nie")

    def __str__(self) -> str:
        return (
            f"{self.name}: prediction {QUANTISED[self.quantisation]}; RGB; IE root mean square of "
            "the length of colour differences, NIE the same over the gradient's length; mean per "
            "image (Baker et al. 2011)"
        )

    def score(self, prediction: Image, target: Image) -> InterpolationError:
        """Measure a prediction, uint8 or float in 0..1 ``[H, W, 3]``; lower is better.

        Raises
        ------
        ValueError
            if the shapes differ or are no RGB image, or values are of another type or range.
        """
        return self.score_pair(Pair(prediction, target))

    def score_pair(self, pair: Pair) -> InterpolationError:
        """As `score`, of two images that other protocols measure too."""
        truth: Plane = pair.target.astype(np.float64)
        squared = (pair.levels(self.quantisation) - truth) ** 2
        down, across = np.gradient(truth, axis=(0, 1))
        normalised = squared / (down**2 + across**2 + EPSILON)
        return InterpolationError(_root_mean(squared), _root_mean(normalised))


@dataclass(frozen=True)
class MiddleburyOther:
    """IE as RIFE and its descendants print it for Middlebury's "other" images."""

    name: str = "middlebury_other"
    quantisation: Quantisation = "half_even"
    measures: ClassVar[tuple[str, ...]] = ("ie",)

    def __str__(self) -> str:
        return (
            f"{self.name}: prediction {QUANTISED[self.quantisation]}; RGB; IE mean absolute "
            "difference; mean per image (ECCV2022-RIFE's benchmark/MiddleBury_Other.py)"
        )

    def score(self, prediction: Image, target: Image) -> MeanAbsoluteError:
        """Measure a prediction, uint8 or float in 0..1 ``[H, W, 3]``; lower is better."""
        return self.score_pair(Pair(prediction, target))

    def score_pair(self, pair: Pair) -> MeanAbsoluteError:
        """As `score`, of two images that other protocols measure too."""
        error = np.abs(pair.levels(self.quantisation) - pair.target)
        return MeanAbsoluteError(float(error.mean()))


def _root_mean(squared: Plane) -> float:
    """Root of the mean over pixels of the sum over channels."""
    return float(np.sqrt(squared.sum(axis=2).mean()))


ERRORS: MappingProxyType[str, Middlebury | MiddleburyOther] = MappingProxyType(
    {"middlebury": Middlebury(), "middlebury_other": MiddleburyOther()}
)
