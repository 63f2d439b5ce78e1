"""Jump cuts by flow: where one frame cannot be made from the other as well as the neighbours allow.

Histograms see that colours change. A jump inside a shot keeps the colours, and a fast pan changes
them. Here each pair of neighbouring frames has a residual (`pipeline.selection.frame_changes`):
what is left after one frame is carried onto the other by a small flow. At a cut the residual is
some times that of the pairs around it; in a pan, a zoom or a dissolve the pairs around it are as
bad, and a flash has two bad pairs side by side.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.frames.sequences import Frame
from pipeline.selection.frame_changes import CHANGES, frame_changes
from pipeline.settings import DEFAULT_FLOW_CUT_THRESHOLD

# Pairs on either side with which a pair is compared.
REACH = 2
# Residual in levels (0..255) that is always allowed, so that a still scene has no cuts.
ALLOWED_RESIDUAL = 0.25


def cut_scores(residuals: NDArray[np.floating]) -> NDArray[np.float32]:
    """How many times worse a pair of frames fits than the pairs around it.

    Parameters
    ----------
    residuals : ``[pairs]`` in levels, of neighbouring pairs; NaN where it is unknown.

    Returns
    -------
    float32 ``[pairs]``: residual / (`ALLOWED_RESIDUAL` + the largest of the `REACH` pairs before
    and after). NaN where the residual is unknown or there is no pair to compare with.
    """
    count = len(residuals)
    padded = np.pad(np.asarray(residuals, np.float32), REACH, constant_values=np.nan)
    around = np.stack(
        [padded[shift : shift + count] for shift in range(2 * REACH + 1) if shift != REACH]
    )
    # fmax leaves NaN only where all of them are.
    scores = residuals / (ALLOWED_RESIDUAL + np.fmax.reduce(around, axis=0))
    return scores.astype(np.float32)


def find_flow_cuts(
    frames: Iterable[Frame], threshold: float = DEFAULT_FLOW_CUT_THRESHOLD
) -> list[int]:
    """Indices ``i`` such that a cut lies between frames ``i`` and ``i + 1``, sorted.

    ``frames`` are uint8 RGB ``[H, W, 3]``. Where only two frames are given there is nothing to
    compare them with, and no cut is found.
    """
    residuals = frame_changes(frames, fits=True)[:, len(CHANGES)]
    return [int(index) for index in np.flatnonzero(cut_scores(residuals) > threshold)]
