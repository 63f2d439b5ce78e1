from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from torch import Tensor, nn

from model.evaluation.metrics import PROTOCOLS
from model.network.architecture import SepConv
from model.network.losses import l1
from model.settings import NetworkSettings, TrainingSettings
from model.training.validation import score_linear, to_frames, validate
from pipeline.errors import MidframeError
from pipeline.store.patch_store import PatchStore
from tests.model.conftest import publish_patches

SETTINGS = TrainingSettings(batch_size=2, crop=32)


@pytest.fixture
def accelerator() -> Accelerator:
    AcceleratorState._reset_state(True)
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, write_patches: Callable[..., Path]
) -> PatchStore:
    path = write_patches(tmp_path_factory.mktemp("patches") / "validation", range(31, 46, 3))
    return PatchStore.open(path)


@pytest.fixture
def network() -> SepConv:
    return SepConv(NetworkSettings(width=1 / 16, kernel_length=5, initialisation="linear"))


def test_frames_keep_their_order_and_range(bikes: NDArray[np.uint8]) -> None:
    first, middle, third = to_frames(bikes[None, :3], torch.device("cpu"))
    assert first.shape == (1, 3, 272, 640)
    assert float(middle[0, 2, 5, 7]) == pytest.approx(bikes[1, 5, 7, 2] / 255)
    assert float(third[0, 0, 9, 1]) == pytest.approx(bikes[2, 9, 1, 0] / 255)


def test_linear_scores_are_those_of_the_mean_of_the_frames(store: PatchStore) -> None:
    crops = store.read(range(5))[:, :, 4:36, 4:36].astype(np.float32) / 255
    scores = [PROTOCOLS["standard"].score((c[0] + c[2]) / 2, c[1]) for c in crops]
    found = score_linear(store, SETTINGS)
    assert found["psnr"] == pytest.approx(np.mean([score.psnr for score in scores]), abs=1e-3)
    assert found["ssim"] == pytest.approx(np.mean([score.ssim for score in scores]), abs=1e-4)
    expected = np.mean([abs((c[0] + c[2]) / 2 - c[1]).mean() for c in crops])
    assert found["l1"] == pytest.approx(expected, rel=1e-5)


def test_network_that_starts_at_linear_scores_as_linear(
    accelerator: Accelerator, store: PatchStore, network: SepConv
) -> None:
    found = validate(accelerator, network, l1, store, SETTINGS)
    linear = score_linear(store, SETTINGS)
    assert found["validation_loss"] == pytest.approx(linear["l1"], rel=1e-4)
    assert found["validation_l1"] == pytest.approx(linear["l1"], rel=1e-4)
    assert found["validation_psnr"] == pytest.approx(linear["psnr"], abs=1e-2)
    assert found["validation_ssim"] == pytest.approx(linear["ssim"], abs=1e-3)


def test_scores_do_not_depend_on_the_batch_size(
    accelerator: Accelerator, store: PatchStore, network: SepConv
) -> None:
    one = validate(accelerator, network, l1, store, TrainingSettings(batch_size=1, crop=32))
    four = validate(accelerator, network, l1, store, TrainingSettings(batch_size=4, crop=32))
    assert one == pytest.approx(four, rel=1e-6)


def test_patches_without_any_change_leave_the_mean_finite(
    accelerator: Accelerator, tmp_path: Path, network: SepConv
) -> None:
    still = np.full((2, 3, 40, 40, 3), 77, np.uint8)
    store = PatchStore.open(publish_patches(tmp_path / "still", still))
    assert score_linear(store, SETTINGS)["psnr"] == 100
    assert validate(accelerator, network, l1, store, SETTINGS)["validation_psnr"] == 100


def test_output_that_is_not_finite_is_an_error(accelerator: Accelerator, store: PatchStore) -> None:
    class Broken(nn.Module):
        def forward(self, first: Tensor, third: Tensor) -> Tensor:
            return first / 0

    with pytest.raises(MidframeError, match="is not finite"):
        validate(accelerator, Broken(), l1, store, SETTINGS)  # type: ignore[arg-type]
