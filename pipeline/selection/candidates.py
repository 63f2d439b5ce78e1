"""Every window that is tried, from the motion of each triplet to one table.

Triplets are judged a partition at a time, each a task that writes a file of its own; the files are
then joined in order, one after the other. So neither the number of workers nor an interruption
changes a byte, and no process holds more than a partition.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.cluster import Cluster
from pipeline.progress import progress
from pipeline.provenance import MANIFEST
from pipeline.selection.frame_changes import TripletChanges
from pipeline.selection.judging import Reason, lot_limit
from pipeline.selection.sampling import Candidate, sample_triplet
from pipeline.selection.window_motion import WindowMotion
from pipeline.settings import PatchSettings
from pipeline.store.flags import Window
from pipeline.store.motion_store import MotionStore
from pipeline.store.patch_store import COORDINATES

# Triplets in one partition, of one sequence or of several short ones: a second of work or so.
PARTITION_TRIPLETS = 32
# Rows of the table in one group, at least; and tables that are held before they become one.
ROW_GROUP, MOST_WAITING = 2**14, 16

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
# What a store takes of the table; and rows that are read of it at once.
OF_SAMPLES = [*(name for name in COORDINATES if name in SCHEMA.names), "sample"]
ROWS_READ = 2**12


@dataclass(frozen=True)
class Piece:
    """Triplets of one sequence. A partition, which one task judges, consists of some of these.

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
class Partitions:
    """All partitions, each made when it is needed.

    Attributes
    ----------
    sequences : name of the first sequence in each, ascending.
    sizes : triplets in each.
    make : the partition of a number.
    """

    sequences: Sequence[str]
    sizes: NDArray[np.int64]
    make: Callable[[int], tuple[Piece, ...]]

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True)
class Counts:
    """How many triplets were judged, and how many windows had each outcome."""

    triplets: int
    windows: dict[Reason, int]

    def by_name(self) -> dict[str, int]:
        """Windows by outcome, as JSON values."""
        return {reason.value: self.windows.get(reason, 0) for reason in Reason}


def judge(
    partitions: Partitions,
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
    missing = [at for at in range(len(partitions)) if not _part(parts, at).exists()]
    for _ in progress(
        cluster.map(
            _judge_partition, ((partitions.make(at), _part(parts, at), settings) for at in missing)
        ),
        int(partitions.sizes[missing].sum()),
        "sampling",
        "triplets",
        amount=lambda done: sum(len(piece.rows) for piece in done[0][0]),
    ):
        pass
    return _join(partitions, table, parts, settings.max_per_sequence, excluded)


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:06d}.parquet"


@lru_cache(maxsize=2)
def _open_motion(path: Path, modified: int) -> MotionStore:
    """Remembered, since the tasks that read a store are many."""
    return MotionStore(path)


def _judge_partition(task: tuple[tuple[Piece, ...], Path, PatchSettings]) -> None:
    pieces, file, settings = task
    candidates = [candidate for piece in pieces for candidate in _judge(piece, settings)]
    rows = pa.Table.from_pylist([asdict(candidate) for candidate in candidates], SCHEMA)
    unfinished = file.with_suffix(f".{os.getpid()}")
    pq.write_table(rows, unfinished)
    os.replace(unfinished, file)


def _judge(piece: Piece, settings: PatchSettings) -> Iterator[Candidate]:
    manifest = piece.motion / MANIFEST
    motion = _open_motion(piece.motion, manifest.stat().st_mtime_ns if manifest.exists() else 0)
    for row, first_frame, changes in zip(
        piece.rows, piece.first_frames, piece.changes, strict=True
    ):
        windows = WindowMotion(motion.flow(piece.sequence, row))
        yield from sample_triplet(
            (piece.sequence, first_frame),
            piece.frame_size,
            partial(windows.score, size=settings.patch_size, statistic=settings.statistic),
            changes,
            settings,
        )


def _join(
    partitions: Partitions, table: Path, parts: Path, cap: int | None, excluded: Set[Window]
) -> Counts:
    """Put the partitions' files into one, number the samples, and count."""
    windows: Counter[Reason] = Counter()
    samples = 0
    limit_of, limit = None, 0.0
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(table, WHOLE_SCHEMA) as writer:
        for number in range(len(partitions)):
            rows = pq.ParquetFile(_part(parts, number)).read().to_pandas()
            taken = (rows["reason"] == Reason.TAKEN).to_numpy()
            if cap is not None:
                kept, lots = taken.copy(), rows["lot"].to_numpy()
                for sequence in rows["sequence"].unique():
                    here = (rows["sequence"] == sequence).to_numpy()
                    if sequence != limit_of:
                        later = _later_lots(partitions, parts, number, sequence)
                        limit = lot_limit(np.concatenate([lots[here & taken], *later]), cap)
                        limit_of = sequence
                    kept &= ~here | (lots < limit)
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
            waiting.append(pa.Table.from_pandas(rows, WHOLE_SCHEMA, preserve_index=False))
            # What Parquet keeps of a group of rows is more than a partition's rows take; so is what
            # Arrow keeps of a table.
            if len(waiting) >= MOST_WAITING or number == len(partitions) - 1:
                waiting = [pa.concat_tables(waiting).combine_chunks()]
                if len(waiting[0]) >= ROW_GROUP or number == len(partitions) - 1:
                    writer.write_table(waiting.pop())
    return Counts(int(partitions.sizes.sum()), dict(windows))


def _later_lots(
    partitions: Partitions, parts: Path, number: int, sequence: str
) -> Iterator[NDArray[np.float64]]:
    """Lots of the windows taken from a sequence in the partitions after one that holds it."""
    taken = [("reason", "=", Reason.TAKEN.value), ("sequence", "=", sequence)]
    for later in range(number + 1, len(partitions)):
        if partitions.sequences[later] != sequence:
            return
        table = pq.read_table(_part(parts, later), columns=["lot"], filters=taken)
        yield table["lot"].to_numpy()


def read_taken(table: Path, count: int) -> Iterator[pd.DataFrame]:
    """`OF_SAMPLES` of the windows taken, in order, ``count`` at a time (the last time fewer)."""
    waiting: list[pd.DataFrame] = []
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(ROWS_READ, columns=OF_SAMPLES):
            rows = batch.to_pandas()
            waiting.append(rows[rows["sample"] >= 0])
            while sum(map(len, waiting)) >= count:
                together = pd.concat(waiting, ignore_index=True)
                yield together[:count]
                waiting = [together[count:]]
    if sum(map(len, waiting)):
        yield pd.concat(waiting, ignore_index=True)
