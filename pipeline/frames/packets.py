"""A video file's streams and packets, and the pictures that come out of a packet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import av

from pipeline.frames.decoding import BadFrameError, error_reason

ATTACHED_PICTURE = av.stream.Disposition.attached_pic


@contextmanager
def open_video(path: Path) -> Iterator[av.container.InputContainer]:
    """A video file, open.

    Raises
    ------
    BadFrameError
        if it is not a video, or reading it fails while it is open.
    """
    reason = None
    try:
        # Tags are text in any encoding, and nothing depends on them.
        with av.open(path, metadata_errors="replace") as container:
            yield container
    except FileNotFoundError:
        reason = "is gone"
    except (av.error.FFmpegError, OSError) as error:
        reason = f"not a readable video ({error_reason(error, path)})"
    # Raised out here: the decoder's exception, kept as context, may not survive the way from a
    # worker to this process.
    if reason is not None:
        raise BadFrameError(f"{path}: {reason}")


def choose_stream(
    container: av.container.InputContainer, path: Path, number: int | None = None
) -> "av.VideoStream":
    """The stream whose pictures are used: FFmpeg's best, never a cover picture.

    Parameters
    ----------
    number : the number of another stream of the file to use instead.

    Raises
    ------
    BadFrameError
        if there is none, or no video stream has this number.
    """
    videos = [
        stream
        for stream in container.streams.video
        if not stream.disposition & ATTACHED_PICTURE and stream.codec_context is not None
    ]
    if number is not None:
        for stream in videos:
            if stream.index == number:
                return stream
        there = ", ".join(str(stream.index) for stream in videos) or "none"
        raise BadFrameError(f"{path}: stream {number} is not a video; video streams: {there}")
    if not videos:
        raise BadFrameError(f"{path}: has no video stream")
    best = container.streams.best("video")
    return best if best in videos else videos[0]


def one_thread(stream: "av.VideoStream") -> None:
    """Decode a stream on one thread.

    With several, as many as there are cores, FFmpeg notices less damage, and its pictures of what
    is damaged are other ones. The processes are the parallelism.
    """
    stream.codec_context.thread_count = 1


def packets_of(
    container: av.container.InputContainer,
    stream: "av.VideoStream",
    ended_by: list[str] | None = None,
) -> Iterator["av.Packet[av.VideoStream]"]:
    """Yield the packets of a stream, and at its end one without content.

    A file whose content cannot be read on ends there, and ``ended_by`` gets the reason.
    """
    try:
        yield from container.demux(stream)
    except (av.error.InvalidDataError, av.error.PatchWelcomeError) as error:
        if ended_by is not None:
            ended_by.append(str(error.strerror))
        end = cast("av.Packet[av.VideoStream]", av.Packet())
        end.stream = stream
        yield end


def is_empty(packet: "av.Packet[av.VideoStream]") -> bool:
    """Whether a file holds a packet without content, as Ogg does where a picture lasts longer.

    Decoders take none of those. The packet that ends a stream has no place in memory either.
    """
    return not packet.size and bool(packet.buffer_ptr)


def decode(packet: "av.Packet[av.VideoStream]") -> list[av.VideoFrame] | None:
    """The frames that a packet completes; ``None`` if it cannot be decoded."""
    if is_empty(packet):
        return []
    try:
        return [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError:
        return None
