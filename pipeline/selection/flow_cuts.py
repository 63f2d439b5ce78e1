"""Jump cuts by flow: where one frame cannot be made from the other as well as the neighbours allow.

Histograms see that colours change. A jump inside a shot keeps the colours, and a fast pan changes
them. Here each pair of neighbouring frames has a residual (`pipeline.selection.frame_changes`):
what is left after one frame is carried onto the other by a small flow. At a cut the residual is
some times that of the pairs around it; in a pan, a zoom or a dissolve the pairs around it are as
bad, and a flash has two bad pairs side by side. The plain difference of the two frames is compared
in the same way, because a small jump is easily mended by a flow and still stands out.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.frames.sequences import Frame
from pipeline.selection.frame_changes import CHANGES, frame_changes
from pipeline.settings import DEFAULT_FLOW_CUT_THRESHOLD

# Pairs on either side with which a pair is compared. In footage that shows each picture three
# times ("on threes", or films at 60 frames a second) one of three pairs moves.
REACH = 3
# Residual and difference in levels (0..255) that are always allowed, so that a still scene has no
# cuts.
ALLOWED = 0.25


def cut_scores(
    residuals: NDArray[np.floating], differences: NDArray[np.floating]
) -> NDArray[np.float32]:
    """How many times worse a pair of frames fits than the pairs around it.

    Parameters
    ----------
    residuals, differences : ``[pairs]`` in levels, of neighbouring pairs of frames, with and
        without flow; NaN where unknown.

    Returns
    -------
    float32 ``[pairs]``: geometric mean, over the two measures, of measure / (`ALLOWED` + the
    largest of the `REACH` pairs before and after). NaN where a measure is unknown or there is no
    pair to compare with.
    """
    scores = np.sqrt(_against_others(residuals) * _against_others(differences))
    return scores.astype(np.float32)


def _against_others(measure: NDArray[np.floating]) -> NDArray[np.floating]:
    count = len(measure)
    padded = np.pad(np.asarray(measure, np.float32), REACH, constant_values=np.nan)
    around = np.stack(
        [padded[shift : shift + count] for shift in range(2 * REACH + 1) if shift != REACH]
    )
    # fmax leaves NaN only where all of them are.
    return measure / (ALLOWED + np.fmax.reduce(around, axis=0))


def flow_cut_scores(frames: Iterable[Frame]) -> NDArray[np.float32]:
    """`cut_scores` of the neighbouring pairs of uint8 RGB frames ``[H, W, 3]``, one read at a time.

    Returns float32 ``[number of frames - 1]``.
    """
    changes = frame_changes(frames, fits=True)
    return cut_scores(changes[:, len(CHANGES)], changes[:, CHANGES.index("difference")])


def find_flow_cuts(
    frames: Iterable[Frame], threshold: float = DEFAULT_FLOW_CUT_THRESHOLD
) -> list[int]:
    """Indices ``i`` such that a cut lies between frames ``i`` and ``i + 1``, sorted.

    ``frames`` are uint8 RGB ``[H, W, 3]``. Where only two frames are given there is nothing to
    compare them with, and no cut is found.
    """
    return [int(index) for index in np.flatnonzero(flow_cut_scores(frames) > threshold)]
