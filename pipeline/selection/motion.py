"""The motion stage: the optical flow between the first and third frame of every triplet.

The flow is computed once and stored; the motion of any window, of any size and under either
statistic, is then a matter of four look-ups in a summed-area table
(`pipeline.selection.window_motion`). The motion store therefore depends on the frames and the
flow's settings, never on how patches are sampled.
"""

import shutil
import socket
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.cluster import LARGE_TASKS_AHEAD, connect
from pipeline.errors import MidframeError
from pipeline.flow.optical_flow import Flow, compute_flow
from pipeline.frames.losses import Loss, list_once, load, merge, read_remaining, save
from pipeline.frames.sequences import Frame, FrameSequence, open_frames, triplet_starts
from pipeline.progress import notice, progress
from pipeline.provenance import input_digest, write_manifest
from pipeline.resume import publish_resumable
from pipeline.settings import MotionSettings
from pipeline.store import motion_store

# Pixels of the first frames in one partition, that is, in one task and one shard: some ten seconds
# of SimpleFlow, 100 MB of flow, and what is lost when a worker dies.
PARTITION_PIXELS = 12_000_000
# And no more triplets than this, for each may be of another file, which the task names.
PARTITION_TRIPLETS = 512
# Folder of an unpublished store: the frames that could not be read any more.
LOSSES = "losses"


@dataclass(frozen=True)
class Partition:
    """Triplets of one frame size: what one task computes and one shard holds.

    Attributes
    ----------
    folder : motion directory, as yet unpublished.
    size : height and width of the frames.
    shard : number of the shard.
    rows : rows of the array, a triplet each.
    pieces : sequences, each with the first frames of its triplets, in the order of the rows.
    """

    folder: Path
    size: tuple[int, int]
    shard: int
    rows: range
    pieces: tuple[tuple[FrameSequence, tuple[int, ...]], ...]
    settings: MotionSettings

    @property
    def file(self) -> Path:
        """The shard; it is there when the partition is done."""
        return motion_store.shard_file(self.folder, *self.size, self.shard)

    @property
    def losses(self) -> Path:
        """What could not be read any more, if there is such a file."""
        return _losses_file(self.folder, self.size, self.shard)

    def __str__(self) -> str:
        return "motion of " + ", ".join(
            f"{sequence.name} (frames {firsts[0]} to {firsts[-1] + 2})"
            for sequence, firsts in self.pieces
        )


