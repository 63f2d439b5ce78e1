"""The frame between two: linear and by a network, and from files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.network.architecture import SepConv
from model.network.checkpoints import save_network
from model.settings import NetworkSettings
from model.video.interpolation import (
    Halving,
    interpolate,
    interpolate_images,
    linear,
    load_predictor,
    predict,
)
from pipeline.errors import MidframeError

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def network() -> SepConv:
    """A small network that is linear interpolation, before training."""
    torch.manual_seed(0)
    settings = NetworkSettings(
        width=1 / 16, kernel_length=5, initialisation="linear", normalise=True
    )
    return SepConv(settings).eval()


def test_linear_is_the_exact_mean_rounded_half_up(bikes: Frame) -> None:
    first, third = bikes[0], bikes[2]
    middle = interpolate("linear", first, third)
    expected = (first.astype(int) + third + 1) // 2
    np.testing.assert_array_equal(middle, expected)
    assert middle.dtype == np.uint8


def test_linear_is_not_rounded_before_a_protocol_does(bikes: Frame) -> None:
    middle = linear(bikes[0], bikes[2])
    assert middle.dtype == np.float32
    np.testing.assert_allclose(middle * 510, bikes[0].astype(int) + bikes[2], atol=1e-4)


def test_an_untrained_linear_network_blends_like_linear_interpolation(
    network: SepConv, bikes: Frame
) -> None:
    first, third = bikes[0, :61, :83], bikes[2, :61, :83]
    middle = predict(network, first, third)
    assert middle.shape == first.shape
    np.testing.assert_allclose(middle, linear(first, third), atol=1e-5)


def test_a_prediction_stays_within_zero_and_one(bikes: Frame) -> None:
    torch.manual_seed(1)
    wild = SepConv(NetworkSettings(width=1 / 16, kernel_length=5)).eval()
    with torch.no_grad():
        for head in wild.heads.values():
            head[-1].bias.fill_(0.5)
    middle = predict(wild, bikes[0, :40, :40], bikes[2, :40, :40])
    assert middle.min() >= 0
    assert middle.max() == 1
    assert interpolate(wild, bikes[0, :40, :40], bikes[2, :40, :40]).max() == 255


def test_frames_of_two_sizes_are_refused(network: SepConv, bikes: Frame) -> None:
    with pytest.raises(MidframeError, match="differ in size: 640x272 and 640x271"):
        interpolate(network, bikes[0], bikes[2, 1:])


def test_float_frames_are_refused(network: SepConv, bikes: Frame) -> None:
    with pytest.raises(MidframeError, match="uint8 RGB"):
        interpolate(network, bikes[0] / 255, bikes[2] / 255)


def test_a_predictor_is_made_of_a_weights_file(
    network: SepConv, bikes: Frame, tmp_path: Path
) -> None:
    save_network(network, tmp_path / "w.safetensors", {})
    predictor = load_predictor(str(tmp_path / "w.safetensors"), device="cpu")
    pair = bikes[0, :40, :40], bikes[2, :40, :40]
    np.testing.assert_array_equal(predictor(*pair), predict(network, *pair))


@pytest.fixture(scope="module")
def moving(network: SepConv) -> SepConv:
    """A network whose kernels differ from pixel to pixel."""
    torch.manual_seed(1)
    settings = network.settings.model_copy(update={"width": 0.25})
    changed = SepConv(settings).eval()
    with torch.no_grad():
        for head in changed.heads.values():
            head[-1].weight.normal_(0, 0.02)
    return changed


def test_bfloat16_is_taken_where_the_processor_has_it_and_differs_by_a_level_at_most(
    moving: SepConv,
    bikes: Frame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = str(tmp_path / "w.safetensors")
    save_network(moving, Path(weights), {})
    pair = bikes[0, :96, :96], bikes[2, :96, :96]
    exact = predict(moving, *pair)
    for has, said in ((False, ""), (True, "computes in bfloat16")):
        monkeypatch.setattr("model.video.interpolation.computes_bfloat16", lambda has=has: has)
        middle = load_predictor(weights, device="cpu", precision="auto")(*pair)
        assert said in capsys.readouterr().err
        assert np.allclose(middle, exact, rtol=0, atol=2e-6) != has
        np.testing.assert_allclose(middle, exact, atol=1 / 255)


def test_a_narrow_network_stays_in_float32(
    network: SepConv, bikes: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.video.interpolation.computes_bfloat16", lambda: True)
    save_network(network, tmp_path / "w.safetensors", {})
    pair = bikes[0, :40, :40], bikes[2, :40, :40]
    middle = load_predictor(str(tmp_path / "w.safetensors"), "cpu", precision="auto")(*pair)
    np.testing.assert_allclose(middle, predict(network, *pair), rtol=0, atol=2e-6)


def test_missing_weights_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match=r"no such weights file; give .* or 'linear'"):
        load_predictor(str(tmp_path / "none.safetensors"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_asking_for_cuda_without_one_is_one_clear_line(network: SepConv, tmp_path: Path) -> None:
    save_network(network, tmp_path / "w.safetensors", {})
    with pytest.raises(MidframeError, match="no CUDA device"):
        load_predictor(str(tmp_path / "w.safetensors"), device="cuda")


@pytest.fixture
def images(bikes: Frame, tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "first.png", tmp_path / "third.png"
    for path, frame in zip(paths, bikes[[0, 2]], strict=True):
        Image.fromarray(frame).save(path)
    return paths


def test_two_image_files_give_a_third(
    images: tuple[Path, Path], bikes: Frame, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "middle.png"
    interpolate_images(*images, out, linear)
    with Image.open(out) as written:
        np.testing.assert_array_equal(
            np.asarray(written), interpolate("linear", bikes[0], bikes[2])
        )
    assert list(out.parent.iterdir()) == [out]


def test_grey_images_are_read_as_rgb(bikes: Frame, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(bikes[0, :, :, 0]).save(tmp_path / name)
    interpolate_images(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "out.png", linear)
    with Image.open(tmp_path / "out.png") as written:
        assert written.mode == "RGB"


def test_sixteen_bit_images_are_refused(images: tuple[Path, Path], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((272, 640), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(MidframeError, match=r"deep\.png: colour mode I;16; 8-bit RGB or grey"):
        interpolate_images(images[0], tmp_path / "deep.png", tmp_path / "out.png", linear)


def test_a_missing_image_is_one_clear_line(images: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match=r"none\.png: no such image"):
        interpolate_images(images[0], tmp_path / "none.png", tmp_path / "out.png", linear)


def test_a_text_file_is_no_image(images: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(MidframeError, match=r"text\.png: not an image"):
        interpolate_images(images[0], tmp_path / "text.png", tmp_path / "out.png", linear)


def test_an_input_image_is_not_overwritten(images: tuple[Path, Path]) -> None:
    before = images[1].read_bytes()
    with pytest.raises(MidframeError, match="is an input"):
        interpolate_images(*images, images[1], linear)
    assert images[1].read_bytes() == before


def test_an_image_of_an_unknown_kind_is_not_written(
    images: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(MidframeError, match=r"an image is written as \.bmp, \.jpeg"):
        interpolate_images(*images, tmp_path / "out.xyz", linear)


@pytest.mark.parametrize(
    ("time", "given"), [(0.5, 0.5), (1 / 3, 0.375), (0.2, 0.25), (0.01, 0.125), (0.99, 0.875)]
)
def test_a_network_gives_the_nearest_halved_position(time: float, given: float) -> None:
    first, third = (np.full((2, 2, 3), level, np.uint8) for level in (0, 240))
    found = Halving(lambda a, b: linear(a, b))(first, third, time)
    np.testing.assert_allclose(found * 255, 240 * given, atol=1e-3)
