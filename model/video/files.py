"""Reading a video file, with all that a file made from it must not lose.

That is its times, colour properties, shape of pixels, rotation of the display, and sound.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from pipeline.errors import MidframeError
from pipeline.frames.decoding import COLOUR_CONVERSION
from pipeline.frames.sequences import Frame

# FFmpeg's number of a YUV matrix (AVCOL_SPC_*) and its converter's (SWS_CS_*) for the same. 2 is
# "unspecified": swscale takes BT.601, in both directions, and the file still says nothing.
MATRICES = {
    1: Colorspace.ITU709,
    2: Colorspace.ITU601,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class VideoProperties:
    """What is known of a video before it is read.

    ``matrix``, ``color_range``, ``primaries`` and ``transfer`` are FFmpeg's numbers;
    ``display_matrix`` its nine integers, or ``None`` for an upright picture; ``frame_count`` is
    an estimate, 0 if there is none.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    frame_count: int
    sample_aspect_ratio: Fraction | None
    matrix: int
    color_range: int
    primaries: int
    transfer: int
    display_matrix: tuple[int, ...] | None


class VideoSource:
    """A video file that is read once, from front to back; a context manager.

    Attributes
    ----------
    properties : VideoProperties
    sounds : its sound tracks.

    Raises
    ------
    MidframeError
        if it is no readable video, here or later.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # The rotation is known from the first frame only, and is needed before the first
            # packet of sound is copied.
            with av.open(path) as container:
                self.properties = _properties(path, container)
            self._container = av.open(path)
        except (av.error.FFmpegError, OSError) as error:
            raise MidframeError(f"{path}: not a readable video ({error.strerror})") from None
        self._stream = _video_stream(path, self._container)
        self.sounds: tuple[AudioStream, ...] = self._container.streams.audio
        start = max(self._container.start_time or 0, 0)
        self._start = Fraction(start, av.time_base)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._container.close()

    def read(self, copy_sound: "Callable[[Packet[Any]], None]") -> Iterator[av.VideoFrame]:
        """Yield the frames, with rising ``pts`` in units of the stream's time base, and hand over
        the packets of sound as they come by; times count from the file's start."""
        time_base = self.properties.time_base
        step = max(1, round(1 / (self.properties.rate * time_base)))
        offset = round(self._start / time_base)
        previous = None
        try:
            for packet in self._container.demux(self._stream, *self.sounds):
                # Not by the packet's own stream_index: it is 0 in the packets that end a stream.
                if packet.stream.index != self._stream.index:
                    if packet.dts is not None:
                        copy_sound(self._shifted(packet))
                    continue
                for frame in self._stream.decode(packet):
                    pts = None if frame.pts is None else frame.pts - offset
                    if pts is None or (previous is not None and pts <= previous):
                        # Broken files repeat times or lack them; the picture is good all the same.
                        pts = 0 if previous is None else previous + step
                    frame.pts = previous = pts
                    self._check(frame)
                    yield frame
        except (av.error.FFmpegError, OSError) as error:
            raise MidframeError(f"{self.path}: cannot be read on ({error.strerror})") from None

    def _shifted(self, packet: "Packet[Any]") -> "Packet[Any]":
        offset = round(self._start / packet.time_base)
        if packet.pts is not None:
            packet.pts -= offset
        if packet.dts is not None:
            packet.dts -= offset
        return packet

    def _check(self, frame: av.VideoFrame) -> None:
        expected = (self.properties.width, self.properties.height)
        if (frame.width, frame.height) != expected:
            raise MidframeError(
                f"{self.path}: frames change from {expected[0]}x{expected[1]} to "
                f"{frame.width}x{frame.height}; split the video there"
            )


def to_rgb(frame: av.VideoFrame) -> Frame:
    """A decoded frame as uint8 RGB ``[H, W, 3]``."""
    rgb = frame.to_ndarray(format="rgb24", interpolation=COLOUR_CONVERSION)
    return np.asarray(rgb, dtype=np.uint8)


def _video_stream(path: Path, container: av.container.InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise MidframeError(f"{path}: has no video stream")
    return stream


def _properties(path: Path, container: av.container.InputContainer) -> VideoProperties:
    stream = _video_stream(path, container)
    first = next(container.decode(stream), None)
    if first is None or stream.time_base is None:
        raise MidframeError(f"{path}: holds no frame that can be decoded")
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    seconds = stream.duration * stream.time_base if stream.duration else 0
    if not seconds and container.duration:
        seconds = Fraction(container.duration, av.time_base)
    is_yuv = not first.format.is_rgb
    matrix = first.colorspace if is_yuv else 1
    if matrix not in MATRICES:
        raise MidframeError(
            f"{path}: its colours use the matrix number {matrix} of ITU-T H.273, which cannot be "
            "converted; convert the video to BT.709 first"
        )
    display: Any = first.side_data.get("DISPLAYMATRIX")
    return VideoProperties(
        width=first.width,
        height=first.height,
        time_base=stream.time_base,
        rate=rate,
        frame_count=stream.frames or round(seconds * rate),
        sample_aspect_ratio=stream.sample_aspect_ratio,
        matrix=matrix,
        color_range=first.color_range if is_yuv else int(ColorRange.MPEG),
        primaries=first.color_primaries,
        transfer=first.color_trc,
        display_matrix=(
            None
            if display is None
            else tuple(int(value) for value in np.frombuffer(bytes(display), np.int32))
        ),
    )
