"""Measure a model on triplets: one row an image, under every protocol.

The frames of a triplet are read, scaled and cropped; the model sees the first and the third; its
prediction is scored against the second. Rows are written as they come, so memory does not grow
with the number of images.
"""

import csv
import fnmatch
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from model.evaluation.bootstrap import Estimate, mean_interval
from model.evaluation.metrics import PROTOCOLS, quantise
from model.evaluation.triplets import (
    Triplet,
    choose_triplets,
    describe_sources,
    prepare,
    read_triplets,
)
from model.settings import WITHOUT_WEIGHTS, EvaluationSettings
from model.video.interpolation import Predictor, load_predictor
from pipeline.frames.sequences import Frame
from pipeline.progress import notice, progress
from pipeline.provenance import (
    MANIFEST,
    check_replaceable,
    input_digest,
    read_manifest,
    write_manifest,
)
from pipeline.resume import code_digest, publish_resumable
from pipeline.selection.jump_cuts import histogram_distance

KIND = "evaluation"
FORMAT_VERSION = 2
SCORES = "scores.csv"
PICTURES = "predictions"


def evaluate(
    frames: Path,
    model: str,
    settings: EvaluationSettings,
    out: Path,
    label: str | None = None,
    device: str = "auto",
) -> None:
    """Score a model on the triplets of a dataset and publish an evaluation directory.

    Interrupted, the same call goes on after the last triplet that was scored.

    Parameters
    ----------
    frames : a dataset directory, or any folder of videos and folders of images.
    model : path of a weights file, or ``"linear"``, ``"flow"``, ``"flow-fast"``.
    settings : which triplets, and how their frames are prepared.
    out : directory for ``scores.csv``, ``manifest.json`` and, where asked for, ``predictions/``.
    label : name of the model in tables; the name of its file if left out.
    device : ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    MidframeError
        if frames, weights or output cannot be used, or no triplet is left.
    """
    label = label or (model if model in WITHOUT_WEIGHTS else Path(model).stem)
    check_replaceable(out)
    triplets = choose_triplets(frames, settings)
    predictor = load_predictor(model, device)
    inputs = {} if model in WITHOUT_WEIGHTS else {"weights": Path(model)}
    if (frames / MANIFEST).is_file():
        inputs["frames"] = frames
    content: dict[str, Any] = {"model": label, "sequences": describe_sources(triplets)}
    identity = {
        "settings": settings.model_dump(mode="json"),
        "inputs": {name: input_digest(path) for name, path in inputs.items()},
        "code": code_digest(Path(__file__).parents[1]),
        **content,
    }
    with publish_resumable(out, identity) as folder:
        done = _rows_done(folder / SCORES)
        with (folder / SCORES).open("a", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            if done:
                notice(f"evaluate {label}: going on after {done} of {len(triplets)} triplets")
            else:
                table.writerow(_columns())
            left = triplets[done:]
            steps = _score(left, predictor, settings, folder / PICTURES)
            for row in progress(steps, len(left), f"evaluate {label}", "triplets"):
                table.writerow(row)
                file.flush()
        scores = pd.read_csv(folder / SCORES, dtype={"sequence": str})
        write_manifest(
            folder,
            KIND,
            FORMAT_VERSION,
            settings,
            inputs,
            images=len(scores),
            images_with_cut=int(scores["cut"].sum()),
            protocols={name: str(protocol) for name, protocol in PROTOCOLS.items()},
            means={
                "with_cuts": summarise(scores),
                "without_cuts": summarise(scores[scores["cut"] == 0]),
            },
            **content,
        )
    standard = mean_interval(scores["standard_psnr"].to_numpy())
    notice(
        f"{label}: {len(scores)} triplets, {int(scores['cut'].sum())} with a cut, "
        f"standard PSNR {standard.mean:.2f} dB ({standard.low:.2f} to {standard.high:.2f})"
    )


def _rows_done(path: Path) -> int:
    """Rows that an interrupted evaluation has written whole; what is cut short is cut off."""
    if not path.is_file():
        return 0
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    path.write_text("".join(whole), encoding="utf-8")
    return max(len(whole) - 1, 0)


def _columns() -> list[str]:
    metrics = [f"{name}_{metric}" for name in PROTOCOLS for metric in ("psnr", "ssim")]
    return ["sequence", "first_frame", "height", "width", "cut_distance", "cut", *metrics]


def _score(
    triplets: list[Triplet], predictor: Predictor, settings: EvaluationSettings, pictures: Path
) -> Iterator[list[Any]]:
    for triplet, original in read_triplets(triplets):
        distance = max(
            float(histogram_distance(a, b, settings.cut_bins).max())
            for a, b in zip(original, original[1:], strict=False)
        )
        first, truth, third = (prepare(frame, settings) for frame in original)
        prediction = predictor(first, third)
        row: list[Any] = [triplet.sequence, triplet.first_frame, *truth.shape[:2]]
        row += [distance, int(distance > settings.cut_threshold)]
        for protocol in PROTOCOLS.values():
            row += protocol.score(prediction, truth)
        if any(fnmatch.fnmatchcase(str(triplet), pattern) for pattern in settings.pictures):
            _keep(pictures, triplet, truth, quantise(prediction, "round"))
        yield row


def picture_path(directory: Path, sequence: str, first_frame: int, what: str) -> Path:
    """Where the PNG of a triplet lies: ``what`` is ``"truth"`` or ``"prediction"``."""
    return directory / sequence / f"{first_frame:05d}-{what}.png"


def _keep(directory: Path, triplet: Triplet, truth: Frame, prediction: Frame) -> None:
    for what, frame in (("truth", truth), ("prediction", prediction)):
        path = picture_path(directory, triplet.sequence, triplet.first_frame, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(path)


def summarise(scores: pd.DataFrame) -> dict[str, dict[str, dict[str, float | None]]]:
    """Mean and 95 % interval of every protocol's PSNR and SSIM, as JSON values."""
    return {
        name: {
            metric: _json(mean_interval(scores[f"{name}_{metric}"].to_numpy()))
            for metric in ("psnr", "ssim")
        }
        for name in PROTOCOLS
    }


def _json(estimate: Estimate) -> dict[str, float | None]:
    values = asdict(estimate)
    return {key: None if math.isnan(value) else value for key, value in values.items()}


@dataclass(frozen=True)
class Evaluation:
    """A published evaluation: its scores, one row an image, and where its pictures lie.

    ``sequences`` tells what the images were read from
    (`model.evaluation.triplets.describe_sources`).
    """

    directory: Path
    label: str
    settings: EvaluationSettings
    protocols: Mapping[str, str]
    sequences: Mapping[str, dict[str, Any]]
    scores: pd.DataFrame

    @property
    def pictures(self) -> Path:
        return self.directory / PICTURES


def open_evaluation(directory: Path) -> Evaluation:
    """Read what `evaluate` has published.

    Raises
    ------
    MidframeError
        if the directory is unfinished, or of another kind or version.
    """
    manifest = read_manifest(directory, KIND, FORMAT_VERSION)
    return Evaluation(
        directory,
        manifest["model"],
        EvaluationSettings(**manifest["settings"]),
        manifest["protocols"],
        manifest["sequences"],
        pd.read_csv(directory / SCORES, dtype={"sequence": str}),
    )
