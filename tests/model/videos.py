"""Small videos for tests: written, and decoded again."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from model.settings import VideoSettings
from model.video.planes import layout_of, planes_of

Frame = NDArray[np.uint8]
FAST = VideoSettings.model_validate({"preset": "ultrafast", "crf": 12})
FASTEST = {
    codec: VideoSettings.model_validate({"codec": codec, "preset": "ultrafast", "crf": 8})
    for codec in ("hevc", "av1", "vp9", "prores", "ffv1")
}


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    difference = a.astype(float) - b
    return float(10 * np.log10(255**2 / max((difference**2).mean(), 1e-9)))


def encode(
    path: Path,
    frames: list[Frame],
    times: list[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    **attributes: Any,
) -> Path:
    """Write a video of RGB frames; ``times`` in units of 1 / 1000 s."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in attributes.items():
            if name == "rotation":
                stream.set_display_rotation(value)
            else:
                setattr(stream.codec_context, name, value)
        for index, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if times is not None:
                frame.time_base, frame.pts = Fraction(1, 1000), times[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def encode_planes(
    path: Path,
    pictures: list[list[NDArray[Any]]],
    pix_fmt: str,
    codec: str = "ffv1",
    options: dict[str, str] | None = None,
    rate: int = 25,
    **attributes: Any,
) -> Path:
    """Write a video of planes, whose codes no converter touches; ``attributes`` of the encoder, and
    of every frame where it has them too."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0][0].shape
        stream.pix_fmt = pix_fmt
        for name, value in attributes.items():
            if name == "rotation":
                stream.set_display_rotation(value)
            else:
                setattr(stream.codec_context, name, value)
        for planes in pictures:
            frame = av.VideoFrame(stream.width, stream.height, pix_fmt)
            for codes, plane in zip(planes, frame.planes, strict=True):
                into = np.frombuffer(plane, codes.dtype).reshape(plane.height, -1)  # type: ignore
                into[: codes.shape[0], : codes.shape[1]] = codes
            for name, value in attributes.items():
                if name.startswith("color"):
                    setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def moving(
    pix_fmt: str, count: int = 6, size: tuple[int, int] = (48, 64), full: bool = False
) -> list[list[NDArray[Any]]]:
    """Pictures of soft noise that moves, two pixels a frame, as planes of a YUV format; colours are
    strong, and some are beyond black and white."""
    layout = layout_of(av.VideoFormat(pix_fmt))
    seeds = np.random.default_rng(3)
    step = 2 ** (layout.bits - 8)
    wide = [(size[0], size[1] + 2 * count), *[(size[0], size[1] + 2 * count)] * 3]
    noise = [
        cv2.GaussianBlur(seeds.normal(0, 1, shape).astype(np.float32), (0, 0), 3) for shape in wide
    ]
    fields = [one / np.abs(one).max() for one in noise]
    low, high = (0, 255) if full else (8, 246)
    pictures = []
    for number in range(count):
        planes = []
        for index in range(3 + layout.alpha):
            whole = fields[index][:, 2 * number : 2 * number + size[1]]
            rows, cols = layout.size(index, *size)
            small = cv2.resize(whole, (cols, rows), interpolation=cv2.INTER_AREA)
            codes = {0: 125 + 160 * small, 3: 128 + 200 * small}.get(index, 128 + 60 * small)
            limits = (low, high) if index == 0 else (0, 255)
            dtype = np.uint8 if layout.bits == 8 else np.uint16
            planes.append((np.clip(codes, *limits) * step).astype(dtype))
        pictures.append(planes)
    return pictures


def planes(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """The planes of a decoded frame, as they are."""
    return [*planes_of(frame, layout_of(frame.format))]
