"""The cuts stage: histogram distances of all neighbouring frames of a dataset."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.cluster import connect
from pipeline.errors import MidframeError
from pipeline.frames.sequences import FrameSequence, open_frames
from pipeline.progress import progress
from pipeline.provenance import publish, read_manifest, write_manifest
from pipeline.selection.jump_cuts import neighbour_distances
from pipeline.settings import CutSettings

KIND = "cuts"
FORMAT_VERSION = 1
DISTANCES = "distances.parquet"


def _sequence_distances(sequence: FrameSequence, bins: int) -> pd.DataFrame:
    # Unknown (NaN) beside a bad frame, where there is no triplet.
    distances = np.full((sequence.frame_count - 1, 3), np.nan, np.float32)
    for first, last in sequence.good_runs():
        distances[first : last - 1] = neighbour_distances(sequence.read(first, last), bins)
    table = pd.DataFrame(distances, columns=["red", "green", "blue"])
    table.insert(0, "sequence", sequence.name)
    table.insert(1, "frame", np.arange(len(table)))
    return table


def measure(
    frames: Path,
    out: Path,
    settings: CutSettings,
    workers: int | None = None,
    scheduler: str | None = None,
) -> None:
    """Publish the distance of every neighbouring pair of frames of a dataset.

    ``distances.parquet`` has a row for frames ``frame`` and ``frame + 1`` of ``sequence``, and the
    mean squared difference of their ``red``, ``green`` and ``blue`` histograms; NaN if one of the
    frames is bad.
    """
    sequences = open_frames(frames)
    with publish(out) as folder, connect(workers, scheduler) as cluster:
        tables = [
            table
            for _, table in progress(
                cluster.map(partial(_sequence_distances, bins=settings.bins), sequences),
                len(sequences),
                "histograms",
                "sequences",
            )
        ]
        distances = pd.concat(tables).sort_values(["sequence", "frame"], ignore_index=True)
        distances.to_parquet(folder / DISTANCES, index=False)
        write_manifest(
            folder, KIND, FORMAT_VERSION, settings, {"frames": frames}, pairs=len(distances)
        )


class CutDistances:
    """Read access to a cuts directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path, KIND, FORMAT_VERSION)
        table = pd.read_parquet(path / DISTANCES)
        self._by_sequence = {
            str(name): rows[["red", "green", "blue"]].to_numpy(np.float32)
            for name, rows in table.groupby("sequence")
        }

    def sequences(self) -> list[str]:
        """Names of the sequences, sorted."""
        return sorted(self._by_sequence)

    def of(self, sequence: str) -> np.ndarray:
        """Distances of a sequence's neighbouring frames, float32 ``[frames - 1, 3]``.

        Raises
        ------
        MidframeError
            if the directory does not hold the sequence.
        """
        if sequence not in self._by_sequence:
            raise MidframeError(
                f"{self.path}: holds no distances of sequence '{sequence}'; was it made from other "
                "frames?"
            )
        return self._by_sequence[sequence]

    def of_triplet(self, sequence: str, first_frame: int) -> float:
        """Largest distance over the channels and the two neighbouring pairs of a triplet."""
        return float(self.of(sequence)[first_frame : first_frame + 2].max())
