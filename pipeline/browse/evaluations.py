"""Evaluation directories side by side: on which triplets two models differ, and their pictures."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.browse.collection import generation
from pipeline.errors import MidframeError
from pipeline.provenance import MANIFEST, read_manifest
from pipeline.reading import reading
from pipeline.store.evaluation_files import FORMAT_VERSION, KIND, PICTURES, SCORES, picture_path

WHATS = ("truth", "prediction", "error")
KEY = ["sequence", "first_frame"]
# Errors of so many levels are shown as white.
BRIGHTEST = 64


class EvaluationView:
    """An evaluation directory, as `midframe evaluate` writes it.

    Raises
    ------
    MidframeError
        if it is missing, unfinished or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = generation(path)
        self.manifest = read_manifest(path, KIND, FORMAT_VERSION)
        with reading(path / SCORES, "evaluate again"):
            self.scores = pd.read_csv(path / SCORES, dtype={"sequence": str})
        with reading(path / MANIFEST, "evaluate again"):
            self.means = {
                f"{protocol}_{metric}": mean["mean"]
                for protocol, means in self.manifest["means"]["with_cuts"].items()
                for metric, mean in means.items()
            }

    @property
    def metrics(self) -> list[str]:
        """Columns of scores, such as ``standard_psnr``: of every protocol that was measured."""
        return [name for name in map(str, self.scores) if name in self.means]

    def describe(self) -> dict[str, Any]:
        """Name, numbers by protocol, and what was evaluated; JSON values."""
        return {
            "path": str(self.path),
            "model": self.manifest["model"],
            "images": self.manifest["images"],
            "means": self.means,
            "protocols": self.manifest["protocols"],
            "metrics": self.metrics,
        }

    def file(self, sequence: str, first_frame: int, what: str) -> Path:
        """Where the PNG of a triplet lies, if it was kept."""
        root = self.path / PICTURES
        file = picture_path(root, sequence, first_frame, what)
        if "\0" in sequence or not file.resolve().is_relative_to(root.resolve()):
            raise MidframeError(f"{sequence}: not a sequence of {self.path}")
        return file

    def picture(self, sequence: str, first_frame: int, what: str) -> NDArray[np.uint8]:
        """One of `WHATS` of a triplet, uint8 RGB ``[H, W, 3]``.

        Raises
        ------
        MidframeError
            if it was not kept, or is damaged.
        """
        if what not in WHATS:
            raise MidframeError(f"no picture '{what}'; there are: {', '.join(WHATS)}")
        if what == "error":
            truth, prediction = (
                self.picture(sequence, first_frame, one).astype(np.int16) for one in WHATS[:2]
            )
            error = np.abs(truth - prediction).max(axis=-1)
            levels = np.minimum(error * (255 / BRIGHTEST), 255).astype(np.uint8)
            coloured = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
            return cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB).astype(np.uint8)
        file = self.file(sequence, first_frame, what)
        picture = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB) if file.is_file() else None
        if picture is None:
            raise MidframeError(f"{file}: no such picture, or damaged; see the setting `pictures`")
        return picture.astype(np.uint8)


def compare(first: EvaluationView, second: EvaluationView, metric: str) -> list[dict[str, Any]]:
    """The triplets that two evaluations share, those on which they differ most first.

    Returns
    -------
    For each its ``sequence`` and ``first_frame``, scores ``a`` and ``b``, their ``difference``
    (a - b), and whether ``pictures`` of it were kept; JSON values (``None``: unknown).

    Raises
    ------
    MidframeError
        if they share no triplet, or one lacks the metric.
    """
    for view in (first, second):
        if metric not in view.metrics:
            raise MidframeError(f"{view.path}: has no '{metric}'; {', '.join(view.metrics)}")
    one, other = (view.scores[[*KEY, metric]] for view in (first, second))
    joined = one.merge(other, on=KEY, suffixes=("_a", "_b"))
    if joined.empty:
        raise MidframeError(f"{first.path} and {second.path}: share no triplet")
    joined["difference"] = joined[f"{metric}_a"] - joined[f"{metric}_b"]
    joined["pictures"] = [
        all(view.file(sequence, frame, "prediction").is_file() for view in (first, second))
        for sequence, frame in zip(joined["sequence"], joined["first_frame"], strict=True)
    ]
    joined["size"] = -joined["difference"].abs()
    joined = joined.sort_values("size", kind="stable")
    return [
        {
            "sequence": row["sequence"],
            "first_frame": int(row["first_frame"]),
            "a": _number(row[f"{metric}_a"]),
            "b": _number(row[f"{metric}_b"]),
            "difference": _number(row["difference"]),
            "pictures": bool(row["pictures"]),
        }
        for row in joined.to_dict("records")
    ]


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
