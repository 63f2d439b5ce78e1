"""A sequence of frames, from a folder of images or a video file.

Frames are uint8 RGB arrays ``[H, W, 3]`` and come one at a time: a video is never held whole.
"""

import bisect
import fnmatch
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import MidframeError
from pipeline.provenance import MANIFEST, file_digest, read_manifest

Frame = NDArray[np.uint8]

# Exact conversion between a video's YUV and RGB: without these flags the conversion rounds down,
# which darkens a picture by about one level.
COLOUR_CONVERSION = int(
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)

FORMAT_VERSION = 1
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".y4m", ".ts"}
)
# Grey images are read as RGB; palettes, alpha and 16 bits would need a choice that is not ours.
IMAGE_MODES = frozenset({"RGB", "L"})


class BadFrameError(MidframeError):
    """A sequence that cannot be used, with the file and the reason."""


@dataclass(frozen=True)
class FrameSequence:
    """Consecutive frames of one size.

    Attributes
    ----------
    name : unique in its dataset: the path inside the dataset's folder, without suffix.
    path : a video file, or a folder of images that are read in the order of their names.
    frame_count, height, width : what reading yields; sizes in pixels.
    fps : frames a second of a video; ``None`` for images.
    """

    name: str
    path: Path
    frame_count: int
    height: int
    width: int
    fps: Fraction | None = None

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield frames ``start`` to ``stop`` (excluded), uint8 RGB ``[H, W, 3]``.

        Raises
        ------
        BadFrameError
            if a frame cannot be read, has another size, or is missing.
        """
        stop = self.frame_count if stop is None else min(stop, self.frame_count)
        frames = _read_images if self.path.is_dir() else _read_video
        expected = max(stop - start, 0)
        count = 0
        for frame in frames(self.path, start, stop) if expected else ():
            if frame.shape[:2] != (self.height, self.width):
                raise BadFrameError(
                    f"{self.path}: frame {start + count} is {frame.shape[1]}x{frame.shape[0]}, "
                    f"but the sequence is {self.width}x{self.height}"
                )
            yield frame
            count += 1
        if count != expected:
            raise BadFrameError(
                f"{self.path}: {count} of the frames {start} to {stop - 1} can be read; "
                "has the file changed?"
            )


def triplet_starts(
    sequence: FrameSequence, stride: int = 3, part: tuple[float, float] = (0.0, 1.0)
) -> list[int]:
    """Indices of the first frames of a sequence's triplets.

    The triplets of a sequence start at frames 0, ``stride``, 2 ``stride`` …; those are returned
    whose three frames lie in ``part``, a half-open range of fractions of the sequence's frames.
    Two ranges that do not overlap thus never share a frame.
    """
    first = round(part[0] * sequence.frame_count)
    last = round(part[1] * sequence.frame_count)
    start = -(-first // stride) * stride
    return list(range(start, last - 2, stride))


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
        if there is no such folder, it holds no sequence, or one of them cannot be read.
    """
    # Absolute, because workers on other machines have a working directory of their own.
    path = path.absolute()
    if (path / MANIFEST).is_file():
        manifest = read_manifest(path, "frames", FORMAT_VERSION)
        root = path / manifest["root"]
        return [_from_manifest(root, entry) for entry in manifest["sequences"]]
    return [check_sequence(name, source) for name, source in find_sequences(path)]


def _from_manifest(root: Path, entry: dict[str, Any]) -> FrameSequence:
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
    )


def find_sequences(path: Path) -> list[tuple[str, Path]]:
    """Names and paths of the sequences in a folder and the folders below it, sorted by name.

    A sequence is a video file, or a folder that holds images; hidden files are passed over.

    Raises
    ------
    MidframeError
        if the folder is missing, holds no sequence, or two sequences have one name.
    """
    if path.is_file():
        return [(path.stem, path)]
    if not path.is_dir():
        raise MidframeError(f"{path}: no such folder; give a folder of videos or of image folders")
    found: dict[str, Path] = {}
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        if any(part.startswith(".") for part in relative.parts) or not file.is_file():
            continue
        suffix = file.suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            source, name = file, relative.with_suffix("").as_posix()
        elif suffix in IMAGE_SUFFIXES:
            source = file.parent
            name = relative.parent.as_posix() if source != path else path.resolve().name
        else:
            continue
        if found.setdefault(name, source) != source:
            raise MidframeError(
                f"{source}: a second sequence named '{name}' beside {found[name]}; rename one"
            )
    if not found:
        raise MidframeError(
            f"{path}: holds neither videos ({_list(VIDEO_SUFFIXES)}) nor folders of images "
            f"({_list(IMAGE_SUFFIXES)})"
        )
    return sorted(found.items())


