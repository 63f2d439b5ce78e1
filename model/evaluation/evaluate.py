"""Measure a model on triplets: one row an image, under every protocol.

The frames of a triplet are read, scaled and cropped; the model sees the first and the third; its
prediction is scored against the second. Rows are written as they come, so memory does not grow
with the number of images.
"""

import csv
import fnmatch
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from model.evaluation.bootstrap import Estimate, mean_interval
from model.evaluation.cut_distances import CutDistances
from model.evaluation.kept import OfKept, is_kept
from model.evaluation.predictions import TIMEOUT, OfFiles, Predictions, source_of
from model.evaluation.scoring import Scoring, describe, measures_of
from model.evaluation.triplets import (
    Triplet,
    choose_triplets,
    describe_sources,
    prepare,
    read_remaining_triplets,
)
from model.pixels import quantise
from model.settings import EvaluationSettings
from pipeline.errors import MidframeError
from pipeline.frames.losses import Loss, list_once, load, save
from pipeline.frames.sequences import Frame, FrameSequence
from pipeline.progress import notice, progress
from pipeline.provenance import (
    MANIFEST,
    check_replaceable,
    digest,
    input_digest,
    read_manifest,
    write_manifest,
)
from pipeline.reading import reading
from pipeline.resume import code_digest, publish_resumable
from pipeline.store.evaluation_files import FORMAT_VERSION, KIND, PICTURES, SCORES, picture_path

COLUMNS = ("sequence", "first_frame", "height", "width", "cut_distance", "cut")
LOSSES = "losses.json"  # until it is published: frames that cannot be read any more
SCORED = "scored.csv"  # of predictions by others: their SHA-256, or why one could not be scored


