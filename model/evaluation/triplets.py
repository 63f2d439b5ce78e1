"""Triplets to measure a model on: which there are, how they are read, and how they are prepared."""

import fnmatch
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.evaluation.benchmarks import ImageTriplet, find_triplets
from model.settings import EvaluationSettings
from model.video.interpolation import read_image
from pipeline.errors import MidframeError
from pipeline.frames.losses import Loss, read_remaining
from pipeline.frames.sequences import (
    Frame,
    FrameSequence,
    open_frames,
    select,
    sequence_digest,
    triplet_starts,
)
from pipeline.provenance import digest, file_digest
from pipeline.selection.sampling import draw_triplets

SMALLEST_SIDE = 11  # pixels: the largest window of the SSIM
LPIPS_SIDE = 35  # pixels, of which the last layer of its network makes one
SCALERS = {
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True)
class Triplet:
    """Three frames of a sequence, named by the first.

    ``source`` is the sequence that holds them, or the three image files of a benchmark; ``width``
    and ``height`` are in pixels.
    """

    sequence: str
    first_frame: int
    width: int
    height: int
    source: FrameSequence | ImageTriplet

    def __str__(self) -> str:
        return f"{self.sequence}:{self.first_frame}"


def choose_triplets(frames: Path, settings: EvaluationSettings) -> list[Triplet]:
    """The triplets of a dataset that ``settings`` name, sorted by sequence and frame.

    Raises
    ------
    MidframeError
        if there are none, fewer than asked for, or one is smaller than what is measured.
    """
    if settings.layout == "sequences":
        listing = _of_sequences(open_frames(frames), settings)
    else:
        listing = _of_benchmark(find_triplets(frames, settings.layout, settings.subset), settings)
    if settings.count is not None:
        if settings.count > len(listing):
            raise MidframeError(
                f"count: {settings.count} triplets are asked for, but there are {len(listing)}"
            )
        # As patches are drawn, so that a patch set and an evaluation can be of the same triplets.
        by_key = {(triplet.sequence, triplet.first_frame): triplet for triplet in listing}
        drawn = draw_triplets(by_key, settings.count, settings.seed)
        listing = [by_key[key] for key in drawn]
    for triplet in listing:
        _check_size(triplet, settings)
    return listing


def _of_sequences(
    sequences: Sequence[FrameSequence], settings: EvaluationSettings
) -> list[Triplet]:
    def triplet(sequence: FrameSequence, first: int) -> Triplet:
        return Triplet(sequence.name, first, sequence.width, sequence.height, sequence)

    if settings.triplets is not None:
        by_name = {sequence.name: sequence for sequence in sequences}
        named = []
        for name in settings.triplets:
            sequence_name, _, first = name.rpartition(":")
            sequence = by_name.get(sequence_name)
            if sequence is None:
                raise MidframeError(
                    f"triplets: no sequence '{sequence_name}'; there are: {', '.join(by_name)}"
                )
            if int(first) + 3 > sequence.frame_count:
                raise MidframeError(
                    f"triplets: '{name}' does not fit in {sequence.frame_count} frames"
                )
            if list(sequence.good_runs(int(first), int(first) + 3)) != [
                (int(first), int(first) + 3)
            ]:
                raise MidframeError(f"triplets: '{name}' holds a bad frame, which is skipped")
            named.append(triplet(sequence, int(first)))
        return sorted(named, key=lambda one: (one.sequence, one.first_frame))
    matching = set(select([sequence.name for sequence in sequences], settings.sequences))
    chosen = [sequence for sequence in sequences if sequence.name in matching]
    chosen.sort(key=lambda sequence: sequence.name)
    listing = [
        triplet(sequence, start)
        for sequence in chosen
        for start in triplet_starts(sequence, settings.stride, settings.part)
    ]
    if not listing:
        raise MidframeError(
            f"part {settings.part[0]:g} to {settings.part[1]:g} with stride {settings.stride} "
            f"holds no triplet of {len(chosen)} sequences; take a larger part"
        )
    return listing


def _of_benchmark(found: list[ImageTriplet], settings: EvaluationSettings) -> list[Triplet]:
    listing = [
        Triplet(one.sequence, one.first_frame, *one.size(), one)
        for one in found
        if any(fnmatch.fnmatchcase(one.sequence, pattern) for pattern in settings.sequences)
    ]
    if settings.triplets is not None:
        by_name = {str(triplet): triplet for triplet in listing}
        missing = [name for name in settings.triplets if name not in by_name]
        if missing:
            raise MidframeError(
                f"triplets: no triplet '{missing[0]}'; the first of {len(by_name)} is "
                f"'{next(iter(by_name), '')}'"
            )
        listing = [by_name[name] for name in settings.triplets]
    if not listing:
        raise MidframeError(
            f"no sequence matches {', '.join(settings.sequences)}; the first of {len(found)} is "
            f"'{found[0].sequence}'"
        )
    return sorted(listing, key=lambda triplet: (triplet.sequence, triplet.first_frame))


