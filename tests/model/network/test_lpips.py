"""LPIPS against its formula, on small networks with made-up weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.evaluation.evaluate import evaluate, open_evaluation
from model.network.lpips import ALEXNET, CONVOLUTIONS, LINEAR, LPIPS
from model.settings import EvaluationSettings
from pipeline.errors import MidframeError

SIZES = (11, 5, 3, 3, 3)
CHANNELS = (4, 6, 5, 4, 3)


def made_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Tensor], ...]:
    """Write both files with random weights, whose digests are not those of the published ones."""
    generator = torch.Generator().manual_seed(1)
    features, linear = {}, {}
    before = 3
    for number, (channels, size) in enumerate(zip(CHANNELS, SIZES, strict=True)):
        place = CONVOLUTIONS[number][0]
        shape = (channels, before, size, size)
        features[f"features.{place}.weight"] = torch.randn(shape, generator=generator) / size
        features[f"features.{place}.bias"] = torch.randn(channels, generator=generator) / 10
        linear[f"lin{number}.model.1.weight"] = torch.rand((1, channels, 1, 1), generator=generator)
        before = channels
    folder.mkdir()
    torch.save(features, folder / ALEXNET)
    torch.save(linear, folder / LINEAR)
    monkeypatch.setattr("model.network.lpips._fault", lambda path: None)
    return features, linear


def by_hand(
    features: dict[str, Tensor], linear: dict[str, Tensor], images: list[NDArray[np.uint8]]
) -> float:
    """The formula in NumPy, pixel by pixel, with a convolution of four loops."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    values = [((i / 127.5 - 1 - shift) / scale).transpose(2, 0, 1) for i in images]
    total = 0.0
    for number, (place, stride, padding) in enumerate(CONVOLUTIONS):
        weight = features[f"features.{place}.weight"].double().numpy()
        bias = features[f"features.{place}.bias"].double().numpy()
        if number in (1, 2):
            values = [pooled(value) for value in values]
        values = [np.maximum(convolved(v, weight, bias, stride, padding), 0) for v in values]
        units = [v / (np.sqrt((v**2).sum(axis=0)) + 1e-10) for v in values]
        weights = linear[f"lin{number}.model.1.weight"].double().numpy()[0]
        total += float((weights * (units[0] - units[1]) ** 2).sum(axis=0).mean())
    return total


def pooled(value: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = ((side - 3) // 2 + 1 for side in value.shape[1:])
    return np.array(
        [
            [[c[2 * y : 2 * y + 3, 2 * x : 2 * x + 3].max() for x in range(width)]
             for y in range(height)]
            for c in value
        ]
    )  # fmt: skip


def convolved(
    value: NDArray[np.float64],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    stride: int,
    padding: int,
) -> NDArray[np.float64]:
    value = np.pad(value, ((0, 0), (padding, padding), (padding, padding)))
    size = weight.shape[2]
    height, width = ((side - size) // stride + 1 for side in value.shape[1:])
    out = np.empty((len(weight), height, width))
    for y in range(height):
        for x in range(width):
            window = value[:, y * stride : y * stride + size, x * stride : x * stride + size]
            out[:, y, x] = (weight * window).sum(axis=(1, 2, 3)) + bias
    return out


def test_lpips_is_its_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, linear = made_up(tmp_path / "weights", monkeypatch)
    generator = np.random.default_rng(0)
    images = [generator.integers(256, size=(70, 83, 3), dtype=np.uint8) for _ in range(2)]
    found = LPIPS(tmp_path / "weights").score(*images)
    assert found == pytest.approx(by_hand(features, linear, images), rel=1e-4)
    assert LPIPS(tmp_path / "weights").score(images[0], images[0]) == 0


def test_an_evaluation_that_asks_for_it_has_it(
    small_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up(tmp_path / "weights", monkeypatch)
    settings = EvaluationSettings(triplets=["ride:0"], perceptual=["lpips"])
    evaluate(small_frames, "linear", settings, tmp_path / "out", lpips=tmp_path / "weights")
    assert open_evaluation(tmp_path / "out").scores["lpips_lpips"][0] > 0


def test_weights_that_are_missing_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="midframe fetch-lpips --out"):
        LPIPS(tmp_path)


def test_an_evaluation_without_a_folder_of_weights_says_so(
    small_frames: Path, tmp_path: Path
) -> None:
    settings = EvaluationSettings(triplets=["ride:0"], perceptual=["lpips"])
    with pytest.raises(MidframeError, match="--lpips"):
        evaluate(small_frames, "linear", settings, tmp_path / "out")


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / ALEXNET).write_bytes(b"something else")
    with pytest.raises(MidframeError, match="damaged or incomplete: its SHA-256 begins with"):
        LPIPS(tmp_path)


def test_frames_too_small_for_it_are_refused_by_the_settings() -> None:
    with pytest.raises(ValueError, match="LPIPS needs at least 35 pixels a side"):
        EvaluationSettings(crop=32, perceptual=["lpips"])
