"""Where each frame of a video comes from: what makes reading from the middle exact.

Containers say too little, or the wrong thing, about where decoding can begin: key frames are not
clean, frames are shown before the key frame that they follow, timestamps are missing, repeated or
jump back. So a video is decoded once from end to end when it is described, and for every frame
the index keeps the packet that it comes from and a checksum of its picture. A later reader
recognises the packets it lands on, counts frames by packet, and trusts a picture if its checksum
agrees.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.frames.image_index import ImageIndex
from pipeline.reading import reading

UNKNOWN = np.iinfo(np.int64).min  # a timestamp or a position that the container does not give

Packet = tuple[int, int, int, int]  # place in the file, size, presentation and decoding time


def identify(packet: "av.Packet[av.VideoStream]") -> Packet:
    """What identifies a packet when it is read again."""
    known = (packet.pos, packet.size, packet.pts, packet.dts)
    position, size, pts, dts = (UNKNOWN if value is None else value for value in known)
    return position, size, pts, dts


def checksum(frame: av.VideoFrame) -> int:
    """CRC-32 of a decoded picture, before any conversion of colours."""
    if not frame.format.is_planar and len(frame.planes) > 1:
        frame = frame.reformat(format="rgb24")
    total = 0
    for number, plane in enumerate(frame.planes):
        parts = [part for part in frame.format.components if part.plane == number]
        if frame.format.is_planar:
            width = plane.width * sum(-(-part.bits // 8) for part in parts)
        else:
            width = -(-plane.width * frame.format.padded_bits_per_pixel // 8)
        # Lines are padded in memory, with anything.
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        total = zlib.crc32(np.ascontiguousarray(lines[:, :width]).data, total)
    return total


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The packets of a video's stream, and the frames that come out of them in order.

    Attributes
    ----------
    position, size, pts, dts : int64 ``[packets]``, in the order of the file (see `identify`).
    key : bool ``[packets]``, as the container flags them.
    packet : int64 ``[frames]``, the packet that a frame comes out of; -1 if that is unknown.
    checksum : uint32 ``[frames]``; of frames that cannot be used, 0.
    stream : int64 ``[1]``, number of the stream in the file.
    """

    position: NDArray[np.int64]
    size: NDArray[np.int64]
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    key: NDArray[np.bool_]
    packet: NDArray[np.int64]
    checksum: NDArray[np.uint32]
    stream: NDArray[np.int64]

    @cached_property
    def first_frame(self) -> NDArray[np.int64]:
        """For each packet the first frame that comes out of it, -1 if none does."""
        first = np.full(len(self.size), -1, np.int64)
        known = np.flatnonzero(self.packet >= 0)[::-1]
        first[self.packet[known]] = known
        return first

    @cached_property
    def last_frame(self) -> NDArray[np.int64]:
        """For each packet the last frame that comes out of it, -1 if none does."""
        last = np.full(len(self.size), -1, np.int64)
        known = np.flatnonzero(self.packet >= 0)
        last[self.packet[known]] = known
        return last

    @cached_property
    def _first_needed(self) -> NDArray[np.int64]:
        """For each frame the first packet that it, or a frame shown after it, comes out of."""
        return np.minimum.accumulate(self.packet[::-1])[::-1]

    def entries(self, frame: int) -> Iterator[int]:
        """Packets to start decoding at for a frame and those after it: near ones first.

        The first is the last key frame that is neither shown nor stored after any of them; the
        others lie one, three, seven, ... key frames before it.
        """
        if np.any(self.packet < 0):
            return
        shown = self.first_frame
        usable = self.key & (shown >= 0) & (shown <= frame)
        usable[self._first_needed[frame] + 1 :] = False
        keys = np.flatnonzero(usable)
        step = 1
        while step <= len(keys) and keys[-step] > 0:
            yield int(keys[-step])
            step *= 2

    def find(self, packet: Packet) -> int | None:
        """The number of a packet; None where none, or more than one, is like it.

        Times of decoding do not count: where the container holds none they are made up, and
        otherwise after a seek.
        """
        position, size, pts, _ = packet
        alike = np.flatnonzero(
            (self.position == position) & (self.size == size) & (self.pts == pts)
        )
        return int(alike[0]) if len(alike) == 1 else None

    def save(self, file: Path) -> None:
        """Write the index; the same index gives the same bytes."""
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **{part.name: getattr(self, part.name) for part in fields(self)})


@lru_cache(maxsize=8)
def load_index(file: Path, modified: int) -> "VideoIndex | ImageIndex":
    """Read an index; remembered, since the tasks of a long video are many."""
    with reading(file, "make the dataset again"), np.load(file) as stored:
        if "names" in stored:
            return ImageIndex(stored["names"], stored["checksum"])
        return VideoIndex(**{part.name: stored[part.name] for part in fields(VideoIndex)})
