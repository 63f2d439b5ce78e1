import json
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from model.network.architecture import SepConv
from model.network.checkpoints import import_weights, load_network, read_description, save_network
from model.settings import NetworkSettings
from pipeline.errors import MidframeError


@pytest.fixture
def network() -> SepConv:
    torch.manual_seed(0)
    return SepConv(NetworkSettings(width=1 / 16, kernel_length=5, module_order="kartasev"))


def convolutions(name: str, *channels: int, places: tuple[int, ...]) -> dict[str, Tensor]:
    """Random weights of a published layer's convolutions at the places of its Sequential."""
    state = {}
    for place, inputs, outputs in zip(places, channels, channels[1:], strict=False):
        state[f"{name}.{place}.weight"] = torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5
        state[f"{name}.{place}.bias"] = 0.1 * torch.randn(outputs)
    return state


def niklaus_state(prefix: str) -> OrderedDict[str, Tensor]:
    """A state dict with the names and shapes of Niklaus' published networks."""
    torch.manual_seed(0)
    state: OrderedDict[str, Tensor] = OrderedDict()
    for name, inputs, outputs in [
        ("Conv1", 6, 32),
        ("Conv2", 32, 64),
        ("Conv3", 64, 128),
        ("Conv4", 128, 256),
        ("Conv5", 256, 512),
        ("Deconv5", 512, 512),
        ("Deconv4", 512, 256),
        ("Deconv3", 256, 128),
        ("Deconv2", 128, 64),
    ]:
        channels = (inputs, outputs, outputs, outputs)
        state |= convolutions(prefix + name, *channels, places=(0, 2, 4))
    for name, size in [("5", 512), ("4", 256), ("3", 128), ("2", 64)]:
        state |= convolutions(f"{prefix}Upsample{name}", size, size, places=(1,))
    for name in ("Vertical1", "Vertical2", "Horizontal1", "Horizontal2"):
        state |= convolutions(prefix + name, 64, 64, 64, 51, 51, places=(0, 2, 4, 7))
    return state


def kartasev_state() -> dict[str, Tensor]:
    """A state dict with the names and shapes of Kartasev's published network."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    for name, inputs, outputs in [
        ("conv32", 6, 32),
        ("conv64", 32, 64),
        ("conv128", 64, 128),
        ("conv256", 128, 256),
        ("conv512", 256, 512),
        ("conv512x512", 512, 512),
        ("upconv256", 512, 256),
        ("upconv128", 256, 128),
        ("upconv64", 128, 64),
    ]:
        channels = (inputs, inputs, inputs, outputs)
        state |= convolutions(name, *channels, places=(0, 2, 4))
    for size in (512, 256, 128, 64):
        state |= convolutions(f"upsamp{size}", size, size, places=(1,))
    for number in (1, 2, 3, 4):
        state |= convolutions(f"upconv51_{number}", 64, 64, 64, 51, 51, places=(0, 2, 4, 7))
    return state


def niklaus_network(state: dict[str, Tensor], first: Tensor, third: Tensor) -> Tensor:
    """The published architecture, stated from the paper's table; BGR, sizes multiples of 32."""

    def conv(name: str, x: Tensor) -> Tensor:
        bias = state[f"module{name}.bias"]
        return functional.conv2d(x, state[f"module{name}.weight"], bias, padding=1)

    def basic(name: str, x: Tensor) -> Tensor:
        for place in (0, 2, 4):
            x = conv(f"{name}.{place}", x).relu()
        return x

    def double(x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    def kernel(name: str, x: Tensor) -> Tensor:
        return conv(f"{name}.7", double(basic(name, x)))

    c1 = basic("Conv1", torch.cat([first, third], 1))
    c2 = basic("Conv2", functional.avg_pool2d(c1, 2))
    c3 = basic("Conv3", functional.avg_pool2d(c2, 2))
    c4 = basic("Conv4", functional.avg_pool2d(c3, 2))
    c5 = basic("Conv5", functional.avg_pool2d(c4, 2))
    x = basic("Deconv5", functional.avg_pool2d(c5, 2))
    x = conv("Upsample5.1", double(x)).relu() + c5
    x = conv("Upsample4.1", double(basic("Deconv4", x))).relu() + c4
    x = conv("Upsample3.1", double(basic("Deconv3", x))).relu() + c3
    x = conv("Upsample2.1", double(basic("Deconv2", x))).relu() + c2
    height, width = first.shape[2:]
    output = torch.zeros_like(first)
    for frame, number in ((first, 1), (third, 2)):
        vertical, horizontal = kernel(f"Vertical{number}", x), kernel(f"Horizontal{number}", x)
        padded = functional.pad(frame, (25, 25, 25, 25), mode="replicate")
        for i in range(51):
            for j in range(51):
                window = padded[:, :, i : i + height, j : j + width]
                output += window * vertical[:, i, None] * horizontal[:, j, None]
    return output


def test_loaded_network_is_the_saved_one(network: SepConv, tmp_path: Path) -> None:
    save_network(network, tmp_path / "w.safetensors", {"epoch": 3})
    loaded = load_network(tmp_path / "w.safetensors")
    assert loaded.settings == network.settings
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_same_network_gives_the_same_bytes(network: SepConv, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_network(network, tmp_path / name, {"epoch": 3, "stage": {"b": 1, "a": 2}})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_network_in_channels_last_saves_the_same_bytes(network: SepConv, tmp_path: Path) -> None:
    save_network(network, tmp_path / "one", {})
    save_network(network.to(memory_format=torch.channels_last), tmp_path / "two", {})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_description_tells_settings_and_provenance(network: SepConv, tmp_path: Path) -> None:
    save_network(network, tmp_path / "w", {"epoch": 3})
    description = read_description(tmp_path / "w")
    assert description.network == network.settings
    assert description.provenance == {"epoch": 3}


def test_only_the_finished_file_is_left(network: SepConv, tmp_path: Path) -> None:
    save_network(network, tmp_path / "w", {})
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_folder_that_is_missing_is_one_clear_error(network: SepConv, tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="cannot write"):
        save_network(network, tmp_path / "missing" / "w", {})


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="no such weights file"):
        load_network(tmp_path / "w")


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("not weights")
    with pytest.raises(MidframeError, match="not a safetensors file"):
        load_network(tmp_path / "w")


def test_truncated_file_is_refused(network: SepConv, tmp_path: Path) -> None:
    save_network(network, tmp_path / "w", {})
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[: len(content) // 2])
    with pytest.raises(MidframeError, match="not a safetensors file"):
        load_network(tmp_path / "w")


def test_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "w")
    with pytest.raises(MidframeError, match="this program did not write it"):
        load_network(tmp_path / "w")


def header(saved: SepConv, **changes: object) -> dict[str, str]:
    values = {"format_version": 1, "network": saved.settings.model_dump(mode="json")}
    return {"midframe": json.dumps(values | changes)}


def test_other_format_version_is_refused(network: SepConv, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "w", header(network, format_version=99))
    with pytest.raises(MidframeError, match="weights format version 99"):
        load_network(tmp_path / "w")


def test_unknown_network_setting_is_refused(network: SepConv, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "w", header(network, network={"kernel_lenght": 5}))
    with pytest.raises(MidframeError, match="did you mean 'kernel_length'"):
        load_network(tmp_path / "w")


def test_weights_that_do_not_fit_the_settings_are_refused(network: SepConv, tmp_path: Path) -> None:
    state = network.state_dict()
    state["encoder.0.0.weight"] = torch.zeros(1, 6, 3, 3)
    save_file(state, tmp_path / "w", header(network))
    with pytest.raises(MidframeError, match=r"encoder.0.0.weight has shape \[1, 6, 3, 3\]"):
        load_network(tmp_path / "w")


@pytest.mark.parametrize("prefix", ["module", "net"])
def test_imported_niklaus_network_is_the_published_architecture(
    prefix: str, tmp_path: Path
) -> None:
    state = niklaus_state(prefix)
    torch.save(state, tmp_path / "network-l1.pytorch")
    publication = import_weights(tmp_path / "network-l1.pytorch", tmp_path / "w")
    assert publication.name.startswith("Niklaus")
    assert publication.colours == "BGR"
    if prefix == "net":  # the same weights under other names
        return
    first, third = torch.rand(2, 1, 3, 32, 32)
    with torch.inference_mode():
        expected = niklaus_network(state, first.flip(1), third.flip(1)).flip(1)
        found = load_network(tmp_path / "w")(first, third)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)