def score(
    frames: Path,
    out: Path,
    settings: MotionSettings,
    workers: int | None = None,
    scheduler: str | None = None,
) -> None:
    """Compute the flow of every triplet of a dataset and publish it as a motion store.

    What an earlier run with the same frames and settings has finished is not computed again, and
    the result is the same to the byte.

    Parameters
    ----------
    frames : a dataset directory, or a folder of videos and image folders.
    out : the motion directory, replaced as a whole.
    settings : stride of the triplets and parameters of the flow.
    workers, scheduler : see `pipeline.cluster.connect`.

    Raises
    ------
    MidframeError
        if frames cannot be read, the disk is full, or workers die again and again. What is done is
        kept for the next run.
    """
    sequences = open_frames(frames)
    triplets = list_triplets(sequences, settings)
    frames_digest = input_digest(frames)
    identity = [motion_store.FORMAT_VERSION, settings.model_dump(), frames_digest]
    with publish_resumable(out, identity) as folder:
        shard_triplets = {
            size: min(max(1, PARTITION_PIXELS // (size[0] * size[1])), PARTITION_TRIPLETS)
            for size in motion_store.by_size(triplets)
        }
        motion_store.create(folder, triplets, shard_triplets)
        shards = list(_shards(triplets, shard_triplets))
        missing = [
            one for one in shards if not motion_store.shard_file(folder, *one[0], one[1]).exists()
        ]
        # The largest first, so that all workers finish at about the same time.
        missing.sort(key=lambda one: len(one[2]) * one[0][0] * one[0][1], reverse=True)
        total = sum(len(rows) for _, _, rows in missing)
        if len(missing) < len(shards):
            notice(f"optical flow: {len(triplets) - total} of {len(triplets)} triplets are done")
        if missing:
            with connect(workers, scheduler) as cluster:
                for _ in progress(
                    cluster.map(
                        compute_partition,
                        _partitions(sequences, triplets, missing, folder, settings),
                        LARGE_TASKS_AHEAD,
                    ),
                    total,
                    "optical flow",
                    "triplets",
                    amount=lambda done: len(done[0].rows),
                ):
                    pass
        losses = merge(
            loss for size, shard, _ in shards for loss in load(_losses_file(folder, size, shard))
        )
        shutil.rmtree(folder / LOSSES, ignore_errors=True)
        list_once(losses, sequences)
        write_manifest(
            folder,
            motion_store.KIND,
            motion_store.FORMAT_VERSION,
            settings,
            {"frames": frames_digest},
            sequences=[sequence.name for sequence in sequences],
            triplets=len(triplets),
            skipped=[loss.entry() for loss in losses],
        )


def _losses_file(folder: Path, size: tuple[int, int], shard: int) -> Path:
    return folder / LOSSES / f"{motion_store.array_name(*size)}-{shard}.json"


def list_triplets(sequences: Iterable[FrameSequence], settings: MotionSettings) -> pd.DataFrame:
    """The triplets of sequences, in the order of the motion store."""
    names: list[str] = []
    first_frames, heights, widths = array("q"), array("q"), array("q")
    for sequence in sequences:
        firsts = triplet_starts(sequence, settings.stride)
        names += [sequence.name] * len(firsts)
        first_frames.extend(firsts)
        heights.extend([sequence.height] * len(firsts))
        widths.extend([sequence.width] * len(firsts))
    return pd.DataFrame(
        {
            "sequence": names,
            "first_frame": np.array(first_frames),
            "height": np.array(heights),
            "width": np.array(widths),
        }
    )


def _shards(
    triplets: pd.DataFrame, shard_triplets: dict[tuple[int, int], int]
) -> Iterator[tuple[tuple[int, int], int, range]]:
    """Size of the frames, number, and rows of the array, of each shard."""
    for size, rows in motion_store.by_size(triplets).items():
        step = shard_triplets[size]
        for shard, start in enumerate(range(0, len(rows), step)):
            yield size, shard, range(start, min(start + step, len(rows)))


def _partitions(
    sequences: Sequence[FrameSequence],
    triplets: pd.DataFrame,
    shards: Iterable[tuple[tuple[int, int], int, range]],
    folder: Path,
    settings: MotionSettings,
) -> Iterator[Partition]:
    number = {sequence.name: number for number, sequence in enumerate(sequences)}
    of_size = motion_store.by_size(triplets)
    for size, shard, rows in shards:
        pieces: dict[str, list[int]] = {}
        part = of_size[size].iloc[rows.start : rows.stop]
        for name, first in zip(part["sequence"], part["first_frame"].tolist(), strict=True):
            pieces.setdefault(name, []).append(first)
        yield Partition(
            folder,
            size,
            shard,
            rows,
            tuple((sequences[number[name]], tuple(first)) for name, first in pieces.items()),
            settings,
        )


def compute_partition(partition: Partition) -> None:
    """Compute the flow of a partition's triplets and write its shard.

    Raises
    ------
    MidframeError
        if this worker does not see the output folder, or a frame cannot be read.
    """
    if not partition.folder.is_dir():
        raise MidframeError(
            f"{partition.folder}: a worker on {socket.gethostname()} does not see this folder; "
            "workers need the same file system under the same paths"
        )
    motion_store.write_shard(
        partition.folder, partition.size, partition.rows, _flows_of_partition(partition)
    )


def _flows_of_partition(partition: Partition) -> Iterator[Flow]:
    losses: list[Loss] = []
    for sequence, first_frames in partition.pieces:
        yield from _flows(sequence, first_frames, partition.settings, losses)
    # Before the shard is there, which says that the partition is done.
    save(losses, partition.losses)


def _flows(
    sequence: FrameSequence,
    first_frames: tuple[int, ...],
    settings: MotionSettings,
    losses: list[Loss],
) -> Iterator[Flow]:
    """Flow of each triplet; frames are read once, in order, and kept until their triplet ends.

    That of a triplet whose frames cannot be read any more is unknown.
    """
    unknown = np.full((sequence.height, sequence.width, 2), np.nan, np.float32)
    waiting, starts = deque(first_frames), set(first_frames)
    kept: dict[int, Frame] = {}
    before = -1
    for index, frame in read_remaining(sequence, first_frames[0], first_frames[-1] + 3, losses):
        while waiting and index > waiting[0] + 2:
            kept.pop(waiting.popleft(), None)
            yield unknown
        if index in starts:
            kept[index] = frame
        if waiting and index == waiting[0] + 2:
            first = kept.pop(waiting.popleft(), None)
            yield (
                unknown
                if first is None or before < index - 1
                else compute_flow(first, frame, settings.method, **settings.parameters())
            )
        before = index
    yield from (unknown for _ in waiting)
