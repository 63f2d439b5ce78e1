"""Which triplets of which datasets are sampled: checked, deduplicated, held apart from others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from pipeline.selection.candidates import PARTITION_TRIPLETS, Partition
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
    sequences: tuple[FrameSequence, ...]
    motion: MotionStore
    cuts: CutDistances
    frames_digest: str
    lost: tuple[Loss, ...] = ()

    def without(self, losses: Iterable[Loss]) -> "Dataset":
        """The dataset with frames lost as bad ones."""
        return replace(self, sequences=tuple(without(self.sequences, losses)))


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
        paths = {sequence.name: str(sequence.path) for sequence in sequences}
        # Stores of earlier versions list nothing.
        lost = merge(
            Loss.from_entry(entry, paths[entry["sequence"]])
            for found in (motion, cuts)
            for entry in found.manifest.get("skipped", ())
        )
        opened.append(
            Dataset(
                name, source, tuple(sequences), motion, cuts, frames_digest, tuple(lost)
            ).without(lost)
        )
    return opened


def choose_sequences(
    opened: Sequence[Dataset], settings: PatchSettings
) -> tuple[list[tuple[FrameSequence, Dataset]], list[dict[str, Any]], list[dict[str, str]]]:
    """The sequences to sample with their datasets, sorted by name; what is skipped, with the
    reason; and what is skipped because an earlier dataset holds it."""
    found: dict[str, tuple[FrameSequence, Dataset]] = {}
    for dataset in opened:
        for sequence in dataset.sequences:
            found.setdefault(sequence.name, (sequence, dataset))
    wanted = select([sequence for sequence, _ in found.values()], settings.sequences)
    chosen: list[tuple[FrameSequence, Dataset]] = []
    skipped = [entry for dataset in opened for entry in skipped_frames(dataset.source.frames)]
    for sequence in wanted:
        if min(sequence.height, sequence.width) >= settings.patch_size:
            chosen.append(found[sequence.name])
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
        notice(f"skipped {sequence.name}: {reason}")
        skipped.append({"sequence": sequence.name, "frames": None, "reason": reason})
    duplicates = [
        {"sequence": sequence.name, "taken_from": first.name, "also_in": dataset.name}
        for sequence, first in sorted(chosen, key=lambda pair: pair[0].name)
        for dataset in opened
        if dataset is not first and any(other.name == sequence.name for other in dataset.sequences)
    ]
    for dataset in opened:
        count = sum(duplicate["also_in"] == dataset.name for duplicate in duplicates)
        if count:
            notice(f"{dataset.name}: {count} of its sequences are taken from an earlier dataset")
    return sorted(chosen, key=lambda pair: pair[0].name), skipped, duplicates


def known_losses(chosen: Iterable[tuple[FrameSequence, Dataset]]) -> list[Loss]:
    """Frames of these sequences that were lost when motion or cuts were measured."""
    names = {sequence.name: dataset for sequence, dataset in chosen}
    datasets = {id(dataset): dataset for dataset in names.values()}
    return [
        loss
        for dataset in datasets.values()
        for loss in dataset.lost
        if names.get(loss.sequence) is dataset
    ]


def without_lost(
    chosen: Sequence[tuple[FrameSequence, Dataset]], losses: Sequence[Loss]
) -> list[tuple[FrameSequence, Dataset]]:
    """The sequences with frames lost as bad ones."""
    sequences = without([sequence for sequence, _ in chosen], losses)
    return list(zip(sequences, [dataset for _, dataset in chosen], strict=True))


def partition_triplets(
    chosen: Sequence[tuple[FrameSequence, Dataset]], settings: PatchSettings
) -> list[Partition]:
    """The triplets to sample, in the order of sequences and frames."""

    def triplets() -> Iterator[Triplet]:
        for sequence, dataset in chosen:
            within = set(triplet_starts(sequence, 1, settings.part))
            for first_frame in dataset.motion.first_frames(sequence.name):
                if first_frame in within:
                    yield sequence.name, first_frame

    drawn: dict[str, list[int]] = {}
    for name, first_frame in draw_triplets(triplets(), settings.count, settings.seed):
        drawn.setdefault(name, []).append(first_frame)
    partitions = []
    for sequence, dataset in chosen:
        first_frames = drawn.get(sequence.name, [])
        row_of = {f: row for row, f in enumerate(dataset.motion.first_frames(sequence.name))}
        for start in range(0, len(first_frames), PARTITION_TRIPLETS):
            part = first_frames[start : start + PARTITION_TRIPLETS]
            partitions.append(
                Partition(
                    dataset.source.motion.absolute(),
                    sequence.name,
                    (sequence.height, sequence.width),
                    tuple(row_of[first_frame] for first_frame in part),
                    tuple(part),
                    tuple(dataset.cuts.of_triplets(sequence.name, part)),
                )
            )
    return partitions


def require_apart(partitions: Iterable[Partition], apart_from: Sequence[Path]) -> None:
    """Refuse triplets that share a frame with a sample of another patch directory."""
    for path in apart_from:
        used: dict[str, set[int]] = {}
        table = PatchStore.open(path).table()[["sequence", "first_frame"]].drop_duplicates()
        for name, rows in table.groupby("sequence"):
            firsts = rows["first_frame"].to_numpy()
            used[str(name)] = {int(frame) for offset in range(3) for frame in firsts + offset}
        for partition in partitions:
            frames = {first + offset for first in partition.first_frames for offset in range(3)}
            shared = sorted(frames & used.get(partition.sequence, set()))
            if shared:
                raise MidframeError(
                    f"{path}: holds frame {shared[0]} of sequence '{partition.sequence}', which "
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
