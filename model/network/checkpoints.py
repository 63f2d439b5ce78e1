"""Weights on disk: safetensors, with the JSON that rebuilds the network; import of published ones.

A file holds the parameters by their names in `SepConv` and one metadata entry, ``midframe``: JSON
with the format version, the network's settings, and where the weights come from. Nothing in it
can run code.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.network.architecture import SepConv
from model.settings import NetworkSettings
from pipeline.errors import MidframeError
from pipeline.settings import validate

FORMAT_VERSION = 1
METADATA_KEY = "midframe"


@dataclass(frozen=True)
class Description:
    """What a weights file says of itself.

    Attributes
    ----------
    network : settings that rebuild the network.
    provenance : where the weights come from: epoch and settings of the training stage and its
        parent's provenance, or the published file that was imported. JSON values.
    """

    network: NetworkSettings
    provenance: dict[str, Any] = field(default_factory=dict)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that nobody sees it half-written."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MidframeError(f"{path}: cannot write ({error.strerror})") from None


def save_network(network: SepConv, path: Path, provenance: Mapping[str, Any]) -> None:
    """Write a network's weights; the same weights and provenance give the same bytes.

    Parameters
    ----------
    network : on any device; weights are written in their own dtype.
    path : of the file, conventionally ``*.safetensors``.
    provenance : where the weights come from (see `Description`).

    Raises
    ------
    MidframeError
        if the file cannot be written.
    """
    header = {
        "format_version": FORMAT_VERSION,
        "network": NetworkSettings.of(network.settings).model_dump(mode="json"),
        "provenance": dict(provenance),
    }
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    metadata = {METADATA_KEY: json.dumps(header, sort_keys=True)}
    write_atomically(path, save(tensors, metadata=metadata))


def read_description(path: Path) -> Description:
    """Settings and provenance of a weights file, without reading the weights.

    Raises
    ------
    MidframeError
        if there is no such file, or it is not a weights file of this program and version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise MidframeError(f"{path}: no such weights file") from None
    except (SafetensorError, OSError) as error:
        raise MidframeError(
            f"{path}: not a safetensors file ({error}); "
            "published .pytorch and .pth files go through `import-weights` first"
        ) from None
    try:
        header = json.loads(metadata[METADATA_KEY])
        version, network = header["format_version"], header["network"]
    except (KeyError, ValueError, TypeError, RecursionError):
        raise MidframeError(
            f"{path}: a safetensors file, but this program did not write it"
        ) from None
    if version != FORMAT_VERSION:
        raise MidframeError(
            f"{path}: weights format version {version}, but this program reads version "
            f"{FORMAT_VERSION}"
        )
    settings = validate(NetworkSettings, network, str(path))
    return Description(settings, header.get("provenance", {}))


