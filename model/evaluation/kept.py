"""Predictions that are kept, so that whoever adds a protocol makes none again.

A directory holds one file a triplet, ``SEQUENCE/FIRST.npy`` (float32 in 0..1, exactly what the
model gave) or ``SEQUENCE/FIRST.png`` (16 bits a channel, a quarter of the size or less).
"""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.evaluation.predictions import AnyFrame, OfModel, Predictions
from model.evaluation.triplets import Triplet, choose_triplets, prepare, read_remaining_triplets
from model.settings import EvaluationSettings
from pipeline.errors import MidframeError
from pipeline.frames.losses import Loss
from pipeline.frames.sequences import Frame
from pipeline.progress import notice, progress
from pipeline.provenance import (
    MANIFEST,
    check_replaceable,
    file_digest,
    input_digest,
    manifest_kind,
    read_manifest,
    write_manifest,
)
from pipeline.reading import reading
from pipeline.resume import code_digest, publish_resumable

KIND = "predictions"
FORMAT_VERSION = 1
LEVELS = 65535  # of 16 bits
# Settings that decide which predictions there are; the others decide how they are measured.
DECISIVE = (
    "layout",
    "subset",
    "sequences",
    "part",
    "stride",
    "count",
    "seed",
    "triplets",
    "size",
    "scaler",
    "crop",
    "keep",
)


def keep_predictions(
    frames: Path,
    source: Predictions,
    settings: EvaluationSettings,
    out: Path,
    label: str,
    inputs: dict[str, Path],
) -> None:
    """Make the predictions of all triplets and publish a directory of them.

    A triplet that another program cannot predict is told and passed over. After an interrupt the
    same call makes only what is missing.

    Raises
    ------
    MidframeError
        if frames or output cannot be used, or the settings say to keep nothing.
    """
    if settings.keep == "nothing":
        raise MidframeError("keep: set it to 'float' or 'png16', the form of what is kept")
    check_replaceable(out)
    triplets = choose_triplets(frames, settings)
    decisive = settings.model_dump(mode="json", include=set(DECISIVE))
    if (frames / MANIFEST).is_file():
        inputs = {**inputs, "frames": frames}
    identity = {
        "settings": decisive,
        "inputs": {name: input_digest(path) for name, path in inputs.items()},
        "code": code_digest(Path(__file__).parents[1]),
        "scored": source.scored,
        "model": label,
    }
    missing: dict[str, str] = {}
    losses: list[Loss] = []  # told as they are noticed; who measures lists them
    with publish_resumable(out, identity) as folder:
        left = [one for one in triplets if not _file(folder, one, settings.keep).is_file()]
        steps = read_remaining_triplets(left, losses)
        for triplet, original in progress(steps, len(left), f"predict {label}", "triplets"):
            if original is None:
                missing[str(triplet)] = "its frames cannot be read any more"
                continue
            first, _, third = (prepare(frame, settings) for frame in original)
            try:
                prediction, _ = source.predict(triplet, first, third)
            except MidframeError as problem:
                if isinstance(source, OfModel):
                    raise
                notice(f"{triplet}: {problem}")
                missing[str(triplet)] = str(problem)
                continue
            _write(_file(folder, triplet, settings.keep), prediction)
        sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
        write_manifest(
            folder,
            KIND,
            FORMAT_VERSION,
            decisive,
            inputs,
            model=label,
            scored=source.scored,
            predictions=len(triplets) - len(missing),
            missing=missing,
            bytes=sum(sizes),
        )
    notice(
        f"{label}: kept {len(triplets) - len(missing)} predictions as {settings.keep}, "
        f"{sum(sizes) / 1e6:.1f} MB"
    )


def is_kept(place: Path) -> bool:
    """Whether a folder of predictions is one that `keep_predictions` has published."""
    return (place / MANIFEST).is_file() and manifest_kind(place, [KIND]) == KIND


class OfKept:
    """Predictions that `keep_predictions` has published.

    Raises
    ------
    MidframeError
        if they are of other frames or were prepared otherwise than ``settings`` say.
    """

    def __init__(self, place: Path, settings: EvaluationSettings, frames: Path) -> None:
        manifest = read_manifest(place, KIND, FORMAT_VERSION)
        ours = settings.model_dump(mode="json", include=set(DECISIVE))
        theirs = manifest["settings"]
        if unlike := [key for key in DECISIVE if ours[key] != theirs[key] and key != "keep"]:
            raise MidframeError(
                f"{place}: predictions were made with another '{unlike[0]}' "
                f"({theirs[unlike[0]]}, now {ours[unlike[0]]}); make them again"
            )
        if (frames / MANIFEST).is_file() and manifest["inputs"].get("frames") != input_digest(
            frames
        ):
            raise MidframeError(f"{place}: predictions were made of other frames than {frames}")
        self._place, self._form = place, theirs["keep"]
        self._missing = manifest["missing"]
        self.label: str = manifest["model"]
        self.scored: dict[str, Any] = manifest["scored"]

    def predict(self, triplet: Triplet, first: Frame, third: Frame) -> tuple[AnyFrame, str | None]:
        if str(triplet) in self._missing:
            raise MidframeError(self._missing[str(triplet)])
        path = _file(self._place, triplet, self._form)
        prediction = _read(path)
        if prediction.shape != first.shape:
            raise MidframeError(
                f"{path}: is {list(prediction.shape)}, but the frames are {list(first.shape)}"
            )
        return prediction, file_digest(path) if self.scored else None


def _file(folder: Path, triplet: Triplet, form: str) -> Path:
    suffix = "npy" if form == "float" else "png"
    return folder / triplet.sequence / f"{triplet.first_frame:05d}.{suffix}"


def _write(path: Path, prediction: AnyFrame) -> None:
    """Write a prediction under another name and rename it, so that it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    whole = np.asarray(prediction)
    values = whole / np.float32(255) if whole.dtype == np.uint8 else whole.astype(np.float32)
    if path.suffix == ".npy":
        with partial.open("wb") as file:
            np.save(file, values.astype(np.float32))
    else:
        levels = np.rint(values.clip(0, 1).astype(np.float64) * LEVELS).astype(np.uint16)
        done, encoded = cv2.imencode(".png", levels[..., ::-1])
        assert done
        partial.write_bytes(encoded.tobytes())
    os.replace(partial, path)


def _read(path: Path) -> AnyFrame:
    with reading(path, "make the predictions again"):
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
        encoded = np.fromfile(path, np.uint8)
        levels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 3:
        raise MidframeError(f"{path}: a kept prediction is damaged; make them again")
    return np.asarray(levels[..., ::-1] / np.float32(LEVELS), dtype=np.float32)
