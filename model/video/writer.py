"""Encoding frames into packets, and packets with the source's other streams into a video file."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.codec.context import Flags
from av.packet import PacketSideData
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from model.video.codecs import CONTAINERS, OutputFormat
from model.video.planes import Plane, frame_of, padded
from model.video.properties import Mastering, VideoProperties
from model.video.streams import Companions
from pipeline.errors import MidframeError


@dataclass(frozen=True)
class Encoded:
    """A packet of the new video: times in units of the new time base, and FFmpeg's side data."""

    data: bytes
    pts: int
    dts: int
    duration: int
    key: bool
    beside: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True)
class Writing:
    """All that decides how the new video's pictures are written."""

    properties: VideoProperties
    format: OutputFormat
    time_base: Fraction
    rate: Fraction

    def configure(self, context: VideoCodecContext, suffix: str) -> None:
        """Set an encoder up."""
        source, made = self.properties, self.format
        context.width, context.height = made.width, made.height
        context.pix_fmt = made.pix_fmt
        context.time_base, context.framerate = self.time_base, self.rate
        if source.sample_aspect_ratio:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        for name, value in self.colours.items():
            setattr(context, name, value)
        context.flags |= Flags.global_header
        if made.encoder in ("libx265", "hevc_nvenc", "hevc_qsv") and suffix != ".mkv":
            # Apple's players know HEVC under this name only.
            context.codec_tag = "hvc1"
        context.options = {**made.options, **hdr_options(made, source.mastering)}

    @property
    def colours(self) -> dict[str, int]:
        """FFmpeg's numbers of the new video's colours."""
        layout, source = self.format.layout, self.properties
        color_range = source.color_range
        if layout.full:
            color_range = int(ColorRange.JPEG)
        elif source.layout.family == "rgb":
            color_range = int(ColorRange.MPEG)
        return {
            "colorspace": 0 if layout.family == "rgb" else layout.matrix,
            "color_range": color_range,
            "color_primaries": source.primaries,
            "color_trc": source.transfer,
        }


class Encoder:
    """Turns frames, in order, into packets; `finish` gives the last of them."""

    def __init__(self, writing: Writing, shown: Path) -> None:
        self._writing, self._shown = writing, shown
        self._durations: dict[int, int] = {}
        encoder = writing.format.encoder
        try:
            self._context = cast(VideoCodecContext, av.CodecContext.create(encoder, "w"))
            writing.configure(self._context, ".mkv")
            self._context.open()
        except (ValueError, av.error.FFmpegError, OSError) as error:
            raise unusable(encoder, error) from None

    def encode(self, frame: av.VideoFrame, pts: int, duration: int) -> list[Encoded]:
        """Encode a frame that `dressed` made."""
        # Otherwise the encoder would repeat the source's choice of key frames.
        frame.pict_type = PictureType.NONE
        frame.time_base, frame.pts = self._writing.time_base, pts
        self._durations[pts] = duration
        return self._packets(frame)

    def finish(self) -> list[Encoded]:
        """The packets of frames that the encoder still holds."""
        return self._packets(None)

    def _packets(self, frame: av.VideoFrame | None) -> list[Encoded]:
        try:
            return [self._plain(packet) for packet in self._context.encode(frame)]
        except (av.error.FFmpegError, OSError) as error:
            raise MidframeError(
                f"{self._shown}: cannot be encoded ({getattr(error, 'strerror', error)})"
            ) from None

    def _plain(self, packet: "av.Packet[Any]") -> Encoded:
        assert packet.pts is not None
        # The encoder forgets how long a frame stays, which decides where the file ends.
        duration = self._durations.pop(packet.pts, packet.duration or 0)
        beside = tuple(
            (_side_data_number(one), bytes(one))
            for one in packet.iter_sidedata()
            if one.data_type == "matroska_block_additional"
        )
        dts = packet.pts if packet.dts is None else packet.dts
        return Encoded(bytes(packet), packet.pts, dts, duration, packet.is_keyframe, beside)


def unusable(encoder: str, error: Exception) -> MidframeError:
    """Say in one line that an encoder does not start."""
    reason = getattr(error, "strerror", None) or error
    if "_" in encoder and encoder != "prores_ks":
        return MidframeError(
            f"{encoder}: does not start here ({reason}); it needs the hardware it is named after, "
            "and its driver; choose another codec"
        )
    return MidframeError(f"{encoder}: does not take these pictures ({reason})")


def dressed(planes: Sequence[Plane], writing: Writing) -> av.VideoFrame:
    """Planes of the new video's layout as the frame that its encoder takes."""
    made, layout = writing.format, writing.format.layout
    sides = made.height, made.width
    if planes[0].shape != sides:
        shapes = [layout.size(plane, *sides) for plane in range(len(planes))]
        planes = [padded(plane, shape) for plane, shape in zip(planes, shapes, strict=True)]
    frame = frame_of(planes, layout)
    for name, value in writing.colours.items():
        setattr(frame, name, value)
    if frame.format.name != made.pix_fmt:
        # Only how values lie in memory: the same layout, interleaved.
        frame = frame.reformat(format=made.pix_fmt)
    return frame


