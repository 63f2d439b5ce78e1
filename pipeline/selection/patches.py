"""The sampling stage: from motion and cuts to a patch directory.

First every triplet's windows are drawn and judged (`pipeline.selection.candidates`), which needs no
pixels; then the windows taken are cut out of their frames and written, a shard a task. What an
interrupted run has finished is taken up by the next one with the same settings and inputs.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.cluster import LARGE_TASKS_AHEAD, Cluster, connect
from pipeline.errors import MidframeError
from pipeline.frames.losses import Loss, list_once, load, merge, read_remaining, save
from pipeline.frames.sequences import FrameSequence
from pipeline.progress import notice, progress
from pipeline.provenance import digest, input_digest, read_manifest, write_manifest
from pipeline.resume import publish_resumable
from pipeline.selection import candidates
from pipeline.selection.candidates import Counts, Partitions
from pipeline.selection.judging import Reason
from pipeline.selection.published import describe
from pipeline.selection.triplets import (
    Choice,
    Chosen,
    Source,
    choose_sequences,
    jump_cuts,
    known_losses,
    open_sources,
    origin,
    require_apart,
    without_lost,
)
from pipeline.settings import PatchSettings
from pipeline.store import patch_store
from pipeline.store.flags import Window, read_excluded

# Frames between two triplets from which on reading starts again and does not continue: about what a
# seek in a video costs. Images can be opened one by one.
VIDEO_GAP = 100
# In an unpublished directory: the windows of each partition, and frames found to be lost.
PARTS, LOSSES = "parts", "losses.json"


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
    exclude: Sequence[Path] = (),
) -> None:
    """Choose windows of the datasets' triplets and publish them as a patch directory.

    If a frame cannot be read any more when its windows are cut out, and its dataset skips bad
    frames, the choice is made again without it.

    Parameters
    ----------
    sources : datasets; a sequence that several hold is taken from the first.
    out : the patch directory, replaced as a whole.
    settings : which triplets, which windows, how they are accepted.
    workers, scheduler : see `pipeline.cluster.connect`.
    apart_from : patch directories with which no frame may be shared (training and validation).
    exclude : files of flags (see `pipeline.store.flags`); windows marked bad are skipped, and all
        others are chosen as without.

    Raises
    ------
    MidframeError
        if motion or cuts belong to other frames, frames are smaller than a patch (unless they are
        to be skipped), a frame is in one of ``apart_from``, no window is taken at all, or the disk
        is full.
    """
    opened = open_sources(sources, settings)
    chosen, skipped, duplicates = choose_sequences(opened, settings)
    if apart_from:
        require_apart(Choice(chosen, settings), apart_from)
    inputs = {
        f"{index}/{name}": of_input
        for index, dataset in enumerate(opened)
        for name, of_input in (
            ("frames", dataset.frames_digest),
            ("motion", input_digest(dataset.source.motion)),
            ("cuts", input_digest(dataset.source.cuts)),
        )
    }
    excluded = read_excluded(exclude)
    if exclude:
        inputs["exclude"] = digest(sorted(excluded))
    identity = [patch_store.FORMAT_VERSION, settings.model_dump(mode="json"), inputs]
    with publish_resumable(out, identity) as folder, connect(workers, scheduler) as cluster:
        late = load(folder / LOSSES)
        while True:
            usable = without_lost(chosen, late)
            partitions = Choice(usable, settings).partitions()
            counts = _choose_windows(folder, partitions, settings, cluster, excluded)
            samples = counts.windows[Reason.TAKEN]
            sequences = {one.name: one for one in usable}
            found = _write_store(folder, samples, sequences, settings, cluster)
            if not found:
                break
            late = merge([*late, *found])
            _begin_again(folder, late)
        skipped += list_once([*known_losses(chosen), *late], (one.sequence() for one in chosen))
        (folder / LOSSES).unlink(missing_ok=True)
        write_manifest(
            folder,
            patch_store.KIND,
            patch_store.FORMAT_VERSION,
            settings,
            inputs,
            samples=samples,
            triplets=counts.triplets,
            windows=counts.by_name(),
            jump_cuts=jump_cuts(opened, settings),
            dataset_sources=[origin(source.frames) for source in sources],
            skipped=skipped,
            duplicates=duplicates,
            files=patch_store.small_files(folder),
        )
        notice(describe(read_manifest(folder, patch_store.KIND, patch_store.FORMAT_VERSION)))


def _begin_again(folder: Path, losses: list[Loss]) -> None:
    """Forget what was chosen and written, since other triplets take the place of those lost."""
    save(losses, folder / LOSSES)
    notice("sampling: begins again without the frames that cannot be read any more")
    (folder / patch_store.CANDIDATES).unlink(missing_ok=True)
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    shutil.rmtree(folder / patch_store.STORE, ignore_errors=True)


def _choose_windows(
    folder: Path,
    partitions: Partitions,
    settings: PatchSettings,
    cluster: Cluster,
    excluded: Set[Window],
) -> Counts:
    table, parts = folder / patch_store.CANDIDATES, folder / PARTS
    counts = candidates.judge(partitions, table, parts, settings, cluster, excluded)
    if not counts.windows.get(Reason.TAKEN):
        table.unlink()
        shutil.rmtree(parts)
        raise MidframeError(f"no window was taken; refused: {counts.by_name()}")
    return counts


def _write_store(
    folder: Path,
    samples: int,
    sequences: Mapping[str, Chosen],
    settings: PatchSettings,
    cluster: Cluster,
) -> list[Loss]:
    """Write the windows taken; shards that are there already are left as they are.

    Returns the frames that cannot be read any more; the store is whole if there are none.
    """
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
    losses: list[Loss] = []
    for _, lost in progress(
        cluster.map(_write_shard, shards, LARGE_TASKS_AHEAD),
        min(missing.count(True) * settings.shard_samples, samples),
        "patches",
        "patches",
        amount=lambda done: len(done[0].windows),
    ):
        losses += lost
    if not losses:
        shutil.rmtree(folder / PARTS)
        patch_store.remove_unfinished(store)
    return losses


def _shards(
    store: Path,
    table: Path,
    sequences: Mapping[str, Chosen],
    settings: PatchSettings,
    missing: Sequence[bool],
) -> Iterator[_Shard]:
    for shard, rows in enumerate(candidates.read_taken(table, settings.shard_samples)):
        if not missing[shard]:
            continue
        opened = {name: sequences[name].sequence() for name in rows["sequence"].unique()}
        windows = tuple(
            (opened[name], int(frame), int(top), int(left))
            for name, frame, top, left in zip(
                rows["sequence"], rows["first_frame"], rows["top"], rows["left"], strict=True
            )
        )
        yield _Shard(store, shard * settings.shard_samples, settings.patch_size, windows)


def _write_shard(shard: _Shard) -> list[Loss]:
    """Cut the windows of one shard out of their frames, and write them if no frame is lost."""
    losses: list[Loss] = []
    size = shard.patch_size
    triplets = np.empty((len(shard.windows), 3, size, size, 3), np.uint8)
    of_triplet: dict[tuple[FrameSequence, int], list[tuple[int, int, int]]] = {}
    for position, (sequence, first, top, left) in enumerate(shard.windows):
        of_triplet.setdefault((sequence, first), []).append((position, top, left))
    for sequence in dict.fromkeys(sequence for sequence, _ in of_triplet):
        firsts = [first for owner, first in of_triplet if owner == sequence]
        for run in runs_of(firsts, 0 if sequence.path.is_dir() else VIDEO_GAP):
            for index, frame in read_remaining(sequence, run[0], run[-1] + 3, losses):
                for offset in range(3):
                    for position, top, left in of_triplet.get((sequence, index - offset), ()):
                        patch = frame[top : top + size, left : left + size]
                        triplets[position, offset] = patch
    if not losses:
        patch_store.write_shard(shard.store, shard.first_sample, triplets)
    return losses


def runs_of(firsts: Sequence[int], gap: int) -> list[list[int]]:
    """First frames of triplets, ascending, in runs that are worth reading without a jump."""
    runs: list[list[int]] = []
    for first in firsts:
        if runs and first - (runs[-1][-1] + 3) <= gap:
            runs[-1].append(first)
        else:
            runs.append([first])
    return runs
