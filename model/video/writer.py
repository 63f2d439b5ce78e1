"""Writing a video file that is made from another: H.264, with its sound and properties."""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.reformatter import ColorRange

from model.video.files import MATRICES, VideoProperties, to_rgb
from pipeline.errors import MidframeError
from pipeline.frames.decoding import COLOUR_CONVERSION
from pipeline.frames.sequences import Frame

# Containers that hold H.264 with exact times.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
PIXEL_FORMAT = "yuv420p"


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
        self._durations: dict[int, int] = {}
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
        try:
            self._sounds = {sound.index: self._copy_of(sound) for sound in sounds}
            self._container.start_encoding()
        except (ValueError, av.error.FFmpegError, OSError) as error:
            if not sounds:
                raise self._error(error) from None
            names = ", ".join(sound.codec_context.name for sound in sounds)
            raise MidframeError(
                f"{shown}: a {path.suffix} file cannot hold this sound ({names}); write an .mkv "
                "file, which can"
            ) from None

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
        # FFmpeg begins to write uncompressed sound into an MP4 file and fails when it closes it.
        if self._container.format.name == "mp4" and sound.codec_context.name.startswith("pcm_"):
            raise ValueError("uncompressed sound in MP4")
        copy = self._container.add_stream_from_template(sound)
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
            # What went wrong is already on its way to the user; the file is thrown away.
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
            return
        try:
            self._encode(None)
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
                    interpolation=COLOUR_CONVERSION,
                    dst_colorspace=int(MATRICES[self._properties.matrix]),
                    dst_color_range=self._properties.color_range or int(ColorRange.MPEG),
                )
            # Otherwise the encoder would repeat the source's choice of key frames.
            frame.pict_type = 0
            frame.time_base = self._time_base
            frame.pts, frame.duration = pts, duration
            self._durations[pts] = duration
            self._encode(frame)
        except (av.error.FFmpegError, OSError) as error:
            raise self._error(error) from None

    def _encode(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            # The encoder forgets how long a frame stays, which decides where the file ends.
            if packet.pts is not None and packet.time_base == self._time_base:
                packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._container.mux(packet)

    def copy(self, packet: "Packet[Any]") -> None:
        """Copy a packet of sound that `VideoSource` has read."""
        try:
            packet.stream = self._sounds[packet.stream.index]
            self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise self._error(error) from None

    def _error(self, error: av.error.FFmpegError | OSError | ValueError) -> MidframeError:
        return MidframeError(
            f"{self._shown}: cannot be written ({getattr(error, 'strerror', error)})"
        )
