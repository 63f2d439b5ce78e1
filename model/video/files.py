"""Reading the pictures of a video file, with their exact times."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream

from model.settings import VideoSettings
from model.video.planes import layout_of
from model.video.properties import DEFAULT_RATE, VideoProperties, mastering_of, unwritten
from pipeline.errors import MidframeError
from pipeline.frames.damage import ends_too_early, missing_frames
from pipeline.frames.decoding import COLOUR_CONVERSION
from pipeline.frames.packets import choose_stream, decode, is_empty
from pipeline.frames.sequences import Frame

# Frames that are asked whether they are interlaced.
LOOKED_AT = 10


class VideoSource:
    """A video file that is read once, from front to back.

    Attributes
    ----------
    properties : VideoProperties
    notes : what a user should know of it, filled while it is read.

    Raises
    ------
    MidframeError
        if it is no readable video, here or later; if it is cut short, or a frame of it cannot be
        decoded, unless ``on_bad_frame`` of the settings is ``skip``.
    """

    def __init__(self, path: Path, settings: VideoSettings | None = None) -> None:
        self.path, self._settings = path, settings or VideoSettings()
        self.notes: list[str] = []
        try:
            # The rotation is known from the first frame only.
            with av.open(path, metadata_errors="replace") as container:
                self.properties = self._look(container)
            self._container = av.open(path, metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise MidframeError(f"{path}: not a readable video ({error.strerror})") from None
        self._stream = choose_stream(self._container, path)
        self._stream.thread_type = "AUTO"
        self._decoder = self._alpha_decoder()
        start = max(self._container.start_time or 0, 0)
        self.start = Fraction(start, av.time_base)
        if ends_too_early(path) or _index_reaches_beyond(self._stream, path):
            self._bad("is cut short: its end is missing")

    def close(self) -> None:
        self._container.close()

    def read(self) -> Iterator[av.VideoFrame]:
        """Yield the frames, with rising ``pts`` in units of the properties' time base; times count
        from the file's start. A picture that lacks its time, or repeats one, gets the next."""
        time_base = self.properties.time_base
        step = max(1, round(1 / (self.properties.rate * time_base)))
        offset = round(self.start / time_base)
        frames = self._decoded()
        if self.properties.interlaced:
            frames = self._deinterlaced(frames)
        previous = None
        hidden = False
        for frame in frames:
            pts = None if frame.pts is None else frame.pts - offset
            if pts is None or (previous is not None and pts <= previous):
                pts = 0 if previous is None else previous + step
            frame.pts = previous = pts
            self._check(frame)
            if not self.properties.layout.alpha and not hidden:
                hidden = layout_of(frame.format).alpha and not is_opaque(frame)
            yield frame
        if hidden:
            self.notes.append("pictures become transparent after the first; that is dropped")

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets = undecodable = 0
        last = None
        try:
            for packet in self._container.demux(self._stream):
                packets += bool(packet.size) or is_empty(packet)
                last = packet.dts if packet.size else last
                frames = self._decode(packet)
                if frames is None:
                    undecodable += 1
                    self._bad(f"a frame near {_seconds(packet)} cannot be decoded", undecodable > 1)
                for frame in frames or ():
                    if frame.is_corrupt:
                        undecodable += 1
                        self._bad(f"a frame near {frame.time} s is damaged", undecodable > 1)
                    else:
                        yield frame
        except (av.error.FFmpegError, OSError) as error:
            raise MidframeError(f"{self.path}: cannot be read on ({error.strerror})") from None
        if undecodable > 1:
            self.notes.append(f"{undecodable} frames that cannot be decoded are left out")
        if announced := self._stream.frames:
            places = last if self._container.format.name == "avi" else None
            missing = missing_frames(self.path, announced, packets, places)
            if missing:
                self._bad(f"is cut short: {missing} frames are missing")

    def _decode(self, packet: "av.Packet[VideoStream]") -> list[av.VideoFrame] | None:
        if self._decoder is None:
            return decode(packet)
        try:
            return list(self._decoder.decode(packet if packet.size else None))
        except av.error.InvalidDataError:
            return None

    def _alpha_decoder(self) -> Any:
        # FFmpeg's own decoder of VP8 and VP9 leaves opacity out; it lies beside the packets.
        name = _alpha_decoder_name(self._stream)
        return av.CodecContext.create(name, "r") if name else None

    def _deinterlaced(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        graph = av.filter.Graph()
        mode = "send_field" if self._settings.interlaced == "fields" else "send_frame"
        nodes = [
            graph.add_buffer(template=self._stream),
            graph.add("bwdif", f"mode={mode}"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        for frame in _then_none(frames):
            graph.vpush(frame)
            while True:
                try:
                    made = graph.vpull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
                yield made

    def _bad(self, what: str, is_known: bool = False) -> None:
        if self._settings.on_bad_frame == "error":
            raise MidframeError(
                f"{self.path}: {what}; mend it, or set on_bad_frame: skip to go on with the rest"
            )
        if not is_known:
            self.notes.append(what)

    def _check(self, frame: av.VideoFrame) -> None:
        expected = (self.properties.width, self.properties.height)
        if (frame.width, frame.height) != expected:
            raise MidframeError(
                f"{self.path}: frames change from {expected[0]}x{expected[1]} to "
                f"{frame.width}x{frame.height}; split the video there"
            )

    def _look(self, container: av.container.InputContainer) -> VideoProperties:
        stream = choose_stream(container, self.path)
        decoder = _alpha_decoder_name(stream)
        first, woven = _first_frame(self.path, container, stream, decoder)
        if stream.time_base is None:
            raise MidframeError(f"{self.path}: its pictures have no times")
        time_base = stream.time_base
        rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
        seconds = stream.duration * time_base if stream.duration else Fraction(0)
        if not seconds and container.duration:
            seconds = Fraction(container.duration, av.time_base)
        layout = layout_of(first.format, first.color_range, first.colorspace)
        if layout.alpha and layout.family == "rgb" and is_opaque(first):
            # Decoders of GIF and the like give opacity to every picture.
            layout = layout_of(av.VideoFormat("rgb24" if layout.bits == 8 else "rgb48le"))
        count = stream.frames or round(seconds * rate)
        if woven:
            if self._settings.interlaced == "refuse":
                raise MidframeError(
                    f"{self.path}: is interlaced, so every picture mixes two moments; set "
                    "interlaced: deinterlace"
                )
            twice = 1 + (self._settings.interlaced == "fields")
            # The filter halves the unit, to have times for both fields.
            time_base, rate, count = time_base / 2, rate * twice, count * twice
            made = "one picture of each field" if twice == 2 else "one picture of each frame"
            self.notes.append(f"is interlaced: deinterlaced by bwdif, {made}")
        display: Any = first.side_data.get("DISPLAYMATRIX")
        is_rgb = layout.family == "rgb"
        return VideoProperties(
            width=first.width,
            height=first.height,
            time_base=time_base,
            rate=rate,
            layout=layout,
            frame_count=count,
            sample_aspect_ratio=stream.sample_aspect_ratio,
            color_range=0 if is_rgb else first.color_range,
            primaries=first.color_primaries,
            transfer=first.color_trc,
            display_matrix=(
                None
                if display is None
                else tuple(int(value) for value in np.frombuffer(bytes(display), np.int32))
            ),
            mastering=mastering_of(first),
            interlaced=woven,
            codec=stream.codec_context.name,
            lost=unwritten(first),
        )


def to_rgb(frame: av.VideoFrame) -> Frame:
    """A decoded frame as uint8 RGB ``[H, W, 3]``."""
    rgb = frame.to_ndarray(format="rgb24", interpolation=COLOUR_CONVERSION)
    return np.asarray(rgb, dtype=np.uint8)


def is_opaque(frame: av.VideoFrame) -> bool:
    """Whether no pixel of a frame shows what is behind it."""
    if frame.format.name not in ("bgra", "rgba", "argb", "abgr"):
        frame = frame.reformat(format="rgba")
    place = 0 if frame.format.name.startswith("a") else 3
    plane = frame.planes[0]
    values = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)  # type: ignore[call-overload]
    return bool(np.all(values[:, place : 4 * frame.width : 4] == 255))


def _then_none(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame | None]:
    yield from frames
    yield None


def _alpha_decoder_name(stream: VideoStream) -> str | None:
    # Names of tags are as whoever wrote the file spelt them.
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    return name if tags.get("alpha_mode") == "1" else None


def _first_frame(
    path: Path,
    container: av.container.InputContainer,
    stream: VideoStream,
    decoder: str | None,
) -> tuple[av.VideoFrame, bool]:
    """The first frame, and whether most of the first ones are interlaced."""
    context = av.CodecContext.create(decoder, "r") if decoder else None
    found: list[av.VideoFrame] = []
    for packet in container.demux(stream):
        if context is not None:
            found += context.decode(packet if packet.size else None)  # type: ignore[attr-defined]
        else:
            found += [frame for frame in decode(packet) or () if not frame.is_corrupt]
        if found and (not found[-1].interlaced_frame or len(found) >= LOOKED_AT):
            break
    if not found:
        raise MidframeError(f"{path}: holds no frame that can be decoded")
    return found[0], 2 * sum(frame.interlaced_frame for frame in found) > len(found)


def _index_reaches_beyond(stream: VideoStream, path: Path) -> bool:
    """Whether a file's own list of its pictures (MP4, MOV) names places behind its end."""
    if not stream.container.format.name.startswith("mov"):
        return False
    last = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    return last > path.stat().st_size


def _seconds(packet: "av.Packet[VideoStream]") -> str:
    return "its end" if packet.pts is None else f"{float(packet.pts * packet.time_base):.3f} s"
