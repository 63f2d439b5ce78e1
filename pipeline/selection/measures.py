"""What `cuts` needs of a sequence's frames, measured in whichever decoding of them comes first.

`fetch` decodes every frame to check it; measuring then saves the second decoding. The numbers lie
in the dataset, a file a sequence; `cuts` takes them if they are of this version and hold what its
settings ask for, and decodes otherwise.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.frames.sequences import Frame, FrameSequence
from pipeline.reading import reading
from pipeline.selection.frame_changes import CHANGES, FITS, ChangeMeter
from pipeline.selection.jump_cuts import distances_of_counts, histogram_counts
from pipeline.settings import CutSettings

# To be raised when a measure changes, so that those of earlier datasets are not used.
VERSION = 2
# Bins of the histograms that are kept; those of fewer are sums of these.
KEPT_BINS = 32
HISTOGRAMS = ("red", "green", "blue")
COLUMNS = (*HISTOGRAMS, *CHANGES, *FITS)


class FrameMeter:
    """Measures of frames that are shown one after another.

    Parameters
    ----------
    bins : of the histograms.
    fits : whether `FITS` are measured too.
    """

    def __init__(self, bins: int, fits: bool) -> None:
        self.bins, self.fits = bins, fits
        self.usable = True
        self._changes = ChangeMeter(fits)
        self._counts: list[NDArray[np.uint32]] = []
        self._shape: tuple[int, ...] | None = None

    def add(self, frame: Frame) -> None:
        """Show the next frame; one of another size makes the measures unusable."""
        self._shape = self._shape or frame.shape
        self.usable = self.usable and frame.shape == self._shape
        if self.usable:
            self._counts.append(histogram_counts(frame, self.bins))
            self._changes.add(frame)

    def measures(self) -> "Measures":
        """Of the frames shown so far."""
        counts = np.array(self._counts, np.uint32).reshape(-1, 3, self.bins)
        width = len(CHANGES) + len(FITS)
        return Measures(counts, np.array(self._changes.rows, np.float32).reshape(-1, width))


@dataclass(frozen=True, eq=False)
class Measures:
    """What was measured of neighbouring frames.

    Attributes
    ----------
    counts : uint32 ``[frames, 3, bins]``, histograms of red, green and blue.
    changes : float32 ``[frames - 1, 9]``, see `pipeline.selection.frame_changes.frame_changes`.
    """

    counts: NDArray[np.uint32]
    changes: NDArray[np.float32]

    def save(self, file: Path) -> None:
        """Write them; the same measures give the same bytes."""
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, version=VERSION, counts=self.counts, changes=self.changes)

    def part(self, first: int, stop: int) -> "Measures":
        """Those of frames ``first`` to ``stop`` (excluded) alone."""
        changes = self.changes[first : stop - 1].copy()
        # Between two frames there is no middle one.
        changes[-1:, -1] = np.nan
        return Measures(self.counts[first:stop], changes)

    def table(self, settings: CutSettings) -> NDArray[np.float32]:
        """Float32 ``[frames - 1, 12]``, the columns `COLUMNS`, as the settings ask for them."""
        rows = np.empty((len(self.changes), len(COLUMNS)), np.float32)
        rows[:, : len(HISTOGRAMS)] = distances_of_counts(self.counts, settings.bins)
        rows[:, len(HISTOGRAMS) :] = self.changes
        if settings.method != "flow":
            rows[:, -len(FITS) :] = np.nan
        return rows


def kept_measures(sequence: FrameSequence, settings: CutSettings) -> Measures | None:
    """The measures that a dataset keeps of a sequence, if they are what the settings ask for."""
    if sequence.changes is None or not sequence.changes.is_file() or KEPT_BINS % settings.bins:
        return None
    with reading(sequence.changes, "make the dataset again"), np.load(sequence.changes) as stored:
        if int(stored["version"]) != VERSION:
            return None
        # Of a damaged member NumPy may hand on the bytes as they are.
        counts = np.asarray(stored["counts"], np.uint32).reshape(-1, 3, KEPT_BINS)
        width = len(CHANGES) + len(FITS)
        changes = np.asarray(stored["changes"], np.float32).reshape(-1, width)
    measures = Measures(counts, changes)
    first, stop = sequence.offset, sequence.offset + sequence.frame_count
    if len(measures.counts) < stop:
        return None
    measures = measures.part(first, stop)
    missing = np.isnan(measures.changes[:, len(CHANGES)]).any()
    return None if settings.method == "flow" and missing else measures
