"""Small videos for tests: written, and decoded again."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from model.settings import VideoSettings

Frame = NDArray[np.uint8]
FAST = VideoSettings.model_validate({"preset": "ultrafast", "crf": 12})


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
