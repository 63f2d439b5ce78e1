"""Which triplets of which datasets are sampled: checked, deduplicated, held apart from others."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import MidframeError
from pipeline.frames.losses import Loss, merge, without
from pipeline.frames.sequences import FORMAT_VERSION as FRAMES_VERSION
from pipeline.frames.sequences import (
    FrameSequence,
    open_frames,
    select,
    skipped_frames,
    triplet_starts,
)
from pipeline.progress import notice
from pipeline.provenance import MANIFEST, input_digest, read_manifest
from pipeline.selection.candidates import PARTITION_TRIPLETS, Partitions, Piece
from pipeline.selection.cuts import CutDistances
from pipeline.selection.sampling import Triplet, draw_triplets
from pipeline.settings import PatchSettings
from pipeline.store.motion_store import MotionStore
from pipeline.store.patch_store import PatchStore


@dataclass(frozen=True)
class Source:
    """A dataset with its motion and cuts directories."""

    frames: Path
    motion: Path
    cuts: Path


@dataclass(frozen=True)
class Dataset:
    """A source, checked: its stores are of its frames.

    ``lost`` are frames that could not be read any more when motion or cuts were measured.
    """

    name: str
    source: Source
    sequences: Sequence[FrameSequence]
    motion: MotionStore
    cuts: CutDistances
    frames_digest: str
    lost: tuple[Loss, ...] = ()

    def without(self, losses: Iterable[Loss]) -> "Dataset":
        """The dataset with frames lost as bad ones."""
        return replace(self, sequences=without(self.sequences, losses))


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sequence to sample: the one at position ``row`` of a dataset's."""

    name: str
    dataset: Dataset
    row: int

    def sequence(self) -> FrameSequence:
        """The sequence, made anew."""
        return self.dataset.sequences[self.row]


def open_sources(sources: Sequence[Source], settings: PatchSettings) -> list[Dataset]:
    """Open the datasets, and check that their motion and cuts are of their frames."""
    names = settings.datasets
    if len(names) != len(sources):
        names = [source.frames.name for source in sources]
    opened = []
    for name, source in zip(names, sources, strict=True):
        motion, cuts = MotionStore(source.motion), CutDistances(source.cuts)
        frames_digest = input_digest(source.frames)
        for found in (motion, cuts):
            if found.manifest["inputs"]["frames"] != frames_digest:
                raise MidframeError(
                    f"{found.path}: was made from other frames than {source.frames}; build it again"
                )
        if settings.max_misfit is not None and cuts.method != "flow":
            raise MidframeError(
                f"{cuts.path}: max_misfit needs fits after flow, which are measured with the "
                "setting 'method: flow' of cuts only; measure them again, or leave max_misfit out"
            )
        sequences = open_frames(source.frames)
        # Stores of earlier versions list nothing.
        entries = [entry for found in (motion, cuts) for entry in found.manifest.get("skipped", ())]
        affected = {entry["sequence"] for entry in entries}
        paths = {
            sequence.name: str(sequence.path)
            for sequence in (sequences if affected else ())
            if sequence.name in affected
        }
        lost = merge(Loss.from_entry(entry, paths[entry["sequence"]]) for entry in entries)
        opened.append(
            Dataset(name, source, sequences, motion, cuts, frames_digest, tuple(lost)).without(lost)
        )
    return opened


def choose_sequences(
    opened: Sequence[Dataset], settings: PatchSettings
) -> tuple[list[Chosen], list[dict[str, Any]], list[dict[str, str]]]:
    """The sequences to sample, sorted by name; what is skipped, with the reason; and what is
    skipped because an earlier dataset holds it."""
    found: dict[str, Chosen] = {}
    again: list[tuple[str, Dataset]] = []
    for dataset in opened:
        for row, sequence in enumerate(dataset.sequences):
            if sequence.name in found:
                again.append((sequence.name, dataset))
            else:
                found[sequence.name] = Chosen(sequence.name, dataset, row)
    chosen: list[Chosen] = []
    skipped = [entry for dataset in opened for entry in skipped_frames(dataset.source.frames)]
    for name in select(list(found), settings.sequences):
        sequence = found[name].sequence()
        if min(sequence.height, sequence.width) >= settings.patch_size:
            chosen.append(found[name])
            continue
        reason = (
            f"frames of {sequence.width}x{sequence.height} are smaller than a patch of "
            f"{settings.patch_size}x{settings.patch_size}"
        )
        if settings.on_bad_frame == "error":
            raise MidframeError(
                f"{sequence.path}: {reason}; choose smaller patches, leave the sequence out, or "
                "set on_bad_frame: skip"
            )
        notice(f"skipped {name}: {reason}")
        skipped.append({"sequence": name, "frames": None, "reason": reason})
    chosen.sort(key=lambda one: one.name)
    taken = {one.name for one in chosen}
    duplicates = [
        {"sequence": name, "taken_from": found[name].dataset.name, "also_in": dataset.name}
        for name, dataset in sorted(again, key=lambda pair: pair[0])
        if name in taken
    ]
    for dataset in opened:
        count = sum(duplicate["also_in"] == dataset.name for duplicate in duplicates)
        if count:
            notice(f"{dataset.name}: {count} of its sequences are taken from an earlier dataset")
    return chosen, skipped, duplicates


