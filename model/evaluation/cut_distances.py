"""How far apart, as jump cuts are found, the frames of a triplet are."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model.evaluation.triplets import Triplet
from model.settings import EvaluationSettings
from pipeline.frames.losses import read_remaining, runs
from pipeline.frames.sequences import Frame, FrameSequence
from pipeline.selection.flow_cuts import REACH, flow_cut_scores
from pipeline.selection.jump_cuts import histogram_distance


class CutDistances:
    """Distances of the frames of triplets, by the method that ``settings`` name.

    Parameters
    ----------
    triplets : those that will be asked for, so that a sequence is decoded once, and only where it
        is needed.
    """

    def __init__(self, triplets: list[Triplet], settings: EvaluationSettings) -> None:
        self._settings = settings
        self._firsts: dict[str, list[int]] = {}
        for triplet in triplets:
            self._firsts.setdefault(triplet.sequence, []).append(triplet.first_frame)
        self._scores: tuple[str, NDArray[np.float32]] | None = None

    def distance(self, triplet: Triplet, frames: list[Frame]) -> float:
        """The larger of the distances of a triplet's neighbouring ``frames``, uint8 [H, W, 3].

        Of flow, a pair is compared with the pairs around it in its sequence; of a benchmark's
        three images, with the other pair.
        """
        if self._settings.cut_method == "histogram":
            bins = self._settings.cut_bins
            return max(float(histogram_distance(a, b, bins).max()) for a, b in pairwise(frames))
        if not isinstance(triplet.source, FrameSequence):
            return float(flow_cut_scores(frames).max())
        if self._scores is None or self._scores[0] != triplet.sequence:
            self._scores = triplet.sequence, self._of_sequence(triplet.source)
        first = triplet.first_frame
        return float(np.fmax.reduce(self._scores[1][first : first + 2]))

    def _of_sequence(self, sequence: FrameSequence) -> NDArray[np.float32]:
        firsts = self._firsts[sequence.name]
        start = max(min(firsts) - REACH, 0)
        stop = min(max(firsts) + 3 + REACH, sequence.frame_count)
        scores = np.full(sequence.frame_count - 1, np.nan, np.float32)
        # Whoever reads the triplets tells which frames are lost.
        for first, frames in runs(read_remaining(sequence, start, stop, [])):
            found = flow_cut_scores(frames)
            scores[first : first + len(found)] = found
        return scores
