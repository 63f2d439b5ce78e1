"""A sequence of frames, from a folder of images or a video file.

Frames are uint8 RGB arrays ``[H, W, 3]`` and come one at a time: a video is never in memory
as a whole.
"""

import fnmatch
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.errors import MidframeError
from pipeline.frames.decoding import (
    BadFrameError,
    Look,
    image_files,
    image_places,
    look_at_images,
    read_image,
)
from pipeline.frames.decoding import Frame as Frame
from pipeline.frames.discovery import find_sequences
from pipeline.frames.video import index_of, look_at_video, read_video
from pipeline.frames.video_index import VideoIndex, load_index
from pipeline.provenance import MANIFEST, file_digest, read_manifest

FORMAT_VERSION = 2


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
    index : of a video, where its frames come from, or the file that says so.
    notes : what a user should know of the pictures: a conversion, a choice.
    """

    name: str
    path: Path
    frame_count: int
    height: int
    width: int
    fps: Fraction | None = None
    bad: tuple[BadFrames, ...] = ()
    index: VideoIndex | Path | None = field(default=None, compare=False, repr=False)
    notes: tuple[str, ...] = ()

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

    def read_good(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Frame]]:
        """Yield each frame that is not bad, with its index; otherwise as `read`."""
        for first, last in self.good_runs(start, stop):
            yield from enumerate(self.read(first, last), start=first)

    def _decode(self, start: int, stop: int) -> Iterator[tuple[int, Frame]]:
        if not self.path.is_dir():
            yield from read_video(self.path, self.video_index(), start, stop)
            return
        for index, file in enumerate(image_places(self.path)[start:stop], start=start):
            if isinstance(file, Path):
                yield index, read_image(file)

    def video_index(self) -> VideoIndex:
        """Where the frames of a video come from; if nothing says so, the video is decoded.

        Raises
        ------
        MidframeError
            if the file of the index is gone.
        """
        if isinstance(self.index, VideoIndex):
            return self.index
        if self.index is None:
            status = self.path.stat()
            return index_of(self.path, status.st_mtime_ns, status.st_size)
        if not self.index.is_file():
            raise MidframeError(f"{self.index}: is gone; fetch the dataset again")
        return load_index(self.index, self.index.stat().st_mtime_ns)


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


def select(sequences: Sequence[FrameSequence], patterns: Sequence[str]) -> list[FrameSequence]:
    """The sequences whose name matches one of the patterns (``*``, ``?``).

    Raises
    ------
    MidframeError
        if a pattern matches nothing, with the names that there are.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(sequence.name, pattern) for sequence in sequences):
            names = ", ".join(sequence.name for sequence in sequences[:20])
            raise MidframeError(f"no sequence matches '{pattern}'; there are: {names}")
    return [
        sequence
        for sequence in sequences
        if any(fnmatch.fnmatchcase(sequence.name, pattern) for pattern in patterns)
    ]


def open_frames(path: Path) -> list[FrameSequence]:
    """The sequences of a dataset directory, or of any folder of videos and folders of images.

    A directory that ``fetch`` has written is opened by its manifest; in any other folder (or for
    a single video file) the sequences are looked for, and each is read once to check it.

    Returns
    -------
    Sequences sorted by name, at least one.

    Raises
    ------
    MidframeError
        if there is no such folder, it holds no sequence, or a frame cannot be used (``fetch`` can
        skip those).
    """
    # Absolute, because workers on other machines have their own working directory.
    path = path.absolute()
    if (path / MANIFEST).is_file():
        manifest = read_manifest(path, "frames", FORMAT_VERSION)
        root = path / manifest["root"]
        bad: dict[str, list[BadFrames]] = {}
        for skipped in manifest["skipped"]:
            if skipped.get("frames") is not None:
                run = BadFrames(skipped["frames"][0], skipped["frames"][1], skipped["reason"])
                bad.setdefault(skipped["sequence"], []).append(run)
        return [
            _from_manifest(path, root, entry, tuple(bad.get(entry["name"], ())))
            for entry in manifest["sequences"]
        ]
    sequences = [check_sequence(name, source) for name, source in find_sequences(path)]
    for sequence in sequences:
        if sequence.bad:
            raise BadFrameError(
                f"{sequence.bad[0].reason}; fix it, or make a dataset of the folder that skips "
                "it: `midframe fetch folder`, on_bad_frame: skip"
            )
    return sequences


