"""The cuts stage: what changes between neighbouring frames of a dataset, and where cuts lie."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.cluster import connect
from pipeline.errors import MidframeError
from pipeline.frames.losses import Loss, list_once, merge, read_remaining, runs
from pipeline.frames.sequences import FrameSequence, open_frames
from pipeline.progress import progress
from pipeline.provenance import MANIFEST, publish, read_manifest, write_manifest
from pipeline.reading import reading
from pipeline.selection.flow_cuts import cut_scores
from pipeline.selection.frame_changes import Bars, TripletChanges, repeat_ratio
from pipeline.selection.jump_cuts import cuts_among
from pipeline.selection.measures import COLUMNS, HISTOGRAMS, FrameMeter, kept_measures
from pipeline.settings import CutSettings, PatchSettings

KIND = "cuts"
FORMAT_VERSION = 3
DISTANCES = "distances.parquet"
MEASURE_AGAIN = "measure the cuts again"
SCHEMA = pa.schema(
    [("sequence", pa.string()), ("frame", pa.int64()), *((name, pa.float32()) for name in COLUMNS)]
)
# Rows that are written, and read, at once.
ROW_GROUP = 2**14
ROW_BYTES = 4 * len(COLUMNS)


def _sequence_changes(
    sequence: FrameSequence, settings: CutSettings
) -> tuple[NDArray[np.float32], list[Loss]]:
    measured = kept_measures(sequence, settings)
    losses: list[Loss] = []
    if measured is not None:
        measures = measured.table(settings)
    else:
        # Unknown (NaN) beside a bad frame, where there is no triplet.
        measures = np.full((sequence.frame_count - 1, len(COLUMNS)), np.nan, np.float32)
        for first, frames in runs(read_remaining(sequence, 0, None, losses)):
            meter = FrameMeter(settings.bins, settings.method == "flow")
            for frame in frames:
                meter.add(frame)
            rows = meter.measures().table(settings)
            measures[first : first + len(rows)] = rows
    return measures, losses


def measure(
    frames: Path,
    out: Path,
    settings: CutSettings,
    workers: int | None = None,
    scheduler: str | None = None,
) -> None:
    """Publish what changes between all neighbouring pairs of frames of a dataset.

    ``distances.parquet`` has a row for frames ``frame`` and ``frame + 1`` of ``sequence``: the mean
    squared difference of their ``red``, ``green`` and ``blue`` histograms, and the columns of
    `pipeline.selection.frame_changes.frame_changes`; NaN if one of the frames is bad. Sequences
    that were measured when the dataset was made are not decoded again.
    """
    sequences = open_frames(frames)
    names, ends = _places(sequences)
    losses: list[Loss] = []
    with publish(out) as folder, connect(workers, scheduler) as cluster:
        # Measures arrive in any order, and those of a large corpus are not kept in memory.
        with open(folder / f"{DISTANCES}.partial", "w+b") as rows:
            for sequence, (measures, lost) in progress(
                cluster.map(partial(_sequence_changes, settings=settings), sequences),
                len(sequences),
                "histograms",
                "sequences",
            ):
                losses += lost
                end = int(ends[bisect_left(names, sequence.name)])
                rows.seek(ROW_BYTES * (end - len(measures)))
                rows.write(np.ascontiguousarray(measures, np.float32).data)
            _write_table(rows, folder / DISTANCES, names, ends)
        (folder / f"{DISTANCES}.partial").unlink()
        losses = merge(losses)
        list_once(losses, sequences)
        write_manifest(
            folder,
            KIND,
            FORMAT_VERSION,
            settings,
            {"frames": frames},
            pairs=int(ends[-1]),
            skipped=[loss.entry() for loss in losses],
        )


def _places(sequences: Iterable[FrameSequence]) -> tuple[list[str], NDArray[np.int64]]:
    """Names of sequences, sorted, and where the rows of each end in the table."""
    lengths = sorted((sequence.name, sequence.frame_count - 1) for sequence in sequences)
    return [name for name, _ in lengths], np.cumsum([pairs for _, pairs in lengths])


def _write_table(rows: BinaryIO, file: Path, names: Sequence[str], ends: NDArray[np.int64]) -> None:
    """Write the measures of all sequences, which lie in ``rows`` in their order, as one table."""
    starts = np.append(0, ends[:-1])
    rows.seek(0)
    with pq.ParquetWriter(file, SCHEMA) as writer:
        for first in range(0, int(ends[-1]), ROW_GROUP):
            stop = min(first + ROW_GROUP, int(ends[-1]))
            data = np.frombuffer(rows.read(ROW_BYTES * (stop - first)), np.float32)
            columns = data.reshape(-1, len(COLUMNS)).T
            places = np.arange(first, stop)
            owners = np.searchsorted(ends, places, side="right")
            owned = names[owners[0] : owners[-1] + 1]
            sequence = pa.array(owned, pa.string()).take(pa.array(owners - owners[0]))
            frame = pa.array(places - starts[owners])
            writer.write_table(
                pa.table([sequence, frame, *map(pa.array, map(np.array, columns))], schema=SCHEMA)
            )


class CutDistances:
    """Read access to a cuts directory, a part of the table at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path, KIND, FORMAT_VERSION)
        with reading(path / MANIFEST, MEASURE_AGAIN):
            self.method = str(self.manifest["settings"]["method"])
        with reading(path / DISTANCES, MEASURE_AGAIN):
            self._file = pq.ParquetFile(path / DISTANCES)
            groups = (self._file.metadata.row_group(at) for at in range(self._file.num_row_groups))
            self._group_ends = np.cumsum([group.num_rows for group in groups], dtype=np.int64)
            self._names: list[str] = []
            starts: list[int] = []
            place = 0
            for batch in self._file.iter_batches(ROW_GROUP, columns=["sequence"]):
                names = batch["sequence"].to_numpy(zero_copy_only=False)
                changes = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1)]
                for at in changes:
                    if not self._names or names[at] != self._names[-1]:
                        self._names.append(str(names[at]))
                        starts.append(place + int(at))
                place += len(names)
        self._bounds = np.array([*starts, place], np.int64)
        self._read = (-1, np.empty((0, len(COLUMNS)), np.float32))

    def sequences(self) -> list[str]:
        """Names of the sequences, sorted."""
        return self._names

    def _measures(self, sequence: str) -> NDArray[np.float32]:
        number = bisect_left(self._names, sequence)
        if self._names[number : number + 1] != [sequence]:
            raise MidframeError(
                f"{self.path}: holds no distances of sequence '{sequence}'; was it made from other "
                "frames?"
            )
        first, stop = (int(bound) for bound in self._bounds[number : number + 2])
        parts = []
        while first < stop:
            group = int(np.searchsorted(self._group_ends, first, side="right"))
            end = int(self._group_ends[group])
            rows = self._row_group(group)
            start = end - len(rows)
            parts.append(rows[first - start : stop - start])
            first = min(stop, end)
        return np.concatenate(parts)

    def _row_group(self, group: int) -> NDArray[np.float32]:
        if self._read[0] != group:
            with reading(self.path / DISTANCES, MEASURE_AGAIN):
                table = self._file.read_row_group(group, columns=list(COLUMNS))
                columns = [table[name].to_numpy() for name in COLUMNS]
                self._read = group, np.stack(columns, axis=1)
        return self._read[1]

    def of(self, sequence: str) -> np.ndarray:
        """Histogram distances of a sequence's neighbouring frames, float32 ``[frames - 1, 3]``.

        Raises
        ------
        MidframeError
            if the directory does not hold the sequence.
        """
        return self._measures(sequence)[:, : len(HISTOGRAMS)]

    def flow_scores(self, sequence: str) -> np.ndarray:
        """Scores by `cut_scores`, float32 ``[frames - 1]``; NaN if residuals were not measured."""
        measures = self._measures(sequence)
        return cut_scores(
            measures[:, COLUMNS.index("residual")], measures[:, COLUMNS.index("difference")]
        )

    def cuts(self, sequence: str, settings: PatchSettings) -> list[int]:
        """Indices ``i``, sorted, such that a cut lies between ``i`` and ``i + 1``.

        By the method with which cuts were measured, and the threshold of that method.
        """
        if self.method == "flow":
            above = self.flow_scores(sequence) > settings.flow_cut_threshold
            return [int(index) for index in np.flatnonzero(above)]
        return cuts_among(self.of(sequence), settings.cut_threshold)

    def of_triplets(self, sequence: str, first_frames: Iterable[int]) -> list[TripletChanges]:
        """What changes inside triplets of a sequence that start at ``first_frames``."""
        measures, scores = self._measures(sequence), self.flow_scores(sequence)
        column = {name: measures[:, index] for index, name in enumerate(COLUMNS)}
        bars = [column[name] for name in ("bar_top", "bar_bottom", "bar_left", "bar_right")]
        found = []
        for first in first_frames:
            pairs = slice(first, first + 2)
            found.append(
                TripletChanges(
                    float(measures[pairs, : len(HISTOGRAMS)].max()),
                    float(np.fmax.reduce(scores[pairs])),
                    repeat_ratio(column["change"][pairs]),
                    float(np.abs(column["brightness"][pairs]).max()),
                    float(column["misfit"][first]),
                    Bars(*(int(side[pairs].min()) for side in bars)),
                )
            )
        return found