def evaluate(
    frames: Path,
    model: str | None,
    settings: EvaluationSettings,
    out: Path,
    label: str | None = None,
    device: str = "auto",
    predictions: Path | None = None,
    command: str | None = None,
    timeout: float = TIMEOUT,
    lpips: Path | None = None,
) -> None:
    """Score a model on the triplets of a dataset and publish an evaluation directory.

    Just one of ``model``, ``predictions`` and ``command`` is given. Predictions by others that
    cannot be used are told, one line each, and have no score; the rest is scored.

    After an interrupt, the same call resumes after the last scored triplet.

    Parameters
    ----------
    frames : a dataset directory, or any folder of videos and folders of images.
    model : path of a weights file, or ``"linear"``, ``"flow"``, ``"flow-fast"``.
    settings : which triplets, and how their frames are prepared.
    out : directory for ``scores.csv``, ``manifest.json`` and, where asked for, ``predictions/``.
    label : name of the model in tables; default: the name of its file.
    device : ``"auto"``, ``"cpu"`` or ``"cuda"``.
    predictions : a folder or video that another program made (`predictions.OfFiles`), or that
        `kept.keep_predictions` has published.
    command : a program to call for each triplet (`predictions.OfCommand`).
    timeout : seconds that a call of ``command`` may take.
    lpips : folder of the weights of LPIPS (`model.network.lpips`), where settings ask for it.

    Raises
    ------
    MidframeError
        if frames, weights or output cannot be used, no triplet is left, or none of the
        predictions could be scored.
    """
    if sum(source is not None for source in (model, predictions, command)) != 1:
        raise ValueError("one of model, predictions and command is needed")
    check_replaceable(out)
    triplets = choose_triplets(frames, settings)
    scoring = Scoring(settings, lpips)
    inputs: dict[str, Path] = {}
    source: Predictions
    if predictions is not None and is_kept(predictions):
        source = OfKept(predictions, settings, frames)
        label = label or source.label
        inputs["predictions"] = predictions
    elif predictions is not None:
        label = label or predictions.stem
        source = OfFiles(predictions, triplets, frames)
    else:
        source, usual, inputs = source_of(model, command, device, timeout)
        label = label or usual
    if (frames / MANIFEST).is_file():
        inputs["frames"] = frames
    if lpips is not None and "lpips" in settings.perceptual:
        inputs["lpips"] = lpips
    content: dict[str, Any] = {"model": label, "sequences": describe_sources(triplets)}
    content["not_measured"] = scoring.skipped
    identity = {
        "settings": settings.model_dump(mode="json"),
        "inputs": {name: input_digest(path) for name, path in inputs.items()},
        "code": code_digest(Path(__file__).parents[1]),
        "scored": source.scored,
        **content,
    }
    with publish_resumable(out, identity) as folder:
        done = _rows_done(folder / SCORES)
        with (folder / SCORES).open("a", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            if done:
                notice(f"evaluate {label}: resuming after {done} of {len(triplets)} triplets")
            else:
                table.writerow([*COLUMNS, *scoring.columns])
            left = triplets[done:]
            steps = _score(left, source, scoring, settings, folder)
            for row in progress(steps, len(left), f"evaluate {label}", "triplets"):
                table.writerow(row)
                file.flush()
        skipped = _leave_out_lost(folder, triplets)
        scores = pd.read_csv(folder / SCORES, dtype={"sequence": str})
        scored, missing = _what_was_scored(folder, source)
        if missing == len(scores):
            raise MidframeError(f"{label}: none of its {missing} predictions could be scored")
        write_manifest(
            folder,
            KIND,
            FORMAT_VERSION,
            settings,
            inputs,
            skipped=skipped,
            images=len(scores),
            images_without_prediction=missing,
            scored=scored,
            images_with_cut=int(scores["cut"].sum()),
            protocols={name: describe(name) for name in scoring.protocols},
            means={
                "with_cuts": summarise(scores, scoring.protocols),
                "without_cuts": summarise(scores[scores["cut"] == 0], scoring.protocols),
            },
            **content,
        )
    standard = mean_interval(scores["standard_psnr"].to_numpy(), scores["sequence"])
    notice(
        f"{label}: {len(scores)} triplets, {int(scores['cut'].sum())} with a cut, "
        f"standard PSNR {standard.mean:.2f} dB ({standard.low:.2f} to {standard.high:.2f} "
        f"over {'videos' if standard.over_videos else 'triplets, too few videos for more'})"
    )


def _leave_out_lost(folder: Path, triplets: list[Triplet]) -> list[dict[str, Any]]:
    """Remove the rows of triplets that cannot be read any more; what a manifest says of them."""
    losses = load(folder / LOSSES)
    if not losses:
        return []
    lines = (folder / SCORES).read_text(encoding="utf-8").splitlines(keepends=True)
    empty = "," * (lines[0].count(",") - 1) + "\n"
    left = [line for line in lines if not line.endswith(empty)]
    if len(left) < 2:
        raise MidframeError(f"{losses[0].reason}; no triplet can be read any more")
    (folder / SCORES).write_text("".join(left), encoding="utf-8")
    (folder / LOSSES).unlink()
    sources = [one.source for one in triplets if isinstance(one.source, FrameSequence)]
    return list_once(losses, {source.name: source for source in sources}.values())


def _rows_done(path: Path) -> int:
    """Rows that an interrupted evaluation has written whole; what is cut short is cut off."""
    if not path.is_file():
        return 0
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    path.write_text("".join(whole), encoding="utf-8")
    return max(len(whole) - 1, 0)


def _score(
    triplets: list[Triplet],
    source: Predictions,
    scoring: Scoring,
    settings: EvaluationSettings,
    folder: Path,
) -> Iterator[list[Any]]:
    losses: list[Loss] = []
    cuts = CutDistances(triplets, settings)
    for triplet, original in read_remaining_triplets(triplets, losses):
        if original is None:
            save([*load(folder / LOSSES), *losses], folder / LOSSES)
            losses.clear()
            yield [triplet.sequence, triplet.first_frame] + [""] * (
                len(COLUMNS) + len(scoring.columns) - 2
            )
            continue
        distance = cuts.distance(triplet, original)
        first, truth, third = (prepare(frame, settings) for frame in original)
        row: list[Any] = [triplet.sequence, triplet.first_frame, *truth.shape[:2]]
        row += [distance, int(distance > settings.chosen_cut_threshold)]
        try:
            prediction, sha256 = source.predict(triplet, first, third)
        except MidframeError as problem:
            if not source.scored:  # a model's, not another program's
                raise
            notice(f"{triplet}: {problem}")
            _note(folder / SCORED, triplet, "", str(problem))
            yield row + scoring.nothing()
            continue
        if sha256 is not None:
            _note(folder / SCORED, triplet, sha256, "")
        row += scoring.score(prediction, truth)
        if any(fnmatch.fnmatchcase(str(triplet), pattern) for pattern in settings.pictures):
            _keep(folder / PICTURES, triplet, truth, quantise(prediction, "round"))
        yield row


def _note(file: Path, triplet: Triplet, sha256: str, problem: str) -> None:
    begin = not file.is_file()
    with file.open("a", newline="", encoding="utf-8") as text:
        table = csv.writer(text, lineterminator="\n")
        if begin:
            table.writerow(["sequence", "first_frame", "sha256", "problem"])
        table.writerow([triplet.sequence, triplet.first_frame, sha256, problem])


def _what_was_scored(folder: Path, source: Predictions) -> tuple[dict[str, Any], int]:
    """What others' predictions were, with one SHA-256 over all of them; how many are missing."""
    if not (folder / SCORED).is_file():
        return source.scored, 0
    notes = pd.read_csv(folder / SCORED, dtype=str, keep_default_na=False)
    # A run that was killed between two files has noted its last triplet twice.
    notes = notes.drop_duplicates(["sequence", "first_frame"], keep="last")
    notes.to_csv(folder / SCORED, index=False, lineterminator="\n")
    every = {"sha256": digest(list(notes["sha256"]))}
    return {**every, **source.scored}, int((notes["problem"] != "").sum())


def _keep(directory: Path, triplet: Triplet, truth: Frame, prediction: Frame) -> None:
    for what, frame in (("truth", truth), ("prediction", prediction)):
        path = picture_path(directory, triplet.sequence, triplet.first_frame, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(path)


def summarise(
    scores: pd.DataFrame, protocols: list[str]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Mean and 95 % interval of every measure of every protocol, as JSON values."""
    return {
        name: {
            measure: _json(
                mean_interval(scores[f"{name}_{measure}"].to_numpy(), scores["sequence"])
            )
            for measure in measures_of(name)
        }
        for name in protocols
    }


def _json(estimate: Estimate) -> dict[str, float | None]:
    values = asdict(estimate)
    del values["p"]  # of a mean by itself there is none
    return {key: None if math.isnan(value) else value for key, value in values.items()}


@dataclass(frozen=True)
class Evaluation:
    """A published evaluation: its scores, one row an image, and where its pictures lie.

    ``sequences`` tells what the images were read from
    (`model.evaluation.triplets.describe_sources`), ``scored`` what predictions by others were
    (empty for a model); ``missing`` of them could not be scored. ``not_measured`` tells for a
    perceptual measure that was asked for why there is none; ``inputs`` are digests by name.
    """

    directory: Path
    label: str
    settings: EvaluationSettings
    protocols: Mapping[str, str]
    sequences: Mapping[str, dict[str, Any]]
    scores: pd.DataFrame
    scored: Mapping[str, Any] = field(default_factory=dict)
    missing: int = 0
    not_measured: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

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
    with reading(directory / SCORES, "evaluate again"):
        scores = pd.read_csv(directory / SCORES, dtype={"sequence": str})
    with reading(directory / MANIFEST, "evaluate again"):
        return Evaluation(
            directory,
            manifest["model"],
            EvaluationSettings(**manifest["settings"]),
            manifest["protocols"],
            manifest["sequences"],
            scores,
            manifest["scored"],
            manifest["images_without_prediction"],
            manifest["not_measured"],
            manifest["inputs"],
        )