def skipped_frames(path: Path) -> list[dict[str, Any]]:
    """What ``fetch`` has skipped in a dataset directory; in any other folder, nothing.

    Returns
    -------
    For each its ``sequence``, the first and last of the bad ``frames`` (``None``: the sequence as a
    whole), and the ``reason``.
    """
    if not (path / MANIFEST).is_file():
        return []
    skipped: list[dict[str, Any]] = read_manifest(path, "frames", FORMAT_VERSION)["skipped"]
    return skipped


def _from_manifest(
    dataset: Path, root: Path, entry: dict[str, Any], bad: tuple[BadFrames, ...]
) -> FrameSequence:
    path = root / entry["path"]
    if not path.exists():
        raise MidframeError(f"{path}: this sequence is listed in the manifest but is gone")
    return FrameSequence(
        name=entry["name"],
        path=path,
        frame_count=entry["frame_count"],
        height=entry["height"],
        width=entry["width"],
        fps=None if entry["fps"] is None else Fraction(entry["fps"]),
        bad=bad,
        index=None if entry["index"] is None else dataset / entry["index"],
        notes=tuple(entry["notes"]),
    )


def check_sequence(name: str, path: Path, stream: int | None = None) -> FrameSequence:
    """Read a sequence from end to end and describe it, with its bad frames.

    ``stream`` is the number of a video's stream, where it is not the one that FFmpeg finds best.

    Bad are frames that cannot be decoded (of a video also those that may build on them), and those
    of another size or colour mode than most.

    Raises
    ------
    BadFrameError
        if nothing can be read, or no triplet (3 neighbouring frames) without bad ones is left.
    """
    files: Sequence[Path | str] = []
    index, missing, fps = None, 0, None
    notes: tuple[str, ...] = ()
    if path.is_dir():
        files, looks = image_places(path), look_at_images(path)
    else:
        video = look_at_video(path, stream)
        looks, missing, fps, index = video.frames, video.missing, video.fps, video.index
        notes = video.notes
    sizes = Counter(look for look in looks if not isinstance(look, str))
    usual = sizes.most_common(1)[0][0] if sizes else None
    causes = [
        look if isinstance(look, str) else _difference(look, usual) if usual else ""
        for look in looks
    ]
    causes += ["missing: the file is cut short"] * missing
    bad = tuple(_bad_runs(path, files, causes))
    if usual is None:
        raise BadFrameError(bad[0].reason if bad else f"{path}: has no frames; remove it")
    if len(looks) < 3:
        raise BadFrameError(f"{path}: has {len(looks)} frames, but a triplet needs 3; remove it")
    height, width, _ = usual
    sequence = FrameSequence(name, path, len(looks), height, width, fps, bad, index, notes)
    if not triplet_starts(sequence, 1):
        raise BadFrameError(f"{bad[0].reason}; no three neighbouring frames are left without it")
    return sequence


def _difference(look: Look, usual: Look) -> str:
    """How a frame differs from most of its sequence; empty if it does not."""
    if look[:2] != usual[:2]:
        return f"is {look[1]}x{look[0]}, but most of the sequence is {usual[1]}x{usual[0]}"
    if look[2] != usual[2]:
        return f"colour mode {look[2]}, but most of the sequence is {usual[2]}"
    return ""


def _bad_runs(
    path: Path, files: Sequence[Path | str], causes: Sequence[str]
) -> Iterator[BadFrames]:
    """Neighbouring frames with one cause as one run, whose reason says where it is."""
    for cause, run in groupby(enumerate(causes), key=lambda item: item[1]):
        if cause:
            indices = [index for index, _ in run]
            first, last = indices[0], indices[-1]
            at, end = (files[first], files[last]) if files else (None, None)
            if isinstance(at, Path) and isinstance(end, Path):
                place = f"{at}" + (f" to {end.name}" if last > first else "")
            elif files:
                place = f"{path}"
            else:
                frames = f"frame {first}" if first == last else f"frames {first} to {last}"
                place = f"{path}: {frames}"
            yield BadFrames(first, last, f"{place}: {cause}")


def sequence_digest(path: Path) -> str:
    """SHA-256 of a video file, or of the names and SHA-256s of a folder's images."""
    if path.is_file():
        return file_digest(path)
    total = hashlib.sha256()
    for file in image_files(path):
        total.update(f"{file.name} {file_digest(file)}\n".encode())
    return total.hexdigest()