def test_kartasev_heads_find_their_places(tmp_path: Path) -> None:
    state = kartasev_state()
    torch.save(state, tmp_path / "pretrained.pth")
    assert import_weights(tmp_path / "pretrained.pth", tmp_path / "w").name == "Kartasev"
    network = load_network(tmp_path / "w")
    assert network.settings == NetworkSettings(module_order="kartasev")
    heads = ("horizontal_third", "vertical_third", "horizontal_first", "vertical_first")
    for number, head in enumerate(heads, start=1):
        found = network.state_dict()[f"heads.{head}.7.bias"]
        assert torch.equal(found, state[f"upconv51_{number}.7.bias"])
    assert torch.equal(network.state_dict()["encoder.0.0.weight"], state["conv32.0.weight"])


def test_import_names_the_first_mismatch(tmp_path: Path) -> None:
    state = kartasev_state()
    state["conv64.0.weight"] = torch.zeros(32, 31, 3, 3)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(MidframeError, match=r"conv64.0.weight has shape \[32, 31, 3, 3\]"):
        import_weights(tmp_path / "a.pth", tmp_path / "w")
    del state["conv64.0.weight"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(MidframeError, match="lacks conv64.0.weight"):
        import_weights(tmp_path / "a.pth", tmp_path / "w")
    torch.save(kartasev_state() | {"extra.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(MidframeError, match="holds extra.weight"):
        import_weights(tmp_path / "a.pth", tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_unknown_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(MidframeError, match="its first layer is 'fc.weight'"):
        import_weights(tmp_path / "a.pth", tmp_path / "w")


class Attack:
    """An object whose unpickling would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_import_runs_no_code(tmp_path: Path) -> None:
    torch.save({"conv32.0.weight": Attack(tmp_path / "owned")}, tmp_path / "a.pth")
    with pytest.raises(MidframeError, match="without running code"):
        import_weights(tmp_path / "a.pth", tmp_path / "w")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Attack(tmp_path / "owned"), protocol=2))
    with pytest.raises(MidframeError, match="without running code"):
        import_weights(tmp_path / "b.pth", tmp_path / "w")
    assert not (tmp_path / "owned").exists()
