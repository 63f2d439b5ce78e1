"""What a video file holds beside its pictures, carried into the file that is made from it.

Sound, subtitles, chapters, attached files, cover pictures and names are copied; subtitles are put
into another form where the new file needs that. What cannot be kept is named.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Disposition
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import SubtitleSet
from av.video.stream import VideoStream

from pipeline.errors import MidframeError
from pipeline.frames.packets import ATTACHED_PICTURE, choose_stream

# Which forms of subtitles a file takes as they are, and into which form it takes text.
SUBTITLES = {
    "matroska": (("subrip", "ass", "ssa", "webvtt", "dvd_subtitle", "hdmv_pgs_subtitle",
                  "dvb_subtitle"), "subrip"),
    "mp4": (("mov_text", "dvd_subtitle"), "mov_text"),
    "mov": (("mov_text",), "mov_text"),
    "webm": (("webvtt",), "webvtt"),
}  # fmt: skip
TEXT = ("subrip", "ass", "ssa", "webvtt", "mov_text", "text")
# The style sheet that FFmpeg's encoders of subtitles start from.
STYLES = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
# Tags that describe the file they are in, and would be wrong in another.
OWN_TAGS = ("encoder", "duration", "major_brand", "minor_version", "compatible_brands", "bps",
            "number_of_", "_statistics_", "handler_name", "vendor_id", "alpha_mode")  # fmt: skip
MILLISECOND = Fraction(1, 1000)


class Companions:
    """The streams of a file other than its video, for one new file.

    Attributes
    ----------
    lost : what the new file cannot hold, each half a sentence; filled by `prepare`.
    """

    def __init__(self, source: Path | None, start: Fraction, shown: Path) -> None:
        self._source, self._start, self._shown = source, start, shown
        self.lost: list[str] = []
        self._container: InputContainer | None = None
        self._copies: dict[int, Any] = {}
        self._converted: dict[int, SubtitleCodecContext] = {}
        self._covers: list[VideoStream] = []

    def close(self) -> None:
        """Close the source."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def prepare(self, target: OutputContainer, picture: VideoStream) -> None:
        """Add the streams to a file whose head is not written yet."""
        self.lost = []
        if self._source is None:
            return
        source = self._container = av.open(self._source, metadata_errors="replace")
        main = choose_stream(source, self._source)
        target.metadata.update(_tags(source.metadata))
        _label(picture, main)
        for stream in source.streams:
            if stream.index == main.index:
                continue
            if isinstance(stream, AudioStream):
                self._add_sound(target, stream)
            elif isinstance(stream, SubtitleStream):
                self._add_subtitles(target, stream)
            elif isinstance(stream, AttachmentStream):
                self._attach(target, stream)
            elif isinstance(stream, VideoStream):
                if stream.disposition & ATTACHED_PICTURE:
                    self._add_cover(target, stream)
                else:
                    self.lost.append(f"video stream {stream.index}: only the first is kept")
            elif not (source.chapters() and stream.name == "bin_data"):
                # MP4 keeps the names of chapters in a stream of data.
                self.lost.append(f"{stream.type} stream {stream.index} ({stream.name})")
        chapters = source.chapters()
        for chapter in chapters:
            offset = round(self._start / (chapter["time_base"] or 1))
            chapter["start"], chapter["end"] = chapter["start"] - offset, chapter["end"] - offset
        target.set_chapters(chapters)

    def packets(self) -> Iterator[tuple[Fraction, list["Packet[Any]"]]]:
        """Yield the packets of the other streams, ready to be written, with their time in s."""
        if self._container is None:
            return
        for cover in self._covers:
            yield Fraction(0), [self._cover_packet(cover)]
        wanted = [stream for stream in self._container.streams if stream.index in self._copies]
        wanted = [stream for stream in wanted if stream not in self._covers]
        if not wanted:
            return
        try:
            for packet in self._container.demux(wanted):
                if packet.dts is None:
                    continue
                # Not by the packet's own stream_index: it is 0 in packets that end a stream.
                made = self._converted.get(packet.stream.index)
                new = self._shifted(packet)
                seconds = Fraction(packet.dts or 0) * packet.time_base
                copies = [new] if made is None else self._convert(new, made)
                for copy in copies:
                    copy.stream = self._copies[packet.stream.index]
                yield seconds, copies
        except av.error.FFmpegError as error:
            raise MidframeError(f"{self._source}: cannot be read on ({error.strerror})") from None

    def _shifted(self, packet: "Packet[Any]") -> "Packet[Any]":
        offset = round(self._start / packet.time_base)
        if packet.pts is not None:
            packet.pts -= offset
        if packet.dts is not None:
            packet.dts -= offset
        return packet

    def _add_sound(self, target: OutputContainer, sound: AudioStream) -> None:
        name = sound.codec_context.name if sound.codec_context is not None else "unknown"
        try:
            # FFmpeg begins to write uncompressed sound into MP4 and fails when it closes it.
            if target.format.name == "mp4" and name.startswith("pcm_"):
                raise ValueError
            copy = target.add_stream_from_template(sound)
        except (ValueError, AttributeError):
            raise MidframeError(
                f"{self._shown}: a {self._shown.suffix} file cannot hold this sound ({name}); "
                "write an .mkv file, which can"
            ) from None
        _label(copy, sound)
        self._copies[sound.index] = copy

    def _add_subtitles(self, target: OutputContainer, stream: SubtitleStream) -> None:
        name = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
        name = {"srt": "subrip", "dvdsub": "dvd_subtitle", "pgssub": "hdmv_pgs_subtitle",
                "dvbsub": "dvb_subtitle"}.get(name, name)  # fmt: skip
        kept, text = SUBTITLES[target.format.name]
        where = f"subtitles {stream.index} ({name}{_language(stream)})"
        if name in kept:
            copy: Any = target.add_stream_from_template(stream)
        elif name in TEXT:
            copy = target.add_stream(text)
            copy.codec_context.subtitle_header = STYLES
            copy.codec_context.time_base = MILLISECOND
            copy.time_base = MILLISECOND
            self._converted[stream.index] = copy.codec_context
            if name in ("ass", "ssa"):
                self.lost.append(f"{where}: their style, as they become {text}")
        else:
            self.lost.append(f"{where}: a {self._shown.suffix} file cannot hold them")
            return
        _label(copy, stream)
        self._copies[stream.index] = copy

    def _convert(self, packet: "Packet[Any]", encoder: SubtitleCodecContext) -> list["Packet[Any]"]:
        decoded = packet.stream.codec_context.decode2(packet)
        lines = [one.ass for one in decoded or () if getattr(one, "ass", b"")]
        if not lines:
            return []
        # Fields of a line are parted by commas, and the ninth is what is shown.
        text = b"\\N".join([lines[0], *(line.split(b",", 8)[8] for line in lines[1:])])
        milliseconds = round((packet.duration or 0) * packet.time_base * 1000)
        made = encoder.encode_subtitle(SubtitleSet.create(text, 0, milliseconds))
        new = cast("Packet[Any]", Packet(bytes(made)))
        new.time_base = packet.time_base
        new.pts, new.dts, new.duration = packet.pts, packet.pts, packet.duration
        return [new]

    def _attach(self, target: OutputContainer, stream: AttachmentStream) -> None:
        name = stream.metadata.get("filename", f"attachment {stream.index}")
        if target.format.name != "matroska":
            self.lost.append(f"attached file {name}: only .mkv files hold any")
            return
        target.add_attachment(name, stream.mimetype or "application/octet-stream", stream.data)

    def _add_cover(self, target: OutputContainer, cover: VideoStream) -> None:
        kind = cover.codec_context.name
        if target.format.name == "mp4" and kind in ("png", "mjpeg"):
            copy = target.add_stream_from_template(cover, opaque=True)
            copy.time_base = MILLISECOND
            copy.disposition = Disposition.attached_pic
            self._copies[cover.index] = copy
            self._covers.append(cover)
        elif target.format.name == "matroska":
            suffix = {"mjpeg": "jpg"}.get(kind, kind)
            mime = {"jpg": "image/jpeg"}.get(suffix, f"image/{suffix}")
            name = cover.metadata.get("filename", f"cover.{suffix}")
            target.add_attachment(name, mime, bytes(self._cover_data(cover)))
        else:
            self.lost.append(
                f"cover picture: .mkv and .mp4 files hold one, {self._shown.suffix} not"
            )

    def _cover_data(self, cover: VideoStream) -> "Packet[Any]":
        assert self._source is not None
        with av.open(self._source, metadata_errors="replace") as again:
            for packet in again.demux(again.streams[cover.index]):
                if packet.size:
                    return packet
        raise MidframeError(f"{self._source}: its cover picture cannot be read")

    def _cover_packet(self, cover: VideoStream) -> "Packet[Any]":
        packet = cast("Packet[Any]", Packet(bytes(self._cover_data(cover))))
        packet.stream = self._copies[cover.index]
        packet.time_base = MILLISECOND
        packet.pts = packet.dts = packet.duration = 0
        packet.is_keyframe = True
        return packet


def missing(source: Path, target: Path) -> list[str]:
    """What the head of a file says, and that of the one made from it does not."""
    lost = []
    with av.open(source, metadata_errors="replace") as before, av.open(target) as after:
        there = {name.lower() for name in after.metadata}
        tags = [name for name in _tags(before.metadata) if name.lower() not in there]
        if tags:
            lost.append(f"the tags {', '.join(tags)}")
        if len(after.chapters()) < len(before.chapters()):
            lost.append("chapters")
        shape = choose_stream(before, source).sample_aspect_ratio
        if shape not in (None, 1, choose_stream(after, target).sample_aspect_ratio):
            lost.append(f"the shape of its pixels, {shape.numerator}:{shape.denominator}")
    return lost


def _label(copy: Any, stream: Any) -> None:
    copy.metadata.update(_tags(stream.metadata))
    if stream.disposition:
        copy.disposition = stream.disposition


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in metadata.items() if not name.lower().startswith(OWN_TAGS)
    }


def _language(stream: Any) -> str:
    language = stream.metadata.get("language")
    return f", {language}" if language else ""
