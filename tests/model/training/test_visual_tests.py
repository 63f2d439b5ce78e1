"""Pictures after each epoch: what they show, and where they lie."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.network.architecture import SepConv
from model.settings import NetworkSettings
from model.training.visual_tests import VisualTests, strips
from pipeline.errors import MidframeError
from pipeline.store.patch_store import PatchStore
from tests.conftest import write_images

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def stores(
    tmp_path_factory: pytest.TempPathFactory, write_patches: Callable[..., Path]
) -> tuple[PatchStore, PatchStore]:
    """Patches of bikes: of frames 1 to 12 to train on, of frames 31 to 69 to validate on."""
    folder = tmp_path_factory.mktemp("patches")
    training = write_patches(folder / "training", range(1, 12, 3))
    validation = write_patches(folder / "validation", range(31, 58, 2))
    return PatchStore.open(training), PatchStore.open(validation)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory, bikes: Frame) -> Path:
    """The first 20 frames of bikes, small, as a folder of images."""
    folder = tmp_path_factory.mktemp("frames")
    write_images(folder / "bikes", list(bikes[:20, :48, :64]))
    return folder


@pytest.fixture
def network() -> SepConv:
    """A network that predicts the mean of the two frames."""
    return SepConv(NetworkSettings(width=1 / 16, kernel_length=5, initialisation="linear"))


def picture(path: Path) -> Frame:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_strip_has_a_row_for_each_of_ten_patches(
    stores: tuple[PatchStore, PatchStore], network: SepConv
) -> None:
    shown = strips(network, stores[1])
    assert shown.shape == (10 * 40 + 9 * 4, 4 * 40 + 3 * 4, 3)
    for row, sample in ((0, 0), (9, len(stores[1]) - 1)):
        top = 44 * row
        first, predicted, true, third = (
            shown[top : top + 40, x : x + 40] for x in range(0, 176, 44)
        )
        np.testing.assert_array_equal(np.stack([first, true, third]), stores[1].read([sample])[0])
        mean = (first.astype(float) + third) / 2
        assert np.abs(predicted - mean).max() <= 0.5 + 1e-3


def test_whole_frames_are_predicted_and_those_seen_in_training_are_marked(
    stores: tuple[PatchStore, PatchStore],
    frames: Path,
    network: SepConv,
    bikes: Frame,
    tmp_path: Path,
) -> None:
    # Patches were taken from frames 1 to 12: the first triplet shares frame 12 with them.
    tests = VisualTests(*stores, frames, ["bikes:12", "bikes:13"])
    for epoch in (0, 1):
        tests.write(network, epoch, tmp_path)
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    epochs = ["epoch-0000.png", "epoch-0001.png"]
    assert written == [
        *(f"held-out/bikes-00013/{name}" for name in (*epochs, "truth.png")),
        *(f"held-out/{name}" for name in epochs),
        *(f"seen-in-training/bikes-00012/{name}" for name in (*epochs, "truth.png")),
    ]
    seen = tmp_path / "seen-in-training" / "bikes-00012"
    np.testing.assert_array_equal(picture(seen / "truth.png"), bikes[13, :48, :64])
    mean = (bikes[12, :48, :64].astype(float) + bikes[14, :48, :64]) / 2
    assert np.abs(picture(seen / "epoch-0001.png") - mean).max() <= 0.5 + 1e-3


def test_a_triplet_that_is_not_there_is_one_clear_line(
    stores: tuple[PatchStore, PatchStore], frames: Path
) -> None:
    with pytest.raises(MidframeError, match="no sequence 'boat'; there are: bikes"):
        VisualTests(*stores, frames, ["boat:6"])


@pytest.mark.parametrize("given", ["frames", "names"])
def test_triplets_and_their_frames_belong_together(
    given: str, stores: tuple[PatchStore, PatchStore], frames: Path
) -> None:
    with pytest.raises(MidframeError, match="give both"):
        VisualTests(*stores, *((frames, []) if given == "frames" else (None, ["bikes:1"])))
