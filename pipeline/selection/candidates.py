"""Every window that is tried, from the motion of each triplet to one table.

Triplets are judged a partition at a time, each a task that writes a file of its own; the files are
then joined in order, one after the other. So neither the number of workers nor an interruption
changes a byte, and no process holds more than a partition.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cluster import Cluster
from pipeline.progress import progress
from pipeline.selection.frame_changes import TripletChanges
from pipeline.selection.judging import Reason, lot_limit
from pipeline.selection.sampling import Candidate, sample_triplet
from pipeline.selection.window_motion import WindowMotion
from pipeline.settings import PatchSettings
from pipeline.store.flags import Window
from pipeline.store.motion_store import MotionStore

# Triplets in one partition: a second of work or so.
PARTITION_TRIPLETS = 32

SCHEMA = pa.schema(
    {
        "sequence": pa.string(),
        "first_frame": pa.int64(),
        "attempt": pa.int64(),
        "top": pa.int64(),
        "left": pa.int64(),
        "motion": pa.float64(),
        "cut_distance": pa.float64(),
        "flow_cut": pa.float64(),
        "repeat": pa.float64(),
        "brightness_change": pa.float64(),
        "misfit": pa.float64(),
        "black_share": pa.float64(),
        "draw": pa.float64(),
        "lot": pa.float64(),
        "reason": pa.string(),
    }
)
# In the whole table also each window's place in the store, or -1.
WHOLE_SCHEMA = SCHEMA.append(pa.field("sample", pa.int64()))


@dataclass(frozen=True)
class Partition:
    """Triplets of one sequence that one task judges.

    Attributes
    ----------
    motion : the motion directory.
    sequence, frame_size : name; height and width of the frames in pixels.
    rows : of the motion store, one for each triplet.
    first_frames, changes : of the triplets.
    """

    motion: Path
    sequence: str
    frame_size: tuple[int, int]
    rows: tuple[int, ...]
    first_frames: tuple[int, ...]
    changes: tuple[TripletChanges, ...]


@dataclass(frozen=True)
class Counts:
    """How many triplets were judged, and how many windows had each outcome."""

    triplets: int
    windows: dict[Reason, int]

    def by_name(self) -> dict[str, int]:
        """Windows by outcome, as JSON values."""
        return {reason.value: self.windows.get(reason, 0) for reason in Reason}


def judge(
    partitions: Sequence[Partition],
    table: Path,
    parts: Path,
    settings: PatchSettings,
    cluster: Cluster,
    excluded: Set[Window] = frozenset(),
) -> Counts:
    """Judge the windows of all partitions and write them to one Parquet file.

    Parameters
    ----------
    partitions : sorted by sequence and first frame, as the rows of the table will be.
    table : the file to write.
    parts : folder for one file a partition. Those that are there already are taken as they are.
    settings : how windows are drawn and accepted.
    cluster : where the partitions are judged.
    excluded : windows that are refused at the end. No other one takes their place, so that all
        others are as they would be without.
    """
    parts.mkdir(exist_ok=True)
    files = [parts / f"{number:06d}.parquet" for number in range(len(partitions))]
    missing = [
        (partition, file, settings)
        for partition, file in zip(partitions, files, strict=True)
        if not file.exists()
    ]
    for _ in progress(
        cluster.map(_judge_partition, missing),
        sum(len(partition.rows) for partition, _, _ in missing),
        "sampling",
        "triplets",
        amount=lambda done: len(done[0][0].rows),
    ):
        pass
    return _join(partitions, files, table, settings.max_per_sequence, excluded)


def _judge_partition(task: tuple[Partition, Path, PatchSettings]) -> None:
    partition, file, settings = task
    motion = MotionStore(partition.motion)
    candidates: list[Candidate] = []
    for row, first_frame, changes in zip(
        partition.rows, partition.first_frames, partition.changes, strict=True
    ):
        windows = WindowMotion(motion.flow(partition.sequence, row))
        candidates += sample_triplet(
            (partition.sequence, first_frame),
            partition.frame_size,
            partial(windows.score, size=settings.patch_size, statistic=settings.statistic),
            changes,
            settings,
        )
    rows = pa.Table.from_pylist([asdict(candidate) for candidate in candidates], SCHEMA)
    unfinished = file.with_suffix(f".{os.getpid()}")
    pq.write_table(rows, unfinished)
    os.replace(unfinished, file)


def _join(
    partitions: Sequence[Partition],
    files: Sequence[Path],
    table: Path,
    cap: int | None,
    excluded: Set[Window],
) -> Counts:
    """Put the partitions' files into one, number the samples, and count."""
    windows: Counter[Reason] = Counter()
    samples = 0
    limits: dict[str, float] = {}
    with pq.ParquetWriter(table, WHOLE_SCHEMA) as writer:
        for partition, file in zip(partitions, files, strict=True):
            rows = pq.read_table(file, schema=SCHEMA).to_pandas()
            taken = (rows["reason"] == Reason.TAKEN).to_numpy()
            if cap is not None:
                if partition.sequence not in limits:
                    # The limit of one sequence at a time: they come one after the other.
                    limits = {partition.sequence: _limit(partition, partitions, files, cap)}
                kept = taken & (rows["lot"] < limits[partition.sequence]).to_numpy()
                rows.loc[taken & ~kept, "reason"] = Reason.ENOUGH_OF_SEQUENCE.value
                taken = kept
            if excluded:
                places = zip(
                    *(rows[name] for name in ("sequence", "first_frame", "top", "left")),
                    strict=True,
                )
                kept = taken & ~np.array([place in excluded for place in places], bool)
                rows.loc[taken & ~kept, "reason"] = Reason.EXCLUDED.value
                taken = kept
            rows["sample"] = np.where(taken, samples + taken.cumsum() - 1, -1)
            samples += int(taken.sum())
            counts = rows["reason"].value_counts()
            windows.update({Reason(str(name)): int(count) for name, count in counts.items()})
            writer.write_table(pa.Table.from_pandas(rows, WHOLE_SCHEMA, preserve_index=False))
    return Counts(sum(len(partition.rows) for partition in partitions), dict(windows))


def _limit(
    of: Partition, partitions: Sequence[Partition], files: Sequence[Path], cap: int
) -> float:
    """Below which lot windows of a sequence are kept."""
    lots = [
        pq.read_table(file, columns=["lot"], filters=[("reason", "=", Reason.TAKEN.value)])
        for partition, file in zip(partitions, files, strict=True)
        if partition.sequence == of.sequence
    ]
    return lot_limit(pa.concat_tables(lots)["lot"].to_numpy(), cap)


def read_taken(table: Path, count: int) -> Iterator[pd.DataFrame]:
    """The rows of the windows taken, in order, ``count`` at a time (the last time fewer)."""
    waiting: list[pd.DataFrame] = []
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches():
            rows = batch.to_pandas()
            waiting.append(rows[rows["sample"] >= 0])
            while sum(map(len, waiting)) >= count:
                together = pd.concat(waiting, ignore_index=True)
                yield together[:count]
                waiting = [together[count:]]
    if sum(map(len, waiting)):
        yield pd.concat(waiting, ignore_index=True)
