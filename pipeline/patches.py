"""The sampling stage: from motion and cuts to a patch directory.

First every triplet's windows are drawn and judged (`pipeline.sampling`), which needs no pixels;
then the windows taken are cut out of their frames, a shard a task, and written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import patch_store
from pipeline.cluster import connect
from pipeline.cuts import CutDistances
from pipeline.errors import MidframeError
from pipeline.frames import FORMAT_VERSION as FRAMES_VERSION
from pipeline.frames import FrameSequence, left_out, open_frames, select, triplet_starts
from pipeline.jump_cuts import cuts_among
from pipeline.motion_store import MotionStore
from pipeline.progress import notice, progress
from pipeline.provenance import (
    MANIFEST,
    input_digest,
    publish,
    read_manifest,
    write_manifest,
)
from pipeline.sampling import Candidate, Reason, Triplet, draw_triplets, sample_triplet
from pipeline.settings import PatchSettings
from pipeline.window_motion import WindowMotion


@dataclass(frozen=True)
class Source:
    """A dataset with its motion and cuts directories."""

    frames: Path
    motion: Path
    cuts: Path


Opened = dict[Source, tuple[MotionStore, CutDistances]]


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
) -> None:
    """Choose windows of the datasets' triplets and publish them as a patch directory.

    Parameters
    ----------
    sources : datasets; a sequence that several hold is taken from the first.
    out : the patch directory, replaced as a whole.
    settings : which triplets, which windows, how they are accepted.
    workers, scheduler : see `pipeline.cluster.connect`.

    Raises
    ------
    MidframeError
        if motion or cuts belong to other frames, frames are smaller than a patch (unless they are
        to be skipped), or no window is taken at all.
    """
    opened = {source: _open(source) for source in sources}
    chosen, skipped = _choose_sequences(sources, settings)
    candidates = pd.DataFrame(
        [asdict(candidate) for candidate in _candidates(chosen, opened, settings)],
        columns=list(Candidate.__dataclass_fields__),
    )
    candidates["reason"] = candidates["reason"].astype(str)
    taken = candidates["reason"] == Reason.TAKEN
    if not taken.any():
        raise MidframeError(f"no window was taken; refused: {_count_reasons(candidates)}")
    candidates["sample"] = np.where(taken, taken.cumsum() - 1, -1)
    table = candidates[taken].reset_index(drop=True).assign(split=settings.split)
    sequences = {sequence.name: sequence for sequence, _ in chosen}
    with publish(out) as folder:
        candidates.to_parquet(folder / patch_store.CANDIDATES, index=False)
        store = folder / patch_store.STORE
        patch_store.create(store, table, settings.patch_size, settings.shard_samples)
        with connect(workers, scheduler) as cluster:
            for _ in progress(
                cluster.map(_write_shard, _shards(store, table, sequences, settings)),
                len(table),
                "patches",
                "patches",
                amount=lambda done: len(done[0].windows),
            ):
                pass
        write_manifest(
            folder,
            patch_store.KIND,
            patch_store.FORMAT_VERSION,
            settings,
            {
                f"{index}/{name}": getattr(source, name)
                for index, source in enumerate(sources)
                for name in ("frames", "motion", "cuts")
            },
            samples=len(table),
            triplets=int(candidates.groupby(["sequence", "first_frame"]).ngroups),
            windows=_count_reasons(candidates),
            jump_cuts=_jump_cuts(opened, settings),
            dataset_sources=[_origin(source.frames) for source in sources],
            skipped=skipped,
        )


def _count_reasons(candidates: pd.DataFrame) -> dict[str, int]:
    counts = candidates["reason"].value_counts()
    return {reason.value: int(counts.get(reason.value, 0)) for reason in Reason}


def _jump_cuts(opened: Opened, settings: PatchSettings) -> dict[str, list[int]]:
    """The cuts of every sequence of the datasets, also of those that are not sampled."""
    return {
        name: cuts_among(cuts.of(name), settings.cut_threshold)
        for _, cuts in opened.values()
        for name in cuts.sequences()
    }


def _origin(frames: Path) -> str:
    """Where a dataset comes from: its `DatasetSettings.source`."""
    if not (frames / MANIFEST).is_file():
        return "folder"
    settings = read_manifest(frames, "frames", FRAMES_VERSION)["settings"]
    return str(settings["source"])


def _choose_sequences(
    sources: Sequence[Source], settings: PatchSettings
) -> tuple[list[tuple[FrameSequence, Source]], list[dict[str, Any]]]:
    """The sequences to sample with their sources, sorted, and what is left out with the reason."""
    found: dict[str, tuple[FrameSequence, Source]] = {}
    for source in sources:
        for sequence in open_frames(source.frames):
            found.setdefault(sequence.name, (sequence, source))
    chosen: list[tuple[FrameSequence, Source]] = []
    skipped = [entry for source in sources for entry in left_out(source.frames)]
    for sequence in select([sequence for sequence, _ in found.values()], settings.sequences):
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
    return sorted(chosen, key=lambda pair: pair[0].name), skipped


def _open(source: Source) -> tuple[MotionStore, CutDistances]:
    """Open a dataset's motion and cuts, and check that they are of its frames."""
    motion, cuts = MotionStore(source.motion), CutDistances(source.cuts)
    expected = input_digest(source.frames)
    for found in (motion, cuts):
        if found.manifest["inputs"]["frames"] != expected:
            raise MidframeError(
                f"{found.path}: was made from other frames than {source.frames}; build it again"
            )
    return motion, cuts