def _list(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffixes))


def check_sequence(name: str, path: Path) -> FrameSequence:
    """Read a sequence from end to end and describe it.

    Raises
    ------
    BadFrameError
        if a frame cannot be decoded, the size or colour mode changes, or there are fewer than 3
        frames (a triplet).
    """
    frames = _read_images(path) if path.is_dir() else _read_video(path)
    shape: tuple[int, ...] = ()
    count = 0
    for frame in frames:
        if count and frame.shape != shape:
            raise BadFrameError(
                f"{path}: frame {count} is {frame.shape[1]}x{frame.shape[0]}, but the ones before "
                f"are {shape[1]}x{shape[0]}; a sequence needs frames of one size"
            )
        shape = frame.shape
        count += 1
    if count < 3:
        raise BadFrameError(f"{path}: has {count} frames, but a triplet needs 3; remove it")
    fps = None if path.is_dir() else _frame_rate(path)
    return FrameSequence(name, path, count, shape[0], shape[1], fps)


def sequence_digest(path: Path) -> str:
    """SHA-256 of a video file, or of the names and SHA-256s of a folder's images."""
    if path.is_file():
        return file_digest(path)
    total = hashlib.sha256()
    for file in _image_files(path):
        total.update(f"{file.name} {file_digest(file)}\n".encode())
    return total.hexdigest()


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def _read_images(folder: Path, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    mode = None
    for file in _image_files(folder)[start:stop]:
        reason = None
        try:
            with Image.open(file) as image:
                found = image.mode
                frame = np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            reason = _reason(error, file)
        # Raised out here: the decoder's exception, kept as context, may not survive the way from
        # a worker to this process.
        if reason is not None:
            raise BadFrameError(f"{file}: not a readable image ({reason})")
        if found not in IMAGE_MODES:
            raise BadFrameError(f"{file}: colour mode {found}; 8-bit RGB or grey images are needed")
        if mode is not None and found != mode:
            raise BadFrameError(f"{file}: colour mode {found}, but the images before are {mode}")
        mode = found
        yield frame


def _read_video(path: Path, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """Frames in presentation order; a start inside the file is reached from its key frame."""
    reason = None
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise BadFrameError(f"{path}: has no video stream")
            stream = container.streams.video[0]
            index = start
            first_pts = None
            if start:
                timestamps = _timestamps(container)
                container.seek(0, stream=stream)
                if timestamps is None or start >= len(timestamps):
                    index = 0
                else:
                    first_pts = timestamps[start]
                    container.seek(first_pts, stream=stream, backward=True)
            for frame in container.decode(stream):
                if first_pts is not None and frame.pts is not None and frame.pts < first_pts:
                    continue
                if index >= start:
                    if stop is not None and index >= stop:
                        return
                    picture = frame.to_ndarray(format="rgb24", interpolation=COLOUR_CONVERSION)
                    yield np.asarray(picture, np.uint8)
                index += 1
    except (av.error.FFmpegError, OSError) as error:
        reason = _reason(error, path)
    if reason is not None:  # see `_read_images`
        raise BadFrameError(f"{path}: not a readable video ({reason})")


def _timestamps(container: av.container.InputContainer) -> list[int] | None:
    """Sorted presentation timestamps of all frames, or ``None`` where the file lacks them."""
    timestamps: list[int] = []
    for packet in container.demux(container.streams.video[0]):
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.pts is None:
            return None
        bisect.insort(timestamps, packet.pts)
    return timestamps if len(set(timestamps)) == len(timestamps) else None


def _frame_rate(path: Path) -> Fraction | None:
    with av.open(path) as container:
        return container.streams.video[0].average_rate


def _reason(error: Exception, path: Path) -> str:
    """The first sentence of a library's message, without the path that we name ourselves."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.replace(repr(str(path)), "").replace(str(path), "").strip(" :")
