"""The frame between two frames: by a network, by optical flow, or their mean.

All are a `Predictor`: a function of two frames, and of the time between them where they know any
but the middle. What evaluates or writes videos knows no more of a model than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from model.pixels import quantise
from model.settings import FLOW_METHODS, LINEAR, WITHOUT_WEIGHTS, Precision
from pipeline.errors import MidframeError
from pipeline.frames.decoding import IMAGE_MODES
from pipeline.frames.sequences import Frame
from pipeline.processor import computes_bfloat16
from pipeline.progress import notice
from pipeline.provenance import partial_path, remove_abandoned
from pipeline.reading import explain

if TYPE_CHECKING:
    from model.network.architecture import SepConv

FloatFrame = NDArray[np.float32]
AnyFrame = Frame | FloatFrame


class Predictor(Protocol):
    """Predicts the frame at ``time`` (0 < time < 1) between two RGB frames [H, W, 3].

    Both are uint8, or both float32 in 0..1.

    Returns float32 [H, W, 3] in 0..1, not rounded to 8 bits. A network makes the middle only; see
    `load_predictor` for what it gives at other times.
    """

    def __call__(self, first: AnyFrame, third: AnyFrame, time: float = 0.5, /) -> FloatFrame: ...


WRITTEN_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

# In bfloat16, layers of a few channels have no fast convolution: a network of width 1/16 did not
# end in a minute what takes float32 milliseconds.
BFLOAT16_WIDTH = 0.25

# Larger frames are cut into tiles of at most so many pixels. A network of full width takes 1.5 to
# 1.7 kB a pixel on a CPU (measured at 640x384 and 1280x768), so some 4 GB for the largest tile.
TILE_PIXELS = 2048 * 1280


def linear(first: AnyFrame, third: AnyFrame, time: float = 0.5) -> FloatFrame:
    """Mean of two frames ``[H, W, 3]``, as float32 in 0..1; not rounded to 8 bits.

    At another ``time`` than the middle, weighted by it.
    """
    if first.dtype == np.float32:
        return np.asarray(cv2.addWeighted(first, 1 - time, third, time, 0), np.float32)
    if time != 0.5:
        weights = np.float32((1 - time) / 255), np.float32(time / 255)
        return first * weights[0] + third * weights[1]
    total = first.astype(np.float32) + third.astype(np.float32)
    return total / np.float32(510)


def predict(
    network: SepConv, first: AnyFrame, third: AnyFrame, tile_pixels: int = TILE_PIXELS
) -> FloatFrame:
    """Let a network predict the frame between two RGB frames ``[H, W, 3]``.

    Both are uint8, or both float32 in 0..1.

    Frames of more than ``tile_pixels`` pixels are predicted in overlapping tiles, see
    `model.network.tiling`; the result is that of the whole frame up to rounding in float32.

    Returns
    -------
    float32 ``[H, W, 3]``, clipped to 0..1, not rounded to 8 bits.
    """
    import torch

    from model.network.tiling import predict_tiled

    device = next(network.parameters()).device
    peak = 255 if first.dtype == np.uint8 else 1
    frames = [
        torch.from_numpy(frame.transpose(2, 0, 1)[None].astype(np.float32)).to(device).div_(peak)
        for frame in (first, third)
    ]
    with torch.inference_mode():
        if first.shape[0] * first.shape[1] <= tile_pixels:
            middle = network(frames[0], frames[1])
        else:
            middle = predict_tiled(network, frames[0], frames[1], tile_pixels)
        middle = middle[0].float().clamp_(0, 1).permute(1, 2, 0)
        return np.ascontiguousarray(middle.cpu().numpy())


def interpolate(
    network: SepConv | Literal["linear"],
    first: Frame,
    third: Frame,
    tile_pixels: int = TILE_PIXELS,
) -> Frame:
    """Make the frame between two frames.

    Parameters
    ----------
    network : SepConv or "linear"
        A network, or the mean of the two frames.
    first, third : uint8[H, W, 3]
        RGB, of one size.
    tile_pixels : int
        Frames of more pixels are predicted in tiles, which bounds the memory.

    Returns
    -------
    uint8[H, W, 3]
        RGB, rounded half up.

    Raises
    ------
    MidframeError
        if the frames differ in size.
    """
    check_pair(first, third)
    if isinstance(network, str):
        return quantise(linear(first, third), "round")
    return quantise(predict(network, first, third, tile_pixels), "round")


def check_pair(first: Frame, third: Frame) -> None:
    """Raise `MidframeError` unless both are uint8 RGB frames of one size."""
    for frame in (first, third):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise MidframeError(
                f"a frame is uint8 RGB [H, W, 3], not {frame.dtype} {list(frame.shape)}"
            )
    if first.shape != third.shape:
        raise MidframeError(
            f"the two frames differ in size: {first.shape[1]}x{first.shape[0]} and "
            f"{third.shape[1]}x{third.shape[0]}; scale one of them first"
        )


def load_predictor(
    model: str,
    device: str = "auto",
    tile_pixels: int = TILE_PIXELS,
    between: Literal["halves", "flow"] = "halves",
    precision: Precision = "fp32",
) -> Predictor:
    """Make a predictor of ``"linear"``, ``"flow"``, ``"flow-fast"`` or the path of a weights file.

    ``device`` is ``"auto"`` (CUDA if there is one, or else Apple's MPS), ``"cpu"``, ``"cuda"`` or
    ``"mps"``. ``between`` says what weights, which make the middle, give at other times: the
    nearest of the positions that halving makes (`Halving`), or flow between the middle and its
    neighbours (`AlongFlow`). ``precision`` is that of a network on a CPU: with ``"auto"`` bfloat16
    where the processor computes in it, which is then said in a line.

    Raises
    ------
    MidframeError
        if there is no such file or device.
    """
    if model == LINEAR:
        return linear
    if model in FLOW_METHODS:
        from model.video.flow_prediction import predict_by_flow

        return partial(predict_by_flow, method=model)
    if not Path(model).is_file():
        raise MidframeError(
            f"{model}: no such weights file; give a .safetensors file, or "
            + ", ".join(f"'{name}'" for name in WITHOUT_WEIGHTS)
        )

    from model.network.architecture import place
    from model.network.checkpoints import load_network

    device = choose_device(device)
    network = load_network(Path(model), device=device)
    place(network, device)
    wide = network.settings.width >= BFLOAT16_WIDTH
    native = precision == "auto" and wide and computes_bfloat16()
    if device == "cpu" and (native or precision == "bf16"):
        from model.network import bfloat16

        bfloat16.convert(network)
        notice("the network computes in bfloat16 (the setting precision: fp32 takes float32)")
    middle = partial(predict, network, tile_pixels=tile_pixels)
    return AlongFlow(middle) if between == "flow" else Halving(middle)


def choose_device(name: str) -> str:
    """The device that is meant; ``"auto"``: CUDA, or else Apple's MPS, or else the CPU.

    Raises
    ------
    MidframeError
        if it is not here.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next((device for device, is_there in there.items() if is_there), "cpu")
    if not there.get(name, True):
        raise MidframeError(f"no {name.upper()} device is found here; use --device cpu")
    return name


class _Network:
    """A network's middle frame between two, kept for other times between the same two."""

    def __init__(self, middle: Callable[[AnyFrame, AnyFrame], FloatFrame]) -> None:
        self._predict = middle
        self._pair: tuple[AnyFrame, AnyFrame] | None = None
        self._made: dict[int, FloatFrame] = {}

    def _begin(self, first: AnyFrame, third: AnyFrame) -> None:
        if self._pair is None or self._pair[0] is not first or self._pair[1] is not third:
            self._pair, self._made = (first, third), {}

    def _frame(self, eighth: int) -> AnyFrame:
        """A frame to predict from: of the type of the two, so rounded if those have 8 bits."""
        assert self._pair is not None
        if eighth in (0, 8):
            return self._pair[eighth // 8]
        made = self._made[eighth]
        return quantise(made, "round") if self._pair[0].dtype == np.uint8 else made

    def _middle(self, low: int, high: int) -> FloatFrame:
        half = (low + high) // 2
        if half not in self._made:
            self._made[half] = self._predict(self._frame(low), self._frame(high))
        return self._made[half]


class Halving(_Network):
    """A network at any time: the nearest to it of the frames that halving makes, 1/8 to 7/8."""

    def __call__(self, first: AnyFrame, third: AnyFrame, time: float = 0.5, /) -> FloatFrame:
        self._begin(first, third)
        eighth = min(max(round(time * 8), 1), 7)
        low, high = 0, 8
        while True:
            half, made = (low + high) // 2, self._middle(low, high)
            if half == eighth:
                return made
            low, high = (low, half) if eighth < half else (half, high)


class AlongFlow(_Network):
    """A network at any time: its middle frame, and optical flow between that and the two."""

    def __call__(self, first: AnyFrame, third: AnyFrame, time: float = 0.5, /) -> FloatFrame:
        from model.video.flow_prediction import predict_by_flow

        self._begin(first, third)
        middle = self._middle(0, 8)
        if time == 0.5:
            return middle
        if time < 0.5:
            return predict_by_flow(first, self._frame(4), 2 * time)
        return predict_by_flow(self._frame(4), third, 2 * time - 1)


def interpolate_images(first: Path, third: Path, target: Path, predictor: Predictor) -> None:
    """Make an image file between two image files.

    The image appears when it is whole; one of that name is replaced.

    Raises
    ------
    MidframeError
        if an image cannot be read, the two differ in size, or ``target`` cannot be written.
    """
    if target.suffix.lower() not in WRITTEN_IMAGES:
        raise MidframeError(f"{target}: an image is written as {', '.join(sorted(WRITTEN_IMAGES))}")
    if any(target.exists() and path.exists() and target.samefile(path) for path in (first, third)):
        raise MidframeError(f"{target}: is an input; choose another name for the output")
    frames = [read_image(path) for path in (first, third)]
    check_pair(*frames)
    middle = Image.fromarray(quantise(predictor(frames[0], frames[1]), "round"))
    with complete_or_nothing(target) as partial:
        middle.save(partial)


def read_image(path: Path) -> Frame:
    """Read an 8-bit RGB or grey image as uint8 RGB ``[H, W, 3]``.

    Raises
    ------
    MidframeError
        if there is none, or it has another colour mode.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in IMAGE_MODES:
                raise MidframeError(
                    f"{path}: colour mode {image.mode}; 8-bit RGB or grey images are needed"
                )
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise MidframeError(f"{path}: no such image") from None
    except UnidentifiedImageError:
        raise MidframeError(f"{path}: not an image that can be read") from None
    # Pillow asks for as much memory as a damaged length says.
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise MidframeError(f"{path}: not a readable image ({explain(error)})") from None


@contextmanager
def complete_or_nothing(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` that takes its name if the block ends well.

    Raises
    ------
    MidframeError
        if the folder cannot be written.
    """
    partial = partial_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(target)
        partial.touch()
    except OSError as error:
        raise MidframeError(f"{target}: cannot write here ({error.strerror})") from None
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