def _candidates(
    chosen: Sequence[tuple[FrameSequence, Source]], opened: Opened, settings: PatchSettings
) -> Iterator[Candidate]:
    """Judge the windows of every triplet, in the order of sequences and frames."""
    rows: dict[Triplet, int] = {}
    for sequence, source in chosen:
        motion, _ = opened[source]
        within = set(triplet_starts(sequence, 1, settings.part))
        for row, first_frame in enumerate(motion.first_frames(sequence.name)):
            if first_frame in within:
                rows[sequence.name, first_frame] = row
    drawn = draw_triplets(rows, settings.count, settings.seed)
    of_name = {sequence.name: (sequence, source) for sequence, source in chosen}
    for triplet in progress(drawn, len(drawn), "sampling", "triplets"):
        name, first_frame = triplet
        sequence, source = of_name[name]
        motion, cuts = opened[source]
        windows = WindowMotion(motion.flow(name, rows[triplet]))
        yield from sample_triplet(
            triplet,
            (sequence.height, sequence.width),
            partial(windows.score, size=settings.patch_size, statistic=settings.statistic),
            cuts.of_triplet(name, first_frame),
            settings,
        )


def _shards(
    store: Path,
    table: pd.DataFrame,
    sequences: dict[str, FrameSequence],
    settings: PatchSettings,
) -> Iterator[_Shard]:
    for first in range(0, len(table), settings.shard_samples):
        rows = table.iloc[first : first + settings.shard_samples]
        windows = tuple(
            (sequences[name], int(frame), int(top), int(left))
            for name, frame, top, left in zip(
                rows["sequence"], rows["first_frame"], rows["top"], rows["left"], strict=True
            )
        )
        yield _Shard(store, first, settings.patch_size, windows)


def _write_shard(shard: _Shard) -> None:
    """Cut the windows of one shard out of their frames and write them."""
    size = shard.patch_size
    triplets = np.empty((len(shard.windows), 3, size, size, 3), np.uint8)
    for sequence in dict.fromkeys(window[0] for window in shard.windows):
        firsts = [window[1] for window in shard.windows if window[0] == sequence]
        for index, frame in sequence.read_good(min(firsts), max(firsts) + 3):
            for position, (owner, first, top, left) in enumerate(shard.windows):
                if owner == sequence and 0 <= index - first < 3:
                    patch = frame[top : top + size, left : left + size]
                    triplets[position, index - first] = patch
    patch_store.write_shard(shard.store, shard.first_sample, triplets)
