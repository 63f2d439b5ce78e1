"""The cuts stage: what changes between neighbouring frames of a dataset, and where cuts lie."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

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


def _sequence_changes(
    sequence: FrameSequence, settings: CutSettings
) -> tuple[pd.DataFrame, list[Loss]]:
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
    table = pd.DataFrame(measures, columns=list(COLUMNS))
    table.insert(0, "sequence", sequence.name)
    table.insert(1, "frame", np.arange(len(table)))
    return table, losses


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
    with publish(out) as folder, connect(workers, scheduler) as cluster:
        found = [
            result
            for _, result in progress(
                cluster.map(partial(_sequence_changes, settings=settings), sequences),
                len(sequences),
                "histograms",
                "sequences",
            )
        ]
        losses = merge(loss for _, of_sequence in found for loss in of_sequence)
        list_once(losses, sequences)
        distances = pd.concat([table for table, _ in found]).sort_values(
            ["sequence", "frame"], ignore_index=True
        )
        distances.to_parquet(folder / DISTANCES, index=False)
        write_manifest(
            folder,
            KIND,
            FORMAT_VERSION,
            settings,
            {"frames": frames},
            pairs=len(distances),
            skipped=[loss.entry() for loss in losses],
        )


class CutDistances:
    """Read access to a cuts directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path, KIND, FORMAT_VERSION)
        with reading(path / MANIFEST, "measure the cuts again"):
            self.method = str(self.manifest["settings"]["method"])
        with reading(path / DISTANCES, "measure the cuts again"):
            table = pd.read_parquet(path / DISTANCES)
            self._by_sequence = {
                str(name): rows[list(COLUMNS)].to_numpy(np.float32)
                for name, rows in table.groupby("sequence")
            }

    def sequences(self) -> list[str]:
        """Names of the sequences, sorted."""
        return sorted(self._by_sequence)

    def _measures(self, sequence: str) -> np.ndarray:
        if sequence not in self._by_sequence:
            raise MidframeError(
                f"{self.path}: holds no distances of sequence '{sequence}'; was it made from other "
                "frames?"
            )
        return self._by_sequence[sequence]

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
