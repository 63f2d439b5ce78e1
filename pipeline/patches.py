"""The sampling stage: from motion and cuts to a patch directory.

First every triplet's windows are drawn and judged (`pipeline.candidates`), which needs no pixels;
then the windows taken are cut out of their frames and written, a shard a task. What an interrupted
run has finished is taken up by the next one with the same settings and inputs.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import candidates, patch_store, sampling
from pipeline.candidates import Counts, Partition
from pipeline.cluster import Cluster, connect
from pipeline.cuts import CutDistances
from pipeline.errors import MidframeError
from pipeline.frames import FORMAT_VERSION as FRAMES_VERSION
from pipeline.frames import FrameSequence, left_out, open_frames, select, triplet_starts
from pipeline.jump_cuts import cuts_among
from pipeline.motion_store import MotionStore
from pipeline.patch_store import PatchStore
from pipeline.progress import notice, progress
from pipeline.provenance import (
    MANIFEST,
    input_digest,
    read_manifest,
    write_manifest,
)
from pipeline.published import describe
from pipeline.resume import publish_resumable
from pipeline.sampling import Triplet, draw_triplets
from pipeline.settings import PatchSettings

# Frames between two triplets from which on reading starts anew and does not go on: about what a
# seek in a video costs. Images can be opened one by one.
VIDEO_GAP = 100


@dataclass(frozen=True)
class Source:
    """A dataset with its motion and cuts directories."""

    frames: Path
    motion: Path
    cuts: Path


@dataclass(frozen=True)
class _Opened:
    """A source, checked: its stores are of its frames."""

    name: str
    source: Source
    sequences: tuple[FrameSequence, ...]
    motion: MotionStore
    cuts: CutDistances
    frames_digest: str


@dataclass(frozen=True)
class _Shard:
    """Samples of one shard: what one task cuts out and writes."""

    store: Path
    first_sample: int
    patch_size: int
    windows: tuple[tuple[FrameSequence, int, int, int], ...]  # first frame, top, left


def sample(
    sources: Sequence[Source],
    out: Path,
    settings: PatchSettings,
    workers: int | None = None,
    scheduler: str | None = None,
    apart_from: Sequence[Path] = (),
) -> None:
    """Choose windows of the datasets' triplets and publish them as a patch directory.

    Parameters
    ----------
    sources : datasets; a sequence that several hold is taken from the first.
    out : the patch directory, replaced as a whole.
    settings : which triplets, which windows, how they are accepted.
    workers, scheduler : see `pipeline.cluster.connect`.
    apart_from : patch directories with which no frame may be shared (training and validation).

    Raises
    ------
    MidframeError
        if motion or cuts belong to other frames, frames are smaller than a patch (unless they are
        to be skipped), a frame is in one of ``apart_from``, no window is taken at all, or the disk
        is full.
    """
    opened = _open(sources, settings)
    chosen, skipped, duplicates = _choose_sequences(opened, settings)
    partitions = _partitions(chosen, settings)
    _require_apart(partitions, apart_from)
    inputs = {
        f"{index}/{name}": digest
        for index, dataset in enumerate(opened)
        for name, digest in (
            ("frames", dataset.frames_digest),
            ("motion", input_digest(dataset.source.motion)),
            ("cuts", input_digest(dataset.source.cuts)),
        )
    }
    identity = [patch_store.FORMAT_VERSION, settings.model_dump(mode="json"), inputs]
    with publish_resumable(out, identity) as folder, connect(workers, scheduler) as cluster:
        counts = _choose_windows(folder, partitions, settings, cluster)
        samples = counts.windows[sampling.Reason.TAKEN]
        sequences = {sequence.name: sequence for sequence, _ in chosen}
        _write_store(folder, samples, sequences, settings, cluster)
        write_manifest(
            folder,
            patch_store.KIND,
            patch_store.FORMAT_VERSION,
            settings,
            inputs,
            samples=samples,
            triplets=counts.triplets,
            windows=counts.by_name(),
            jump_cuts=_jump_cuts(opened, settings),
            dataset_sources=[_origin(source.frames) for source in sources],
            skipped=skipped,
            duplicates=duplicates,
            files=patch_store.small_files(folder),
        )
        notice(describe(read_manifest(folder, patch_store.KIND, patch_store.FORMAT_VERSION)))


def _open(sources: Sequence[Source], settings: PatchSettings) -> list[_Opened]:
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
        sequences = tuple(open_frames(source.frames))
        opened.append(_Opened(name, source, sequences, motion, cuts, frames_digest))
    return opened


def _choose_sequences(
    opened: Sequence[_Opened], settings: PatchSettings
) -> tuple[list[tuple[FrameSequence, _Opened]], list[dict[str, Any]], list[dict[str, str]]]:
    """The sequences to sample with their datasets, sorted by name; what is left out, with the
    reason; and what is left out because an earlier dataset holds it."""
    found: dict[str, tuple[FrameSequence, _Opened]] = {}
    for dataset in opened:
        for sequence in dataset.sequences:
            found.setdefault(sequence.name, (sequence, dataset))
    wanted = select([sequence for sequence, _ in found.values()], settings.sequences)
    chosen: list[tuple[FrameSequence, _Opened]] = []
    skipped = [entry for dataset in opened for entry in left_out(dataset.source.frames)]
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


def _partitions(
    chosen: Sequence[tuple[FrameSequence, _Opened]], settings: PatchSettings
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
        for start in range(0, len(first_frames), candidates.PARTITION_TRIPLETS):
            part = first_frames[start : start + candidates.PARTITION_TRIPLETS]
            partitions.append(
                Partition(
                    dataset.source.motion.absolute(),
                    sequence.name,
                    (sequence.height, sequence.width),
                    tuple(row_of[first_frame] for first_frame in part),
                    tuple(part),
                    tuple(dataset.cuts.of_triplet(sequence.name, first) for first in part),
                )
            )
    return partitions


def _require_apart(partitions: Iterable[Partition], apart_from: Sequence[Path]) -> None:
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


def _choose_windows(
    folder: Path, partitions: Sequence[Partition], settings: PatchSettings, cluster: Cluster
) -> Counts:
    table, parts = folder / patch_store.CANDIDATES, folder / "parts"
    counts = candidates.judge(partitions, table, parts, settings, cluster)
    if not counts.windows.get(sampling.Reason.TAKEN):
        table.unlink()
        shutil.rmtree(parts)
        raise MidframeError(f"no window was taken; refused: {counts.by_name()}")
    return counts


def _write_store(
    folder: Path,
    samples: int,
    sequences: Mapping[str, FrameSequence],
    settings: PatchSettings,
    cluster: Cluster,
) -> None:
    """Write the windows taken; shards that are there already are left as they are."""
    store, table = folder / patch_store.STORE, folder / patch_store.CANDIDATES
    if not store.exists():
        unfinished = store.with_name(f"{store.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        patch_store.create(
            unfinished, samples, settings.patch_size, settings.shard_samples, settings.codec
        )
        first = 0
        for rows in candidates.read_taken(table, patch_store.COORDINATE_CHUNK):
            patch_store.write_coordinates(unfinished, first, rows.assign(split=settings.split))
            first += len(rows)
        os.replace(unfinished, store)
    missing = [
        not patch_store.shard_file(store, shard).exists()
        for shard in range(-(-samples // settings.shard_samples))
    ]
    if not all(missing):
        notice(f"resuming: {missing.count(False)} of {len(missing)} shards are written already")
    shards = _shards(store, table, sequences, settings, missing)
    for _ in progress(
        cluster.map(_write_shard, shards),
        min(missing.count(True) * settings.shard_samples, samples),
        "patches",
        "patches",
        amount=lambda done: len(done[0].windows),
    ):
        pass
    shutil.rmtree(folder / "parts")
    patch_store.remove_unfinished(store)


def _shards(
    store: Path,
    table: Path,
    sequences: Mapping[str, FrameSequence],
    settings: PatchSettings,
    missing: Sequence[bool],
) -> Iterator[_Shard]:
    for shard, rows in enumerate(candidates.read_taken(table, settings.shard_samples)):
        if not missing[shard]:
            continue
        windows = tuple(
            (sequences[name], int(frame), int(top), int(left))
            for name, frame, top, left in zip(
                rows["sequence"], rows["first_frame"], rows["top"], rows["left"], strict=True
            )
        )
        yield _Shard(store, shard * settings.shard_samples, settings.patch_size, windows)


def _write_shard(shard: _Shard) -> None:
    """Cut the windows of one shard out of their frames and write them."""
    size = shard.patch_size
    triplets = np.empty((len(shard.windows), 3, size, size, 3), np.uint8)
    of_triplet: dict[tuple[FrameSequence, int], list[tuple[int, int, int]]] = {}
    for position, (sequence, first, top, left) in enumerate(shard.windows):
        of_triplet.setdefault((sequence, first), []).append((position, top, left))
    for sequence in dict.fromkeys(sequence for sequence, _ in of_triplet):
        firsts = [first for owner, first in of_triplet if owner == sequence]
        for run in _runs(firsts, 0 if sequence.path.is_dir() else VIDEO_GAP):
            for index, frame in sequence.read_good(run[0], run[-1] + 3):
                for offset in range(3):
                    for position, top, left in of_triplet.get((sequence, index - offset), ()):
                        patch = frame[top : top + size, left : left + size]
                        triplets[position, offset] = patch
    patch_store.write_shard(shard.store, shard.first_sample, triplets)


def _runs(firsts: Sequence[int], gap: int) -> list[list[int]]:
    """First frames of triplets, ascending, in runs that are worth reading without a jump."""
    runs: list[list[int]] = []
    for first in firsts:
        if runs and first - (runs[-1][-1] + 3) <= gap:
            runs[-1].append(first)
        else:
            runs.append([first])
    return runs


def _jump_cuts(opened: Sequence[_Opened], settings: PatchSettings) -> dict[str, list[int]]:
    """The cuts of every sequence of the datasets, also of those that are not sampled."""
    return {
        name: cuts_among(dataset.cuts.of(name), settings.cut_threshold)
        for dataset in reversed(opened)
        for name in dataset.cuts.sequences()
    }


def _origin(frames: Path) -> str:
    """Where a dataset comes from: its `DatasetSettings.source`."""
    if not (frames / MANIFEST).is_file():
        return "folder"
    settings = read_manifest(frames, "frames", FRAMES_VERSION)["settings"]
    return str(settings["source"])
