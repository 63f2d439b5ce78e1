import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.network.vgg import fetch_vgg, load_features
from pipeline.errors import MidframeError

# Configuration E of the paper, narrowed: channels of its convolutions, "M" where it pools.
LAYERS = (4, 4, "M", 6, 6, "M", 8, 8, 8, 8, "M", 10, 10, 10, 10, "M", 10, 10, 10, 10, "M")


def made_up_state() -> dict[str, Tensor]:
    """Weights with torchvision's names: a convolution and its ReLU take two places, a pool one."""
    torch.manual_seed(0)
    state, place, channels = {}, 0, 3
    for layer in LAYERS:
        if layer == "M":
            place += 1
            continue
        state[f"features.{place}.weight"] = 0.2 * torch.randn(layer, channels, 3, 3)
        state[f"features.{place}.bias"] = 0.1 * torch.randn(layer)
        place, channels = place + 2, layer
    state["classifier.0.weight"] = torch.zeros(2, 2)
    return state


def save(state: object, folder: Path, name: str | None = None) -> Path:
    """Write a state dict under a name that carries its SHA-256, as the published file's does."""
    path = folder / "vgg.pth"
    torch.save(state, path)
    prefix = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(folder / (name or f"vgg19-{prefix}.pth"))


def test_features_are_those_after_relu4_4(tmp_path: Path) -> None:
    state = made_up_state()
    frame = torch.rand(1, 3, 32, 32)
    x, place, convolutions = frame, 0, 0
    for layer in LAYERS:
        if layer == "M":
            x, place = functional.max_pool2d(x, 2), place + 1
            continue
        weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
        x, place = functional.relu(functional.conv2d(x, weight, bias, padding=1)), place + 2
        convolutions += 1
        if convolutions == 2 + 2 + 4 + 4:
            break
    torch.testing.assert_close(load_features(save(state, tmp_path))(frame), x)


def test_features_are_frozen(tmp_path: Path) -> None:
    features = load_features(save(made_up_state(), tmp_path))
    assert not any(parameter.requires_grad for parameter in features.parameters())


@pytest.mark.parametrize("path", [None, Path("nowhere/vgg19-dcbb9e9d.pth")])
def test_missing_weights_are_an_error_that_tells_where_to_get_them(path: Path | None) -> None:
    with pytest.raises(MidframeError, match="https://download.pytorch.org/models/vgg19-dcbb9e9d"):
        load_features(path)


def test_file_whose_digest_is_not_that_of_its_name_is_refused(tmp_path: Path) -> None:
    path = save(made_up_state(), tmp_path, "vgg19-dcbb9e9d.pth")
    with pytest.raises(MidframeError, match="its name says dcbb9e9d"):
        load_features(path)


def test_file_without_a_digest_in_its_name_is_read(tmp_path: Path) -> None:
    assert len(load_features(save(made_up_state(), tmp_path, "mine.pth"))) == 27


def test_another_networks_weights_are_refused_by_the_first_that_does_not_fit(
    tmp_path: Path,
) -> None:
    state = made_up_state()
    state["features.2.weight"] = torch.zeros(4, 5, 3, 3)
    with pytest.raises(MidframeError, match=r"features.2.weight has shape \[4, 5, 3, 3\]"):
        load_features(save(state, tmp_path))
    del state["features.2.weight"]
    with pytest.raises(MidframeError, match="features.2.weight is missing"):
        load_features(save(state, tmp_path))


def test_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    path.write_text("weights")
    with pytest.raises(MidframeError, match="not a file of weights"):
        load_features(path)


def test_fetched_file_is_checked_by_the_digest_in_its_address(tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    published = save(made_up_state(), tmp_path / "published")
    fetch_vgg(tmp_path / "vgg.pth", published.as_uri())
    wrong = save(made_up_state(), tmp_path / "published", "vgg19-00000000.pth")
    with pytest.raises(MidframeError, match="its name says 00000000"):
        fetch_vgg(tmp_path / "other.pth", wrong.as_uri())
