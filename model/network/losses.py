r"""Losses between a predicted and a true frame; each a pure function of two batches.

All take float tensors ``[B, C, H, W]`` with values 0..1 and give a scalar: the mean over the
batch, except where the published form is none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from model.settings import TrainingSettings

Loss = Callable[[Tensor, Tensor], Tensor]
Features = Callable[[Tensor], Tensor]

SSIM_SIZE, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for values 0..1
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
LOSSES_WITH_FEATURES = ("vgg", "combined")


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (prediction - target).abs().mean()


def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference."""
    return (prediction - target).square().mean()


def ssim(prediction: Tensor, target: Tensor, border: Literal["zero", "inside"]) -> Tensor:
    """Mean structural similarity, -1..1 (1: equal).

    Gaussian window 11x11 with sigma 1.5, each channel separately, variances and covariance as
    weighted means: Wang, Bovik, Sheikh and Simoncelli (IEEE TIP 2004), eq. 13.

    Parameters
    ----------
    border : ``"zero"``: the images are surrounded by zeros and every pixel counts, as in
        Kartasev's code; ``"inside"``: only windows that lie inside the image count, as in
        scikit-image with ``gaussian_weights=True, use_sample_covariance=False``.

    Raises
    ------
    ValueError
        with ``"inside"``, if the images are smaller than the window.
    """
    batch, channels, height, width = prediction.shape
    if border == "inside" and min(height, width) < SSIM_SIZE:
        raise ValueError(f"images of {height}x{width} are smaller than the window of {SSIM_SIZE}")
    maps = torch.cat(
        [
            prediction,
            target,
            prediction * prediction,
            target * target,
            prediction * target,
        ]
    ).reshape(-1, 1, height, width)
    window = torch.tensor(_gaussian(), dtype=maps.dtype, device=maps.device)
    margin = SSIM_SIZE // 2 if border == "zero" else 0
    maps = functional.conv2d(maps, window.reshape(1, 1, -1, 1), padding=(margin, 0))
    maps = functional.conv2d(maps, window.reshape(1, 1, 1, -1), padding=(0, margin))
    mean_p, mean_t, square_p, square_t, product = maps.reshape(5, batch, channels, *maps.shape[2:])
    means = mean_p * mean_t
    squares = mean_p.square() + mean_t.square()
    similarity = ((2 * means + SSIM_C1) * (2 * (product - means) + SSIM_C2)) / (
        (squares + SSIM_C1) * (square_p + square_t - squares + SSIM_C2)
    )
    return similarity.mean()


@cache
def _gaussian() -> list[float]:
    offsets = torch.arange(SSIM_SIZE, dtype=torch.float64) - SSIM_SIZE // 2
    weights = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    normalised: list[float] = (weights / weights.sum()).tolist()
    return normalised


def feature_norm(prediction: Tensor, target: Tensor, features: Features) -> Tensor:
    """L2 norm of the difference of two batches' features, as Kartasev's code takes it.

    It is not averaged, so it grows with the square root of the batch and of the crop's area, and
    the features see values 0..1 without ImageNet's normalisation.
    """
    difference = (features(prediction) - features(target)).flatten()
    # The gradient of a norm at zero is not a number; equal frames should have none.
    return torch.linalg.vector_norm(difference) if difference.any() else difference.sum()


def feature_mean_square(prediction: Tensor, target: Tensor, features: Features) -> Tensor:
    """Mean squared difference of the features of ImageNet-normalised frames.

    Johnson, Alahi and Fei-Fei (ECCV 2016, arXiv:1603.08155), eq. 2.
    """
    difference = features(_normalised(prediction)) - features(_normalised(target))
    return difference.square().mean()


def _normalised(frame: Tensor) -> Tensor:
    mean = torch.tensor(IMAGENET_MEAN, dtype=frame.dtype, device=frame.device)
    deviation = torch.tensor(IMAGENET_DEVIATION, dtype=frame.dtype, device=frame.device)
    return (frame - mean[:, None, None]) / deviation[:, None, None]


def make_loss(settings: TrainingSettings, features: Features | None = None) -> Loss:
    """The loss that a training stage minimises.

    Parameters
    ----------
    features : VGG-19 up to relu4_4 (`model.network.vgg.load_features`); needed by ``vgg`` and
        ``combined``.

    Raises
    ------
    ValueError
        if the loss needs features and there are none.
    """
    published = settings.loss_form == "as_published"
    if settings.loss == "l1":
        return l1
    if settings.loss == "l2":
        return l2
    if settings.loss == "ssim":
        border: Literal["zero", "inside"] = "zero" if published else "inside"
        return lambda prediction, target: -ssim(prediction, target, border)
    if features is None:
        raise ValueError(f"loss '{settings.loss}' needs features")
    known = features
    distance = feature_norm if published else feature_mean_square
    if settings.loss == "vgg":
        return lambda prediction, target: distance(prediction, target, known)
    weight = settings.perceptual_weight
    return lambda prediction, target: (
        l1(prediction, target) + weight * distance(prediction, target, known)
    )
