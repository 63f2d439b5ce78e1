"""Pictures out of image files and videos, one at a time, and what is wrong with them.

Frames are uint8 RGB arrays ``[H, W, 3]``. A video is decoded in order from the key frame before the
first frame that is wanted, and never held whole.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import MidframeError

Frame = NDArray[np.uint8]
Look = tuple[int, int, str]  # height and width in pixels, colour mode of an image

# Exact conversion between a video's YUV and RGB: without these flags the conversion rounds down,
# which darkens a picture by about one level.
COLOUR_CONVERSION = int(
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".y4m", ".ts"}
)
# Grey images are read as RGB; palettes, alpha and 16 bits would need a choice that is not ours.
IMAGE_MODES = frozenset({"RGB", "L"})


class BadFrameError(MidframeError):
    """Frames that cannot be used, with the file and the reason."""


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names; hidden files are passed over."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def read_image(file: Path) -> Frame:
    """An image as a frame.

    Raises
    ------
    BadFrameError
        if it cannot be read, or its colour mode is none of `IMAGE_MODES`.
    """
    return _open_image(file)[0]


def look_at_images(folder: Path) -> list[Look | str]:
    """Read every image of a folder: what it looks like, or why it cannot be used."""
    looks: list[Look | str] = []
    for file in image_files(folder):
        try:
            frame, mode = _open_image(file)
            looks.append((frame.shape[0], frame.shape[1], mode))
        except BadFrameError as error:
            looks.append(str(error).removeprefix(f"{file}: "))
    return looks


def _open_image(file: Path) -> tuple[Frame, str]:
    reason = None
    try:
        with Image.open(file) as image:
            mode = image.mode
            if mode in IMAGE_MODES:
                return np.asarray(image.convert("RGB")), mode
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        reason = _reason(error, file)
    # Raised out here: the decoder's exception, kept as context, may not survive the way from a
    # worker to this process.
    if reason is not None:
        raise BadFrameError(f"{file}: not a readable image ({reason})")
    raise BadFrameError(f"{file}: colour mode {mode}; 8-bit RGB or grey images are needed")


@dataclass(frozen=True)
class VideoLook:
    """What a video holds.

    Attributes
    ----------
    frames : what each frame looks like, or why it cannot be used.
    missing : frames that the file announces beyond these, but ends without; 1 where it is cut
        short and does not tell how many it should hold.
    fps : frames a second, if the file tells.
    """

    frames: list[Look | str]
    missing: int
    fps: Fraction | None


def look_at_video(path: Path) -> VideoLook:
    """Decode a video from end to end.

    Raises
    ------
    BadFrameError
        if it cannot be opened, or parts of it cannot be decoded and the file does not tell which
        frames those are.
    """
    packets: list[tuple[int | None, bool]] = []  # timestamp, key frame: in the order of decoding
    looks: list[tuple[int | None, Look]] = []
    found, damaged = 0, False
    with _open_video(path) as container:
        stream = container.streams.video[0]
        announced, fps = stream.frames, stream.average_rate
        for packet, frames in _decode(container):
            found += packet.size > 0
            if packet.size > 0 and not packet.is_discard:
                packets.append((packet.pts, packet.is_keyframe))
            damaged |= frames is None
            for frame in frames or ():
                damaged |= frame.is_corrupt
                if not frame.is_corrupt:
                    looks.append((frame.pts, (frame.height, frame.width, "")))
    missing = max(announced - found, 0) if announced else int(_ends_too_early(path))
    if not damaged:
        return VideoLook([look for _, look in looks], missing, fps)
    decoded = {pts: look for pts, look in looks if pts is not None}
    times = [pts for pts, _ in packets if pts is not None]
    if len(set(times)) != len(packets) or not decoded.keys() <= set(times):
        raise BadFrameError(
            f"{path}: parts of it cannot be decoded, and for want of timestamps it does not tell "
            "which frames those are"
        )
    reasons = _undecodable(packets, set(decoded))
    return VideoLook([reasons.get(pts) or decoded[pts] for pts in sorted(times)], missing, fps)


def _ends_too_early(path: Path) -> bool:
    """Whether a Matroska or WebM file is shorter than it says; those do not count their frames.

    RFC 8794: an element is its identifier, the length of its content, and the content. The bits of
    a length begin with a zero for each byte that it is longer than one; all ones stand for unknown.
    """
    size, position = path.stat().st_size, 0
    with path.open("rb") as file:
        for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # EBML header, Segment
            file.seek(position)
            start = file.read(5)
            if start[:4] != identifier or len(start) < 5 or start[4] == 0:
                return False
            more = 8 - start[4].bit_length()
            bits = 7 * (more + 1)
            length = int.from_bytes(start[4:] + file.read(more), "big") & ((1 << bits) - 1)
            if length == (1 << bits) - 1:
                return False
            position = file.tell() + length
            if position > size:
                return True
    return False


def _undecodable(packets: list[tuple[int | None, bool]], decoded: set[int]) -> dict[int, str]:
    """Why frames are bad, by timestamp: not decoded, or built on frames that are not.

    Until the next key frame a decoder goes on with what it has, and its pictures look whole.
    """
    reasons: dict[int, str] = {}
    broken = broken_before = False
    key = 0
    for pts, is_key in packets:
        assert pts is not None
        if is_key:
            broken_before, broken, key = broken, False, pts
        if pts not in decoded:
            broken = True
            reasons[pts] = "cannot be decoded"
        # Frames shown before the key frame they follow may build on those before it as well.
        elif broken or (broken_before and pts < key):
            reasons[pts] = "may build on a frame that cannot be decoded"
    return reasons


def read_video(path: Path, frame_count: int, start: int, stop: int) -> Iterator[tuple[int, Frame]]:
    """Yield the frames from ``start`` to ``stop`` (excluded) that can be decoded, with their index.

    Parameters
    ----------
    frame_count : frames of the video, as `look_at_video` has found.

    Raises
    ------
    BadFrameError
        if the video cannot be opened, or its frames have other timestamps than its packets.
    """
    with _open_video(path) as container:
        stream = container.streams.video[0]
        status = path.stat()
        times = _timestamps(path, status.st_mtime_ns, status.st_size)
        # A timestamp for each frame tells its index; otherwise frames are counted.
        indexed = times is not None and len(times) == frame_count
        if start and times is not None and indexed:
            container.seek(times[start], stream=stream, backward=True)
        index = -1
        for _, frames in _decode(container):
            for frame in frames or ():
                index += 1
                if times is not None and indexed:
                    index = -1 if frame.pts is None else bisect_left(times, frame.pts)
                    if not 0 <= index < len(times) or times[index] != frame.pts:
                        raise BadFrameError(
                            f"{path}: its frames have other timestamps than its packets; convert it"
                        )
                if index >= stop:
                    return
                if index >= start and not frame.is_corrupt:
                    picture = frame.to_ndarray(format="rgb24", interpolation=COLOUR_CONVERSION)
                    yield index, np.asarray(picture, np.uint8)


@contextmanager
def _open_video(path: Path) -> Iterator[av.container.InputContainer]:
    reason = None
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise BadFrameError(f"{path}: has no video stream")
            yield container
    except (av.error.FFmpegError, OSError) as error:
        reason = _reason(error, path)
    if reason is not None:  # see `_open_image`
        raise BadFrameError(f"{path}: not a readable video ({reason})")


def _decode(
    container: av.container.InputContainer,
) -> Iterator[tuple["av.Packet[av.VideoStream]", list[av.VideoFrame] | None]]:
    """Each packet with the frames that it completes; ``None`` if it cannot be decoded."""
    for packet in container.demux(container.streams.video[0]):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            yield packet, None
            continue
        yield packet, [frame for frame in frames if isinstance(frame, av.VideoFrame)]


# Remembered, since the tasks of a long video are many and each would go through the whole file.
@lru_cache(maxsize=8)
def _timestamps(path: Path, modified: int, size: int) -> list[int] | None:
    """Sorted timestamps of all frames, or ``None`` where the file lacks them."""
    with av.open(path) as container:
        times = [
            packet.pts
            for packet in container.demux(container.streams.video[0])
            if packet.size > 0 and not packet.is_discard
        ]
    known = [pts for pts in times if pts is not None]
    return sorted(known) if len(set(known)) == len(times) else None


def _reason(error: Exception, path: Path) -> str:
    """The first sentence of a library's message, without the path that we name ourselves."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.replace(repr(str(path)), "").replace(str(path), "").strip(" :")