def known_losses(chosen: Iterable[Chosen]) -> list[Loss]:
    """Frames of these sequences that were lost when motion or cuts were measured."""
    owners = {one.name: one.dataset for one in chosen}
    datasets = {id(dataset): dataset for dataset in owners.values()}
    return [
        loss
        for dataset in datasets.values()
        for loss in dataset.lost
        if owners.get(loss.sequence) is dataset
    ]


def without_lost(chosen: Iterable[Chosen], losses: Sequence[Loss]) -> list[Chosen]:
    """The sequences with frames lost as bad ones."""
    remaining: dict[int, Dataset] = {}
    found = []
    for one in chosen:
        of = id(one.dataset)
        if of not in remaining:
            remaining[of] = one.dataset.without(losses)
        found.append(replace(one, dataset=remaining[of]))
    return found


class Choice:
    """The triplets to sample, in the order of sequences and frames."""

    def __init__(self, chosen: Sequence[Chosen], settings: PatchSettings) -> None:
        self._chosen = chosen
        number = {one.name: number for number, one in enumerate(chosen)}
        drawn = draw_triplets(_triplets(chosen, settings), settings.count, settings.seed)
        self._owner, self._first = array("q"), array("q")
        for name, first_frame in drawn:
            self._owner.append(number[name])
            self._first.append(first_frame)

    def first_frames(self) -> Iterator[tuple[str, list[int]]]:
        """Each sequence that triplets are taken from, with their first frames."""
        start = 0
        for owner, group in groupby(self._owner):
            stop = start + sum(1 for _ in group)
            yield self._chosen[owner].name, list(self._first[start:stop])
            start = stop

    def partitions(self) -> Partitions:
        """The triplets in partitions."""
        # Where each piece, of one sequence, begins; and the first piece of each partition.
        starts, firsts, place, room = array("q"), array("q"), 0, 0
        for _, first_frames in self.first_frames():
            stop = place + len(first_frames)
            for start in range(place, stop, PARTITION_TRIPLETS):
                size = min(stop - start, PARTITION_TRIPLETS)
                if size > room:
                    firsts.append(len(starts))
                    room = PARTITION_TRIPLETS
                starts.append(start)
                room -= size
            place = stop
        bounds = np.append(np.array(starts, np.int64), place)
        pieces = np.append(np.array(firsts, np.int64), len(starts))

        def make_piece(start: int, stop: int) -> Piece:
            one = self._chosen[self._owner[start]]
            first_frames = tuple(self._first[start:stop])
            sequence, dataset = one.sequence(), one.dataset
            in_store = dataset.motion.first_frames(one.name)
            return Piece(
                dataset.source.motion.absolute(),
                one.name,
                (sequence.height, sequence.width),
                tuple(bisect_left(in_store, first_frame) for first_frame in first_frames),
                first_frames,
                tuple(dataset.cuts.of_triplets(one.name, first_frames)),
            )

        def make(number: int) -> tuple[Piece, ...]:
            within = bounds[pieces[number] : pieces[number + 1] + 1].tolist()
            return tuple(make_piece(start, stop) for start, stop in pairwise(within))

        names = [self._chosen[self._owner[starts[first]]].name for first in firsts]
        return Partitions(names, np.diff(bounds[pieces]), make)


def _triplets(chosen: Iterable[Chosen], settings: PatchSettings) -> Iterator[Triplet]:
    for one in chosen:
        within = set(triplet_starts(one.sequence(), 1, settings.part))
        for first_frame in one.dataset.motion.first_frames(one.name):
            if first_frame in within:
                yield one.name, first_frame


def require_apart(choice: Choice, apart_from: Sequence[Path]) -> None:
    """Refuse triplets that share a frame with a sample of another patch directory."""
    for path in apart_from:
        used: dict[str, set[int]] = {}
        table = PatchStore.open(path).table()[["sequence", "first_frame"]].drop_duplicates()
        for name, rows in table.groupby("sequence"):
            there = rows["first_frame"].to_numpy()
            used[str(name)] = {int(frame) for offset in range(3) for frame in there + offset}
        for sequence, firsts in choice.first_frames():
            frames = {first + offset for first in firsts for offset in range(3)}
            shared = sorted(frames & used.get(sequence, set()))
            if shared:
                raise MidframeError(
                    f"{path}: holds frame {shared[0]} of sequence '{sequence}', which "
                    "would be in these patches too; training and validation need other sequences, "
                    "or parts of them that do not overlap"
                )


def jump_cuts(opened: Sequence[Dataset], settings: PatchSettings) -> dict[str, list[int]]:
    """The cuts of every sequence of the datasets, also of those that are not sampled."""
    return {
        name: dataset.cuts.cuts(name, settings)
        for dataset in reversed(opened)
        for name in dataset.cuts.sequences()
    }


def origin(frames: Path) -> str:
    """Where a dataset comes from: its `DatasetSettings.source`."""
    if not (frames / MANIFEST).is_file():
        return "folder"
    settings = read_manifest(frames, "frames", FRAMES_VERSION)["settings"]
    return str(settings["source"])
