"""The part of VGG-19 that the perceptual losses look through: up to relu4_4.

Simonyan and Zisserman (ICLR 2015, arXiv:1409.1556), configuration E, with the weights that
torchvision publishes; torchvision itself is not needed.
"""

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import MidframeError
from pipeline.provenance import file_digest
from pipeline.sources.download import download

NAME = "vgg19-dcbb9e9d.pth"
URL = f"https://download.pytorch.org/models/{NAME}"

# Places in torchvision's `features`; a ReLU follows every convolution.
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25)
POOLINGS = (4, 9, 18)


def fetch_vgg(out: Path, url: str = URL) -> None:
    """Download torchvision's weights of VGG-19 (548 MB) to ``out`` and check them.

    The first digits of their SHA-256 are part of their published name.

    Raises
    ------
    MidframeError
        if they are unavailable, or the download is something else.
    """
    path = download(url, out, lock=out.parent / "checksums.lock.json")
    fault = _digest_fault(path, url)
    if fault:
        raise MidframeError(f"{path}: not what {url} should be: {fault}; delete it and try again")


def _digest_fault(path: Path, name: str) -> str | None:
    """What is wrong with a file, if its published name ends in the first digits of its SHA-256."""
    prefix = re.search(r"-([0-9a-f]{8})\.pth$", name)
    found = file_digest(path) if prefix else ""
    if prefix and not found.startswith(prefix[1]):
        return f"its SHA-256 begins with {found[:8]}, its name says {prefix[1]}"
    return None


def load_features(path: Path | None) -> nn.Sequential:
    """VGG-19 up to relu4_4, frozen, from torchvision's published file.

    Parameters
    ----------
    path : the file. If its name ends in eight hexadecimal digits, as the published one's does,
        they must be the first of its SHA-256. Its numbers of channels are those of its tensors.

    Returns
    -------
    A module: float [B, 3, H, W], RGB -> float [B, 512, H / 8, W / 8].

    Raises
    ------
    MidframeError
        if the file is missing, damaged, or not VGG-19's; says how to get it.
    """
    if path is None or not path.is_file():
        where = f"{path}: no such file" if path else "this loss needs the weights of VGG-19"
        raise MidframeError(
            f"{where}; get them with `midframe fetch-vgg --out {NAME}` or `curl -O {URL}`, "
            "and name them with --vgg"
        )
    fault = _digest_fault(path, path.name)
    if fault:
        raise MidframeError(f"{path}: damaged or incomplete: {fault}; download it again from {URL}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise MidframeError(f"{path}: not a file of weights ({type(error).__name__})") from None

    layers: list[nn.Module] = []
    channels = 3
    for place in range(CONVOLUTIONS[-1] + 2):
        if place in CONVOLUTIONS:
            layer = _convolution(state, place, channels, path)
            layers.append(layer)
            channels = layer.out_channels
        else:
            layers.append(nn.MaxPool2d(2) if place in POOLINGS else nn.ReLU())
    return nn.Sequential(*layers).requires_grad_(False).eval()


def _convolution(state: object, place: int, channels: int, path: Path) -> nn.Conv2d:
    """The convolution at one place of torchvision's `features`."""
    weight = _tensor(state, f"features.{place}.weight", (None, channels, 3, 3), path)
    bias = _tensor(state, f"features.{place}.bias", (weight.shape[0],), path)
    layer = nn.Conv2d(channels, weight.shape[0], kernel_size=3, padding=1)
    layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return layer


def _tensor(state: object, name: str, shape: tuple[int | None, ...], path: Path) -> Tensor:
    """A tensor of the state dict, of this shape (``None``: any size)."""
    tensor = state.get(name) if isinstance(state, dict) else None
    if not isinstance(tensor, Tensor):
        raise MidframeError(f"{path}: not VGG-19's weights: {name} is missing")
    found = tuple(tensor.shape)
    if len(found) != len(shape) or any(
        wanted not in (None, size) for wanted, size in zip(shape, found, strict=True)
    ):
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise MidframeError(
            f"{path}: not VGG-19's weights: {name} has shape {list(found)}, not [{expected}]"
        )
    return tensor