def _check_size(triplet: Triplet, settings: EvaluationSettings) -> None:
    needed = settings.crop or (LPIPS_SIDE if "lpips" in settings.perceptual else SMALLEST_SIDE)
    width, height = settings.size or (triplet.width, triplet.height)
    if min(width, height) < needed:
        raise MidframeError(
            f"{triplet.sequence}: frames are {width}x{height}, smaller than the "
            f"{needed}x{needed} that are measured; leave it out with 'sequences', or choose a "
            "smaller 'crop'"
        )


def read_triplets(triplets: list[Triplet]) -> Iterator[tuple[Triplet, list[Frame]]]:
    """Yield each triplet with its three frames; a video is read once, from front to back.

    Raises
    ------
    MidframeError
        if a frame cannot be read.
    """
    losses: list[Loss] = []
    for triplet, frames in read_remaining_triplets(triplets, losses):
        if frames is None:
            raise MidframeError(losses[0].reason)
        yield triplet, frames


def read_remaining_triplets(
    triplets: list[Triplet], losses: list[Loss]
) -> Iterator[tuple[Triplet, list[Frame] | None]]:
    """As `read_triplets`, with ``None`` for a triplet whose frames cannot be read any more.

    What is lost is added to ``losses``.

    Raises
    ------
    MidframeError
        if a frame cannot be read and its dataset does not skip bad frames.
    """
    by_sequence: dict[str, list[Triplet]] = {}
    for triplet in triplets:
        by_sequence.setdefault(triplet.sequence, []).append(triplet)
    for group in by_sequence.values():
        for triplet in group:
            if isinstance(triplet.source, ImageTriplet):
                yield triplet, [read_image(path) for path in triplet.source.paths]
            elif triplet.source.path.is_dir():
                yield from _read(triplet.source, [triplet], losses)
            else:
                yield from _read(triplet.source, group, losses)
                break


def _read(
    sequence: FrameSequence, group: list[Triplet], losses: list[Loss]
) -> Iterator[tuple[Triplet, list[Frame] | None]]:
    waiting = deque(group)
    window: deque[tuple[int, Frame]] = deque(maxlen=3)
    start, stop = group[0].first_frame, group[-1].first_frame + 3
    for item in read_remaining(sequence, start, stop, losses):
        window.append(item)
        while waiting and waiting[0].first_frame + 2 <= item[0]:
            triplet = waiting.popleft()
            wanted = range(triplet.first_frame, triplet.first_frame + 3)
            whole = [index for index, _ in window] == [*wanted]
            yield triplet, [frame for _, frame in window] if whole else None
    yield from ((triplet, None) for triplet in waiting)


def prepare(frame: Frame, settings: EvaluationSettings) -> Frame:
    """Scale a uint8 RGB frame ``[H, W, 3]`` and cut out its centre, as ``settings`` say."""
    if settings.size is not None and settings.size != (frame.shape[1], frame.shape[0]):
        scaled = cv2.resize(frame, settings.size, interpolation=SCALERS[settings.scaler])
        frame = np.asarray(scaled, dtype=np.uint8)
    if settings.crop is not None:
        # Python rounds halves to even, and so does torchvision's CenterCrop, which the paper's
        # code uses.
        top = round((frame.shape[0] - settings.crop) / 2)
        left = round((frame.shape[1] - settings.crop) / 2)
        frame = frame[top : top + settings.crop, left : left + settings.crop]
    return np.ascontiguousarray(frame)


def describe_sources(triplets: list[Triplet]) -> dict[str, dict[str, Any]]:
    """What each sequence of the triplets was read from, by its name; JSON values.

    ``width`` and ``height`` in pixels, ``sha256`` of its files, and of a sequence (not of a
    benchmark's images) ``frame_count`` and ``fps``.
    """
    described: dict[str, dict[str, Any]] = {}
    files: dict[str, list[str]] = {}
    for triplet in triplets:
        name, source = triplet.sequence, triplet.source
        size = {"width": triplet.width, "height": triplet.height}
        if isinstance(source, ImageTriplet):
            files.setdefault(name, []).extend(map(file_digest, source.paths))
            described[name] = {**size, "sha256": digest(files[name])}
        elif name not in described:
            described[name] = {
                **size,
                "frame_count": source.frame_count,
                "fps": None if source.fps is None else str(source.fps),
                "sha256": sequence_digest(source.path) if source.path.exists() else None,
            }
    return described
