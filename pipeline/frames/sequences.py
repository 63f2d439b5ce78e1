"""The sequences of a dataset: opening it, and describing one sequence by reading all of it."""

import fnmatch
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import MidframeError
from pipeline.frames.decoding import (
    BadFrameError,
    LeftOutError,
    Look,
    image_files,
    image_places,
    look_at_images,
)
from pipeline.frames.decoding import Frame as Frame
from pipeline.frames.discovery import find_sequences
from pipeline.frames.frame_sequence import BadFrames as BadFrames
from pipeline.frames.frame_sequence import FrameSequence as FrameSequence
from pipeline.frames.frame_sequence import triplet_starts as triplet_starts
from pipeline.frames.image_index import ImageIndex
from pipeline.frames.sequence_list import read_list
from pipeline.frames.video import look_at_video
from pipeline.frames.video_index import VideoIndex
from pipeline.provenance import MANIFEST, file_digest, read_manifest
from pipeline.reading import reading

FORMAT_VERSION = 3
NONE_LEFT = "no three neighbouring frames are left without it"
WHAT_TO_DO = "fetch the dataset again, or with the setting on_bad_frame: skip"


def select(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names of sequences that match one of the patterns (``*``, ``?``).

    Raises
    ------
    MidframeError
        if a pattern matches nothing, with the names that there are.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            there = ", ".join(names[:20])
            raise MidframeError(f"no sequence matches '{pattern}'; there are: {there}")
    return [name for name in names if any(fnmatch.fnmatchcase(name, one) for one in patterns)]


def open_frames(path: Path) -> Sequence[FrameSequence]:
    """The sequences of a dataset directory, or of any folder of videos and folders of images.

    A directory that ``fetch`` has written is opened by its manifest; in any other folder (or for
    a single video file) the sequences are looked for, and each is read once to check it.

    Returns
    -------
    Sequences sorted by name, at least one; those of a dataset are made as they are asked for.

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
        with reading(path / MANIFEST, WHAT_TO_DO):
            bad: dict[str, list[BadFrames]] = {}
            for skipped in manifest["skipped"]:
                if skipped.get("frames") is not None:
                    first, last = map(int, skipped["frames"])
                    run = BadFrames(first, last, str(skipped["reason"]))
                    bad.setdefault(skipped["sequence"], []).append(run)
        listed = read_list(path, manifest, bad)
        for sequence in listed:
            if not sequence.skip_bad and not sequence.path.exists():
                raise BadFrameError(f"{sequence.path}: is gone; {WHAT_TO_DO}")
        return listed
    sequences = [check_sequence(name, path / inside) for name, inside in find_sequences(path)]
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
    manifest = read_manifest(path, "frames", FORMAT_VERSION)
    with reading(path / MANIFEST, WHAT_TO_DO):
        skipped: list[dict[str, Any]] = manifest["skipped"]
        return skipped


def check_sequence(
    name: str,
    path: Path,
    stream: int | None = None,
    show: Callable[[Frame], None] | None = None,
    interlaced: Literal["refuse", "leave_out", "deinterlace"] = "refuse",
) -> FrameSequence:
    """Read a sequence from end to end and describe it, with its bad frames.

    Bad are frames that cannot be decoded (of a video also those that may build on them), and those
    of another size or colour mode than most.

    Parameters
    ----------
    stream : the number of a video's stream, where it is not the one that FFmpeg finds best.
    show : called with each frame that can be decoded, in order; of interlaced video as it is.
    interlaced : what to do with interlaced video.

    Raises
    ------
    BadFrameError
        if nothing can be read, or no triplet (3 neighbouring frames) without bad ones is left.
    """
    files: Sequence[Path | str] = []
    index: VideoIndex | ImageIndex
    missing, why_missing, fps, deinterlace = 0, "", None, False
    notes: tuple[str, ...] = ()
    seconds: Sequence[float] = ()
    if path.is_dir():
        files = image_places(path)
        looks, checksums = look_at_images(files, show)
        index = ImageIndex.of(files, checksums)
    else:
        video = look_at_video(path, stream, show)
        looks, fps, index = video.frames, video.fps, video.index
        missing, why_missing = video.missing, video.why_missing
        notes, seconds = video.notes, video.seconds
        if video.interlaced:
            _accept_interlaced(path, interlaced)
            notes = (*notes, "interlaced; deinterlaced by bwdif")
            deinterlace = True
    sizes = Counter(look for look in looks if not isinstance(look, str))
    usual = sizes.most_common(1)[0][0] if sizes else None
    causes = [
        look if isinstance(look, str) else _difference(look, usual) if usual else ""
        for look in looks
    ]
    causes += [f"missing: {why_missing}"] * missing
    bad = tuple(_bad_runs(path, files, causes))
    if usual is None:
        if bad:
            raise BadFrameError(f"{bad[0].reason}; {NONE_LEFT}")
        raise BadFrameError(f"{path}: has no frames; remove it")
    if len(looks) < 3:
        raise BadFrameError(f"{path}: has {len(looks)} frames, but a triplet needs 3; remove it")
    height, width, _ = usual
    sequence = FrameSequence(
        name,
        path,
        len(looks),
        height,
        width,
        fps,
        bad,
        index,
        notes,
        deinterlace=deinterlace,
        seconds=seconds,
    )
    if deinterlace and bad:
        raise BadFrameError(f"{bad[0].reason}; a damaged video cannot be deinterlaced")
    if not triplet_starts(sequence, 1):
        raise BadFrameError(f"{bad[0].reason}; {NONE_LEFT}")
    return sequence


def _accept_interlaced(path: Path, interlaced: str) -> None:
    said = f"{path}: is interlaced, so every picture mixes two moments"
    if interlaced == "leave_out":
        raise LeftOutError(said)
    if interlaced == "refuse":
        raise BadFrameError(
            f"{said}; set interlaced: deinterlace, or deinterlace it by other means "
            "(`ffmpeg -i IN -vf bwdif OUT`)"
        )


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
