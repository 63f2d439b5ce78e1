"""Videos: which of a file's pictures are used, what each looks like, and reading any of them.

A video is decoded in order from a point before the first wanted frame, and is never in memory as a
whole. `read_video` yields the frames of reading in order, wherever it starts: each picture is
compared with the checksum taken then (`pipeline.frames.video_index`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain, count, pairwise
from pathlib import Path

import av
import numpy as np

from pipeline.frames.damage import missing_frames, undecodable
from pipeline.frames.decoding import BadFrameError, Frame, Look
from pipeline.frames.fields import deinterlaced
from pipeline.frames.packets import (
    choose_stream,
    decode,
    is_empty,
    one_thread,
    open_video,
    packets_of,
)
from pipeline.frames.upright import Upright, quarter_turns
from pipeline.frames.video_index import UNKNOWN, VideoIndex, checksum, identify
from pipeline.progress import notice

# Packets after a seek that may be pieces of earlier ones, which the index does not know.
PIECES = 50


@dataclass(frozen=True)
class VideoLook:
    """What a video holds.

    Attributes
    ----------
    frames : what each frame looks like, or why it cannot be used.
    missing : frames that the file announces beyond these, but does not hold; 1 if it is cut
        short and does not say how many it should hold.
    why_missing : what a user is told of those.
    fps : frames a second, if the file says so.
    index : where the frames come from.
    seconds : when each frame is shown, from the first on; where those timestamps are missing or
        jump, by the times of decoding, or else by the rate; empty where there is no rate either.
    notes : what a user should know of its pictures.
    interlaced : whether most pictures consist of fields of two moments.
    """

    frames: list[Look | str]
    missing: int
    why_missing: str
    fps: Fraction | None
    index: VideoIndex
    seconds: list[float]
    notes: tuple[str, ...] = ()
    interlaced: bool = False


def look_at_video(
    path: Path, stream_number: int | None = None, show: Callable[[Frame], None] | None = None
) -> VideoLook:
    """Decode a video from end to end, and show each frame that can be decoded, in order.

    Raises
    ------
    BadFrameError
        if it cannot be opened, or parts of it cannot be decoded and the file does not say which
        frames those are.
    """
    packets: list[tuple[int, int, int, int]] = []
    keys: list[bool] = []
    kept: list[int] = []  # packets that are meant to be shown
    torn: list[int] = []  # packets of which parts are not there
    decoded: list[tuple[int, Look, int]] = []  # packet, look, checksum: in the order of showing
    damaged, corrupt, empty, woven, bits, transfer = False, False, 0, 0, 8, ""
    notes: list[str] = []
    upright = Upright()
    with open_video(path) as container:
        stream = choose_stream(container, path, stream_number)
        one_thread(stream)
        announced, fps = stream.frames, stream.average_rate
        if len(container.streams.video) > 1:
            notes.append(f"stream {stream.index} of {len(container.streams.video)} video streams")
        # What a decoder would leave out without a word comes too, and is marked as corrupt.
        stream.codec_context.flags |= av.codec.context.Flags.output_corrupt
        ended_by: list[str] = []
        for packet in packets_of(container, stream, ended_by):
            if packet.size:
                packets.append(identify(packet))
                keys.append(packet.is_keyframe)
                if not packet.is_discard:
                    kept.append(len(packets) - 1)
                if packet.is_corrupt:
                    torn.append(len(packets) - 1)
                packet.pts = len(packets) - 1
            empty += is_empty(packet)
            frames = decode(packet)
            damaged |= frames is None
            for frame in frames or ():
                if frame.is_corrupt:
                    corrupt = True
                    damaged |= bool(decoded)
                    continue
                sides = (frame.height, frame.width)
                look = (*(sides[::-1] if quarter_turns(frame) % 2 else sides), "")
                source = -1 if frame.pts is None else frame.pts
                # A file may begin amid a group of pictures, and those of it are never shown.
                damaged |= corrupt and not decoded and any(keys[: max(source, 0)])
                decoded.append((source, look, checksum(frame)))
                woven += frame.interlaced_frame
                bits = max(part.bits for part in frame.format.components)
                transfer = _high_dynamic_range(frame)
                if show is not None:
                    show(upright(frame))
        number, time_base = stream.index, stream.time_base
        places = container.format.name == "avi" and packets and packets[-1][3] != UNKNOWN
    if kept and not decoded:
        raise BadFrameError(f"{path}: none of its {len(kept)} frames can be decoded")
    last = packets[-1][3] if places else None
    missing = missing_frames(path, announced, len(packets) + empty, last) or len(ended_by)
    position, size, pts, dts = np.array(packets, np.int64).reshape(-1, 4).T
    sources, looks, sums = [one[0] for one in decoded], [one[1] for one in decoded], {}
    frames_of: list[Look | str] = list(looks)
    order, sums_in_order = sources, [one[2] for one in decoded]
    # A transport stream's counters jump where packets are lost, and where files were joined; there
    # a key frame follows at once.
    lost = {at for at in torn if not any(keys[at + 1 : at + 4])}
    if damaged or lost:
        sums = {source: (look, value) for source, look, value in decoded if source not in lost}
        times = [packets[source][2] for source in kept]
        if -1 in sums or UNKNOWN in times or len(set(times)) != len(kept):
            raise BadFrameError(
                f"{path}: parts of it cannot be decoded, and without timestamps it does not "
                "say which frames those are"
            )
        reasons = undecodable([(packets[at][2], keys[at], at in sums) for at in kept])
        order = sorted(kept, key=lambda at: packets[at][2])
        frames_of = [reasons.get(packets[at][2]) or sums[at][0] for at in order]
        sums_in_order = [sums[at][1] if at in sums else 0 for at in order]
    if bits > 8:
        curve = f", {transfer} kept as it is" if transfer else ""
        notes.append(f"{bits} bits a value, rounded to 8{curve}")
    known = len(set(order)) == len(order) and -1 not in order
    return VideoLook(
        frames=frames_of,
        missing=missing,
        why_missing=(
            f"the file cannot be read on ({ended_by[0]})" if ended_by else "the file is cut short"
        ),
        fps=fps,
        index=VideoIndex(
            position=position,
            size=size,
            pts=pts,
            dts=dts,
            key=np.array(keys, np.bool_),
            packet=np.array(order if known else [-1] * len(order), np.int64),
            checksum=np.array(sums_in_order, np.uint32),
            stream=np.array([number], np.int64),
        ),
        seconds=_seconds([packets[at][2] for at in order] if known else [], time_base)
        or _seconds(sorted(packets[at][3] for at in order) if known else [], time_base)
        or [float(at / fps) for at in range(len(order)) if fps],
        notes=tuple(notes),
        interlaced=2 * woven > len(decoded),
    )


def _seconds(times: list[int], unit: Fraction | None) -> list[float]:
    """When frames are shown, from timestamps; empty if those do not ascend."""
    if unit is None or UNKNOWN in times or any(b <= a for a, b in pairwise(times)):
        return []
    return [float((time - times[0]) * unit) for time in times]


def _high_dynamic_range(frame: av.VideoFrame) -> str:
    # Numbers of ITU-T H.273, table 3.
    return {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}.get(int(frame.color_trc), "")


@lru_cache(maxsize=8)
def index_of(path: Path, modified: int, size: int) -> VideoIndex:
    """The index of a video that was described without keeping one."""
    return look_at_video(path).index


# By file: how many entries of an index were useless the last time.
_useless: dict[Path, int] = {}
# Files in which pictures depend on others that are marked as needed by none.
_all_needed: set[Path] = set()


def read_video(
    path: Path, index: VideoIndex, start: int, stop: int, deinterlace: bool = False
) -> Iterator[tuple[int, Frame]]:
    """Yield the frames from ``start`` to ``stop`` (excluded) of a video, with their numbers.

    Parameters
    ----------
    index : of this video, as `look_at_video` made it; the frames wanted are good ones.
    deinterlace : make one whole picture of each frame's two fields. That takes the frames before
        and after it, so the result does not depend on where reading starts.

    Raises
    ------
    BadFrameError
        if the video cannot be opened, or a frame differs from the index even when read from the
        beginning.
    """
    upright = Upright()
    if not deinterlace:
        for number, picture in _pictures(path, index, start, stop):
            yield number, upright(picture)
        return
    first = max(start - 1, 0)
    pictures = (picture for _, picture in _pictures(path, index, first, stop + 1))
    for number, picture in enumerate(deinterlaced(pictures), start=first):
        if start <= number < min(stop, len(index.packet)):
            yield number, upright(picture)


def _pictures(
    path: Path, index: VideoIndex, start: int, stop: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    position = start
    skip = _useless.get(path, 0)
    entries = [*index.entries(start)][skip:] if start else []
    for tried, entry in enumerate([*entries, None], start=skip):
        for sparing in (True, False):
            if sparing and path in _all_needed:
                continue
            begun = position
            for frame in _frames_from(path, index, entry, position, stop, sparing):
                yield position, frame
                position += 1
            if position == min(stop, len(index.packet)):
                if not sparing and position > begun:
                    _all_needed.add(path)
                break
        if position == min(stop, len(index.packet)):
            if tried > _useless.setdefault(path, 0):
                if not _useless[path]:
                    notice(f"{path}: reading from its key frames is inexact, so more is decoded")
                _useless[path] = tried
            return
    raise BadFrameError(f"{path}: frame {position} cannot be read; has the file changed?")


def _frames_from(
    path: Path, index: VideoIndex, entry: int | None, position: int, stop: int, sparing: bool
) -> Iterator[av.VideoFrame]:
    """Frames ``position`` to ``stop`` as far as they are right, decoded from a packet on.

    If ``sparing``, pictures before them on which no other one depends are not decoded.
    """
    shown = index.first_frame
    counted = bool(np.any(index.packet < 0))
    with open_video(path) as container:
        stream = container.streams[int(index.stream[0])]
        assert isinstance(stream, av.VideoStream)
        one_thread(stream)
        packets = packets_of(container, stream)
        number = 0
        if entry is not None:
            landed = _seek(container, stream, index, entry)
            if landed is None:
                return
            number, packets = landed
        in_order = count()
        again, last = 0, -1
        for packet in packets:
            if packet.size:
                if number >= len(index.size) or index.size[number] != packet.size:
                    return
                packet.pts = number
                if sparing and not counted:
                    before = 0 <= index.last_frame[number] < position
                    stream.codec_context.skip_frame = "NONREF" if before else "DEFAULT"
                number += 1
            for frame in decode(packet) or ():
                if frame.is_corrupt:
                    continue
                if counted:
                    found = next(in_order)
                elif frame.pts is None:
                    return
                else:
                    again = again + 1 if frame.pts == last else 0
                    last = frame.pts
                    found = int(shown[frame.pts]) + again
                if found < position:
                    continue
                if found > position or checksum(frame) != index.checksum[position]:
                    return
                yield frame
                position += 1
                if position >= stop:
                    return


def _seek(
    container: av.container.InputContainer,
    stream: "av.VideoStream",
    index: VideoIndex,
    entry: int,
) -> tuple[int, Iterator["av.Packet[av.VideoStream]"]] | None:
    """Go to a packet or one before it: its number, and the packets from it on."""
    # Some demuxers go by the time of showing, some by that of decoding; some land behind it.
    earlier = [index.dts[max(entry - back, 0)] for back in (0, 2, 6)]
    for time in dict.fromkeys(int(one) for one in (index.pts[entry], *earlier) if one != UNKNOWN):
        try:
            container.seek(time, stream=stream, backward=True)
        except av.error.FFmpegError:
            return None
        packets = packets_of(container, stream)
        for _, packet in zip(range(PIECES), packets, strict=False):
            number = index.find(identify(packet)) if packet.size else None
            if number is not None:
                if number <= entry:
                    return number, chain([packet], packets)
                break
    return None