def hdr_options(made: OutputFormat, mastering: Mastering) -> dict[str, str]:
    """The options by which an encoder writes the mastering display and its light."""
    keys = {
        "libx264": ("x264-params", "mastering-display", "cll"),
        "libx265": ("x265-params", "master-display", "max-cll"),
        "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
    }
    if made.encoder not in keys or mastering == Mastering():
        return {}
    option, display, light = keys[made.encoder]
    parts = [made.options[option]] if option in made.options else []
    if mastering.primaries and mastering.luminance:
        # AV1 counts in units, H.264 and HEVC in their own fractions of them.
        whole = made.encoder == "libsvtav1"
        point, candela = (1, 1) if whole else (50_000, 10_000)

        def number(value: Fraction, scale: int) -> str:
            return f"{float(value):.6f}" if whole else str(round(value * scale))

        points = dict(zip(("R", "G", "B", "WP"), mastering.primaries, strict=True))
        text = ""
        for name in ("G", "B", "R", "WP"):
            x, y = (number(value, point) for value in points[name])
            text += f"{name}({x},{y})"
        least, most = (number(value, candela) for value in mastering.luminance)
        parts.append(f"{display}={text}L({most},{least})")
    if mastering.light:
        parts.append(f"{light}={mastering.light[0]},{mastering.light[1]}")
    return {option: ":".join(parts)}


def loses_mastering(made: OutputFormat, mastering: Mastering) -> bool:
    """Whether there is mastering metadata that the codec's encoder cannot write."""
    return mastering != Mastering() and not hdr_options(made, mastering)


def write_file(
    path: Path,
    shown: Path,
    writing: Writing,
    companions: Companions,
    packets: Iterable[Encoded],
) -> None:
    """Write packets and the source's other streams into a file.

    Without packets, only the head of the file is written: whether all streams fit into it is known
    then.

    Raises
    ------
    MidframeError
        if the file cannot be written.
    """
    suffix = path.suffix.lower()
    made = writing.format
    try:
        # Otherwise Matroska gets a random number, and no two files are alike.
        exact = {"fflags": "+bitexact"}
        container = av.open(
            path, mode="w", format=CONTAINERS[suffix], options={}, container_options=exact
        )
    except (av.error.FFmpegError, OSError) as error:
        raise _unwritable(shown, error) from None
    try:
        # A stream needs its encoder's head, so it is given an encoder, which gets no frame.
        stream = cast(VideoStream, container.add_stream(made.encoder, rate=writing.rate))
        writing.configure(stream.codec_context, suffix)
        stream.time_base = writing.time_base
        if writing.properties.display_matrix is not None:
            stream.set_display_matrix(writing.properties.display_matrix)
        companions.prepare(container, stream)
        container.start_encoding()
        _mux(container, stream, writing.time_base, packets, companions)
        container.close()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _unwritable(shown, error) from None
    finally:
        # After an error that is already on its way to the user; the file is thrown away.
        with contextlib.suppress(av.error.FFmpegError, OSError):
            container.close()


def _mux(
    container: av.container.OutputContainer,
    stream: VideoStream,
    time_base: Fraction,
    packets: Iterable[Encoded],
    companions: Companions,
) -> None:
    """Write the packets of all streams in the order of their times."""
    last: int | None = None

    def write(one: Encoded) -> None:
        nonlocal last
        # Where two parts meet, frames that come out of order may overlap by a little.
        dts = one.dts if last is None else max(one.dts, last + 1)
        last = dts
        packet = av.Packet(one.data)
        packet.stream = stream
        packet.time_base = time_base
        packet.pts, packet.dts, packet.duration = one.pts, min(dts, one.pts), one.duration
        packet.is_keyframe = one.key
        for number, data in one.beside:
            beside = PacketSideData(number, len(data))  # type: ignore[call-arg]
            beside.update(data)
            packet.set_sidedata(beside)
        container.mux(packet)

    waiting = iter(packets)
    if "mov" in container.format.name or "mp4" in container.format.name:
        waiting = _ending_in_time(waiting)
    ready = next(waiting, None)
    if ready is None:
        return
    for seconds, copy in companions.packets():
        while ready is not None and ready.dts * time_base <= seconds:
            write(ready)
            ready = next(waiting, None)
        for packet in copy:
            container.mux(packet)
    while ready is not None:
        write(ready)
        ready = next(waiting, None)


def _ending_in_time(packets: Iterator[Encoded]) -> Iterator[Encoded]:
    """Let the last packet stay until the video ends.

    MP4 adds up how long packets stay in the order of decoding, where the last is not the one that
    is shown last.
    """
    begin = shown_from = end = None
    before: Encoded | None = None
    for packet in packets:
        if begin is None or shown_from is None or end is None:
            begin, shown_from, end = packet.dts, packet.pts, packet.pts
        shown_from = min(shown_from, packet.pts)
        end = max(end, packet.pts + packet.duration)
        if before is not None:
            yield before
        before = packet
    if before is not None and begin is not None and end is not None and shown_from is not None:
        yield replace(before, duration=end - shown_from - (before.dts - begin))


def _side_data_number(side_data: PacketSideData) -> int:
    from av.packet import packet_sidedata_type_from_literal

    return int(packet_sidedata_type_from_literal(cast(Any, side_data.data_type)))


def _unwritable(shown: Path, error: Exception) -> MidframeError:
    return MidframeError(f"{shown}: cannot be written ({getattr(error, 'strerror', error)})")
