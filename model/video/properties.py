"""What a source is: the one description that reading, predicting and writing share."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from model.video.planes import Layout

DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class Mastering:
    """The display that a picture of high dynamic range was made on (SMPTE ST 2086), and its light.

    Attributes
    ----------
    primaries : x and y of red, green, blue and white (CIE 1931).
    luminance : least and greatest, in cd/m².
    light : most light of a pixel, and of the mean of a frame, in cd/m² (CTA-861.3).
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] | None = None
    luminance: tuple[Fraction, Fraction] | None = None
    light: tuple[int, int] | None = None


@dataclass(frozen=True)
class VideoProperties:
    """What is known of a video before it is read.

    Attributes
    ----------
    layout : how its planes hold a picture.
    frame_count : an estimate, 0 if there is none.
    color_range, primaries, transfer : FFmpeg's numbers, as ``layout.matrix``.
    display_matrix : nine integers that turn the picture, or ``None`` for an upright one.
    interlaced : whether most of its first pictures mix two moments.
    codec : FFmpeg's name of what it is decoded from.
    lost : what it has that cannot be written again, each half a sentence.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    layout: Layout
    frame_count: int = 0
    sample_aspect_ratio: Fraction | None = None
    color_range: int = 0
    primaries: int = 2
    transfer: int = 2
    display_matrix: tuple[int, ...] | None = None
    mastering: Mastering = field(default_factory=Mastering)
    interlaced: bool = False
    codec: str = ""
    lost: tuple[str, ...] = ()


class Source(Protocol):
    """A video, or a folder of images, that is read once, from front to back."""

    path: Path
    properties: VideoProperties
    notes: list[str]

    def read(self) -> Iterator[av.VideoFrame]:
        """Yield the frames, with rising ``pts`` in units of the properties' time base."""
        ...

    def close(self) -> None: ...


def mastering_of(frame: av.VideoFrame) -> Mastering:
    """What a decoded frame says of the display it was made on."""
    display: Any = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    light: Any = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    primaries = luminance = levels = None
    if display is not None:
        # AVMasteringDisplayMetadata: ten fractions, then whether the first eight and last two hold.
        numbers = np.frombuffer(bytes(display), np.int32).astype(int).tolist()
        values = [Fraction(a, b or 1) for a, b in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
        if numbers[20]:
            primaries = tuple(zip(values[:8:2], values[1:8:2], strict=True))
        if numbers[21]:
            luminance = values[8], values[9]
    if light is not None:
        levels = tuple(np.frombuffer(bytes(light), np.uint32).astype(int).tolist()[:2])
    return Mastering(primaries, luminance, levels)


def unwritten(frame: av.VideoFrame) -> tuple[str, ...]:
    """What a decoded frame carries that no encoder here takes."""
    known = {
        "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
        "DOVI_METADATA": "Dolby Vision metadata",
        "DOVI_RPU_BUFFER": "Dolby Vision metadata",
        "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    }
    there: list[Any] = list(frame.side_data)
    names = [one.type.name for one in there]
    return tuple(dict.fromkeys(known[name] for name in names if name in known))
