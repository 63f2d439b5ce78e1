"""Reading and writing video files: what a frame-rate converter must not lose on the way.

Times, colour properties, the shape of pixels, the rotation of the display and the sound pass from
the file that is read to the one that is written.
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
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

from pipeline.errors import MidframeError
from pipeline.frames import Frame

# Containers that hold H.264 with exact times.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
PIXEL_FORMAT = "yuv420p"
# Without these, swscale darkens a picture by one level on its way to RGB, which would flicker
# between frames that went that way and frames that did not.
CONVERSION = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
RGB_MATRIX = 0  # AVCOL_SPC_RGB: the picture is no YUV, so there is no matrix to carry over
# FFmpeg's number of a YUV matrix (AVCOL_SPC_*) and its converter's (SWS_CS_*) for the same. 2 is
# "unspecified": swscale takes BT.601, in both directions, and the file goes on saying nothing.
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
    rgb = frame.to_ndarray(format="rgb24", interpolation=int(CONVERSION))
    return np.asarray(rgb, dtype=np.uint8)


class VideoTarget:
    """A video file that is written once, from front to back; a context manager.

    Frames are H.264, 4:2:0, 8 bits; an odd width or height is made even by repeating the last
    column or row. Sound tracks are copied as they are.

    Parameters
    ----------
    path : the file to write; its suffix names the container.
    shown : what error messages call the file.
    properties : of the video it is made from.
    sounds : the tracks to copy.
    times : how many frames are written for one that was read.
    crf, preset : of libx264.
    """

    def __init__(
        self,
        path: Path,
        shown: Path,
        properties: VideoProperties,
        sounds: tuple[AudioStream, ...],
        times: int,
        crf: int,
        preset: str,
    ) -> None:
        self._shown, self._properties = shown, properties
        self._time_base = properties.time_base / times
        try:
            self._container = av.open(
                path, mode="w", format=CONTAINERS[path.suffix.lower()], options={}
            )
            self._stream = self._container.add_stream(
                "libx264", rate=properties.rate * times, options={"crf": str(crf), "preset": preset}
            )
        except (av.error.FFmpegError, OSError) as error:
            raise self._error(error) from None
        self._configure()
        self._sounds = {sound.index: self._copy_of(sound) for sound in sounds}

    def _configure(self) -> None:
        stream, properties = self._stream, self._properties
        stream.width = properties.width + properties.width % 2
        stream.height = properties.height + properties.height % 2
        stream.pix_fmt = PIXEL_FORMAT
        stream.time_base = self._time_base
        context = stream.codec_context
        context.time_base = self._time_base
        if properties.sample_aspect_ratio:
            context.sample_aspect_ratio = properties.sample_aspect_ratio
        context.colorspace = properties.matrix
        context.color_range = properties.color_range
        context.color_primaries = properties.primaries
        context.color_trc = properties.transfer
        if properties.display_matrix is not None:
            stream.set_display_matrix(properties.display_matrix)

    def _copy_of(self, sound: AudioStream) -> AudioStream:
        try:
            copy = self._container.add_stream_from_template(sound)
        except ValueError:
            raise MidframeError(
                f"{self._shown}: this container cannot hold sound in {sound.codec_context.name}; "
                "write an .mkv file, which can"
            ) from None
        copy.metadata.update(sound.metadata)
        return copy

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._container.close()
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except (av.error.FFmpegError, OSError) as problem:
            raise self._error(problem) from None

    def write_decoded(self, frame: av.VideoFrame, pts: int, duration: int) -> None:
        """Write a frame that `VideoSource` has read, as it was decoded where that is possible."""
        if self._properties.width % 2 or self._properties.height % 2:
            self.write_rgb(to_rgb(frame), pts, duration)
        else:
            self._write(frame, pts, duration)

    def write_rgb(self, frame: Frame, pts: int, duration: int) -> None:
        """Write a uint8 RGB frame ``[H, W, 3]``; times are in units of 1 / ``times`` of the
        source's time base."""
        odd = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
        padded = np.ascontiguousarray(np.pad(frame, odd, mode="edge"))
        self._write(av.VideoFrame.from_ndarray(padded, format="rgb24"), pts, duration)

    def _write(self, frame: av.VideoFrame, pts: int, duration: int) -> None:
        try:
            if frame.format.name != PIXEL_FORMAT:
                frame = frame.reformat(
                    format=PIXEL_FORMAT,
                    interpolation=int(CONVERSION),
                    dst_colorspace=int(MATRICES[self._properties.matrix]),
                    dst_color_range=self._properties.color_range or int(ColorRange.MPEG),
                )
            # Otherwise the encoder would repeat the source's choice of key frames.
            frame.pict_type = 0
            frame.time_base = self._time_base
            frame.pts, frame.duration = pts, duration
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise self._error(error) from None

    def copy(self, packet: "Packet[Any]") -> None:
        """Copy a packet of sound that `VideoSource` has read."""
        try:
            packet.stream = self._sounds[packet.stream.index]
            self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise self._error(error) from None

    def _error(self, error: av.error.FFmpegError | OSError) -> MidframeError:
        return MidframeError(f"{self._shown}: cannot be written ({error.strerror})")


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