def load_network(path: Path, device: str | torch.device = "cpu") -> SepConv:
    """Rebuild a network from its weights file, in evaluation mode.

    Raises
    ------
    MidframeError
        if there is no such file, it is none of this program, or its weights do not fit its
        settings.
    """
    settings = read_description(path).network
    with safe_open(path, framework="pt", device=str(device)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return _build(settings, tensors, path).eval()


def _build(settings: NetworkSettings, tensors: Mapping[str, Tensor], path: Path) -> SepConv:
    """A network that holds ``tensors``; names and shapes must be exactly the network's."""
    with torch.device("meta"):  # spend no time on initial weights that are replaced
        network = SepConv(settings)
    _check_shapes(network.state_dict(), tensors, path)
    network.load_state_dict(dict(tensors), assign=True)
    return network.requires_grad_(True)


def _check_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Raise `MidframeError` with the first name or shape that differs."""
    for name, tensor in expected.items():
        if name not in found:
            raise MidframeError(f"{path}: lacks {name}, so these are not the network's weights")
        if found[name].shape != tensor.shape:
            raise MidframeError(
                f"{path}: {name} has shape {list(found[name].shape)}, "
                f"but the network needs {list(tensor.shape)}"
            )
        if not found[name].is_floating_point():
            raise MidframeError(f"{path}: {name} holds {found[name].dtype}, no fractions")
    for name in found:
        if name not in expected:
            raise MidframeError(f"{path}: holds {name}, which the network has no place for")


# Published layer names, in the order of ours; the numbers after them are the same everywhere.
_OURS = (
    *(f"encoder.{i}" for i in range(6)),
    *(f"upsample.{i}" for i in range(4)),
    *(f"decoder.{i}" for i in range(3)),
    *(f"heads.{name}" for name in ("vertical_first", "horizontal_first")),
    *(f"heads.{name}" for name in ("vertical_third", "horizontal_third")),
)
_NIKLAUS = (
    *("Conv1", "Conv2", "Conv3", "Conv4", "Conv5", "Deconv5"),
    *("Upsample5", "Upsample4", "Upsample3", "Upsample2"),
    *("Deconv4", "Deconv3", "Deconv2"),
    *("Vertical1", "Horizontal1", "Vertical2", "Horizontal2"),
)
_KARTASEV = (
    *("conv32", "conv64", "conv128", "conv256", "conv512", "conv512x512"),
    *("upsamp512", "upsamp256", "upsamp128", "upsamp64"),
    *("upconv256", "upconv128", "upconv64"),
    *("upconv51_4", "upconv51_3", "upconv51_2", "upconv51_1"),
)


@dataclass(frozen=True)
class Publication:
    """A family of published weights.

    Attributes
    ----------
    name : who published them, and under which names of layers.
    layers : our name of each of their layers.
    module_order : which convolution of a module changes the number of channels.
    colours : order of the colour channels that the network takes and returns.
    """

    name: str
    layers: dict[str, str]
    module_order: str
    colours: str

    def their_name(self, parameter: str) -> str:
        """Their name of one of our parameters."""
        for theirs, ours in self.layers.items():
            if parameter.startswith(f"{ours}."):
                return theirs + parameter.removeprefix(ours)
        raise KeyError(parameter)


PUBLICATIONS = (
    Publication(
        "Niklaus (pytorch-sepconv)",
        {f"module{theirs}": ours for theirs, ours in zip(_NIKLAUS, _OURS, strict=True)},
        "niklaus",
        "BGR",
    ),
    Publication(
        "Niklaus (sepconv-slomo)",
        {f"net{theirs}": ours for theirs, ours in zip(_NIKLAUS, _OURS, strict=True)},
        "niklaus",
        "BGR",
    ),
    Publication("Kartasev", dict(zip(_KARTASEV, _OURS, strict=True)), "kartasev", "RGB"),
)


def import_weights(source: Path, out: Path) -> Publication:
    """Convert published weights to a weights file of this program.

    Parameters
    ----------
    source : a state dict written by ``torch.save``: Niklaus' ``network-l1.pytorch`` or
        ``network-lf.pytorch``, or Kartasev's ``pretrained.pth``.
    out : the file to write.

    Returns
    -------
    Whose weights they are.

    Raises
    ------
    MidframeError
        if the file cannot be read without running code, or its names and shapes match no published
        network; names the first that does not fit.
    """
    state = _read_state_dict(source)
    publication = _recognise(state, source)
    settings = NetworkSettings.model_validate({"module_order": publication.module_order})
    with torch.device("meta"):
        ours = SepConv(settings).state_dict()
    theirs = {publication.their_name(name): name for name in ours}
    _check_shapes({name: ours[theirs[name]] for name in theirs}, state, source)
    tensors = {theirs[name]: tensor.float() for name, tensor in state.items()}
    if publication.colours == "BGR":
        # Kernels are the same for all colours, so only the layer that reads colours changes.
        first = "encoder.0.0.weight"
        tensors[first] = tensors[first][:, [2, 1, 0, 5, 4, 3]]
    network = _build(settings, tensors, source)
    provenance = {"imported": publication.name, "file": source.name}
    save_network(network, out, provenance)
    return publication


def _read_state_dict(source: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise MidframeError(f"{source}: no such file") from None
    except Exception as error:  # torch lets through whatever damaged data makes Python raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MidframeError(
            f"{source}: cannot be read as weights alone, without running code ({reason})"
        ) from None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise MidframeError(f"{source}: is not a state dict (names and their tensors)")
    return dict(state)


def _recognise(state: Mapping[str, Tensor], source: Path) -> Publication:
    layers = {name.partition(".")[0] for name in state}
    for publication in PUBLICATIONS:
        if layers & set(publication.layers):
            return publication
    first = next(iter(state), None)
    raise MidframeError(
        f"{source}: its first layer is {first!r}, which no published network has; known are "
        + ", ".join(f"{p.name} ({next(iter(p.layers))}, ...)" for p in PUBLICATIONS)
    )
