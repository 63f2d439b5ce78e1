"""What a sequence of frames is: frames of a video file or a folder of images, one at a time.

Frames are uint8 RGB arrays ``[H, W, 3]``: a video is never in memory as a whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from pipeline.errors import MidframeError
from pipeline.frames.decoding import BadFrameError, Frame, image_places, read_image
from pipeline.frames.image_index import ImageIndex
from pipeline.frames.video import index_of, read_video
from pipeline.frames.video_index import VideoIndex, load_index


@dataclass(frozen=True)
class BadFrames:
    """Neighbouring frames that cannot be used, from ``first`` to ``last``, and why."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True)
class FrameSequence:
    """Consecutive frames of one size.

    Attributes
    ----------
    name : unique in its dataset: the path inside the dataset's folder, without suffix.
    path : a video file, or a folder of images that are read in the order of their names.
    frame_count : frames, bad ones included.
    height, width : of a frame, in pixels.
    fps : frames a second of a video; ``None`` for images.
    bad : frames that are skipped, ascending. No triplet holds one of them.
    index : where its frames come from, or the file that says so.
    offset : the frame of the file that is its first one; a sequence may be a part of a video.
    deinterlace : whether a whole picture is made of each frame's two fields.
    changes : the file of what was measured of its frames when they were checked, if it was
        (`pipeline.selection.measures`).
    seconds : when each frame of a video is shown, from the first on; known only when it has just
        been checked.
    notes : what a user should know of the pictures: a conversion, a choice.
    skip_bad : whether a frame that cannot be read any more is skipped and listed, or stops a stage.
    """

    name: str
    path: Path
    frame_count: int
    height: int
    width: int
    fps: Fraction | None = None
    bad: tuple[BadFrames, ...] = ()
    index: VideoIndex | ImageIndex | Path | None = field(default=None, compare=False, repr=False)
    notes: tuple[str, ...] = ()
    skip_bad: bool = False
    offset: int = 0
    deinterlace: bool = False
    changes: Path | None = field(default=None, compare=False, repr=False)
    seconds: Sequence[float] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        return self.name

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield frames ``start`` to ``stop`` (excluded), uint8 RGB ``[H, W, 3]``.

        Raises
        ------
        BadFrameError
            if a frame cannot be read, has another size, or is missing.
        """
        stop = self.frame_count if stop is None else min(stop, self.frame_count)
        expected = start
        for index, frame in self._decode(start, stop) if start < stop else ():
            if index != expected:
                break
            if frame.shape[:2] != (self.height, self.width):
                raise BadFrameError(
                    f"{self.path}: frame {index} is {frame.shape[1]}x{frame.shape[0]}, "
                    f"but the sequence is {self.width}x{self.height}"
                )
            yield frame
            expected += 1
        if expected < stop:
            raise BadFrameError(
                f"{self.path}: frame {expected} cannot be read; has the file changed?"
            )

    def good_runs(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield the ranges (first, last + 1) of frames without a bad one in ``start`` to ``stop``.

        ``stop`` is excluded.
        """
        stop = self.frame_count if stop is None else min(stop, self.frame_count)
        for run in self.bad:
            if start < min(run.first, stop):
                yield start, min(run.first, stop)
            start = max(start, run.last + 1)
        if start < stop:
            yield start, stop

    def _decode(self, start: int, stop: int) -> Iterator[tuple[int, Frame]]:
        index = self.frame_index()
        if isinstance(index, VideoIndex):
            first, last = start + self.offset, stop + self.offset
            for number, frame in read_video(self.path, index, first, last, self.deinterlace):
                yield number - self.offset, frame
            return
        for number in range(start, min(stop, len(index.names))):
            if index.names[number]:
                file = self.path / str(index.names[number])
                yield number, read_image(file, int(index.checksum[number]) or None)

    def frame_index(self) -> VideoIndex | ImageIndex:
        """Where the frames come from; if nothing says so, the images are listed without checksums,
        or the video is decoded.

        Raises
        ------
        MidframeError
            if the file of the index is gone.
        """
        if isinstance(self.index, VideoIndex | ImageIndex):
            return self.index
        if self.index is None and self.path.is_dir():
            places = image_places(self.path)
            return ImageIndex.of(places, [0] * len(places))
        if self.index is None:
            if not self.path.exists():
                raise BadFrameError(f"{self.path}: is gone")
            status = self.path.stat()
            return index_of(self.path, status.st_mtime_ns, status.st_size)
        if not self.index.is_file():
            raise MidframeError(f"{self.index}: is gone; fetch the dataset again")
        return load_index(self.index, self.index.stat().st_mtime_ns)

    def next_entry(self, frame: int) -> int | None:
        """The next frame from which reading may succeed though ``frame`` cannot be read.

        That is the next image, or the next key frame; ``None`` if there is none.
        """
        if not self.path.exists():
            return None
        index = self.frame_index()
        if isinstance(index, ImageIndex):
            return frame + 1
        keys = index.first_frame[index.key] - self.offset
        return int(min(keys[keys > frame], default=0)) or None

    def part(self, name: str, first: int, stop: int) -> "FrameSequence":
        """Frames ``first`` to ``stop`` (excluded) as a sequence of their own.

        Raises
        ------
        BadFrameError
            if it holds no triplet of good frames.
        """
        bad = tuple(
            replace(run, first=max(run.first, first) - first, last=min(run.last, stop - 1) - first)
            for run in self.bad
            if run.first < stop and run.last >= first
        )
        part = replace(
            self, name=name, frame_count=stop - first, bad=bad, offset=self.offset + first
        )
        if not triplet_starts(part, 1):
            raise BadFrameError(
                bad[0].reason + "; no three neighbouring frames are left without it"
                if bad
                else f"{self.path}: {stop - first} frames lie there, but a triplet needs 3"
            )
        return part


def triplet_starts(
    sequence: FrameSequence, stride: int = 3, part: tuple[float, float] = (0.0, 1.0)
) -> list[int]:
    """Indices of the first frames of a sequence's triplets.

    The triplets of a sequence start at frames 0, ``stride``, 2 ``stride`` …; those are returned
    whose three frames lie in ``part``, a half-open range of fractions of the sequence's frames,
    and are not bad. Two ranges that do not overlap thus never share a frame.
    """
    first = round(part[0] * sequence.frame_count)
    last = round(part[1] * sequence.frame_count)
    return [
        start
        for low, high in sequence.good_runs(first, last)
        for start in range(-(-low // stride) * stride, high - 2, stride)
    ]
