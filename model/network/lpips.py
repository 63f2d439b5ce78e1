"""LPIPS, a learned distance of images (Zhang, Isola, Efros, Shechtman and Wang, CVPR 2018).

Version 0.1 with the features of AlexNet, the one that papers of the field report. Two files are
needed: torchvision's AlexNet and the weights of the five layers that the authors publish.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.pixels import Image, quantise
from pipeline.errors import MidframeError
from pipeline.provenance import file_digest
from pipeline.sources.download import download

ALEXNET = "alexnet-owt-7be5be79.pth"
ALEXNET_URL = f"https://download.pytorch.org/models/{ALEXNET}"
LINEAR = "lpips-0.1-alex.pth"
LINEAR_URL = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/"
    "lpips/weights/v0.1/alex.pth"
)
# SHA-256 of the file in the package `lpips` 0.1.4.
LINEAR_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
# Place in torchvision's `features`, stride and padding of each convolution; a pooling of 3x3 with
# stride 2 precedes the second and the third.
CONVOLUTIONS = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))
EPSILON = 1e-10


def fetch_lpips(folder: Path) -> None:
    """Download both files (233 MB) into ``folder`` and check them.

    Raises
    ------
    MidframeError
        if one is unavailable, or not what its name or known checksum says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "checksums.lock.json"
    for url, name in ((ALEXNET_URL, ALEXNET), (LINEAR_URL, LINEAR)):
        path = download(url, folder / name, lock=lock)
        if fault := _fault(path):
            raise MidframeError(f"{path}: not what {url} should be: {fault}; delete it")


def _fault(path: Path) -> str | None:
    """What is wrong with one of the two published files, by their published digests."""
    expected = {ALEXNET: ALEXNET[-12:-4], LINEAR: LINEAR_SHA256}.get(path.name)
    found = file_digest(path)
    if expected and not found.startswith(expected):
        return f"its SHA-256 begins with {found[:8]}, not {expected[:8]}"
    return None


class LPIPS:
    """The distance; 0 for equal images, some 0.05 for good predictions.

    Parameters
    ----------
    folder : holds `ALEXNET` and `LINEAR`, as `fetch_lpips` leaves them.

    Raises
    ------
    MidframeError
        if a file is missing, damaged or something else; says how to get it.
    """

    def __init__(self, folder: Path) -> None:
        features = _load(folder / ALEXNET)
        linear = _load(folder / LINEAR)
        self._layers = []
        self._weights = []
        channels = 3
        for number, (place, stride, padding) in enumerate(CONVOLUTIONS):
            weight = _tensor(features, f"features.{place}.weight", folder / ALEXNET)
            bias = _tensor(features, f"features.{place}.bias", folder / ALEXNET)
            scale = _tensor(linear, f"lin{number}.model.1.weight", folder / LINEAR)
            if (
                weight.dim() != 4
                or weight.shape[1] != channels
                or scale.shape != (1, weight.shape[0], 1, 1)
            ):
                raise MidframeError(
                    f"{folder}: layer {number} of AlexNet and of LPIPS do not fit each other"
                )
            channels = weight.shape[0]
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
            layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
            self._layers.append(layer.requires_grad_(False))
            self._weights.append(scale.float())

    def score(self, prediction: Image, target: Image) -> float:
        """Distance of two images ``[H, W, 3]``, uint8 or float in 0..1; both are rounded to 8 bits.

        Raises
        ------
        ValueError
            if they are no RGB images.
        """
        images = [torch.from_numpy(quantise(i, "round").copy()) for i in (prediction, target)]
        return float(self.distance(torch.stack(images).permute(0, 3, 1, 2) / 127.5 - 1))

    @torch.no_grad()
    def distance(self, pair: Tensor) -> Tensor:
        """Distance of the two images of a batch ``[2, 3, H, W]``, in -1..1."""
        values = (pair - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1)
        total = torch.zeros(())
        for number, (layer, scale) in enumerate(zip(self._layers, self._weights, strict=True)):
            if number in (1, 2):
                values = functional.max_pool2d(values, 3, 2)
            values = functional.relu(layer(values))
            length = values.square().sum(dim=1, keepdim=True).sqrt()
            one, other = values / (length + EPSILON)
            total = total + (scale[0] * (one - other).square()).sum(dim=0).mean()
        return total


def _load(path: Path) -> object:
    if not path.is_file():
        raise MidframeError(
            f"{path}: LPIPS needs this file; get it with `midframe fetch-lpips --out {path.parent}`"
        )
    if fault := _fault(path):
        raise MidframeError(f"{path}: damaged or incomplete: {fault}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise MidframeError(f"{path}: not a file of weights ({type(error).__name__})") from None


def _tensor(state: object, name: str, path: Path) -> Tensor:
    tensor = state.get(name) if isinstance(state, dict) else None
    if not isinstance(tensor, Tensor):
        raise MidframeError(f"{path}: {name} is missing, so these are not the weights of LPIPS")
    return tensor
