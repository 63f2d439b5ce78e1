"""Losses of trained stages over their epochs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pipeline.errors import MidframeError
from pipeline.provenance import read_manifest

TRAINING_FORMAT_VERSION = 1
PAGE_WIDTH = 7.0  # inches
PROTOCOL = "standard"


@dataclass(frozen=True)
class TrainedStage:
    """What a training stage left behind.

    Attributes
    ----------
    name : of its directory.
    metrics : ``metrics.csv``: one row an epoch; epoch 0 is before training.
    epochs_before : epochs of the stages it started from.
    linear_psnr : validation PSNR of linear interpolation in dB.
    """

    name: str
    metrics: pd.DataFrame
    epochs_before: int
    linear_psnr: float


def read_stage(directory: Path) -> TrainedStage:
    """Read the metrics of a trained stage.

    Raises
    ------
    MidframeError
        if the directory is no finished training stage.
    """
    from model.network.checkpoints import read_description

    manifest = read_manifest(directory, "model", TRAINING_FORMAT_VERSION)
    weights = sorted((directory / "weights").glob("*.safetensors"))
    if not weights:
        raise MidframeError(f"{directory}: holds no weights, so it is no whole training stage")
    before = 0
    ancestor = read_description(weights[0]).provenance.get("parent")
    while ancestor:
        before += int(ancestor.get("epoch", 0))
        ancestor = ancestor.get("parent")
    return TrainedStage(
        directory.resolve().name,
        pd.read_csv(directory / "metrics.csv"),
        before,
        float(manifest["linear_interpolation"]["psnr"]),
    )


def loss_curve(stages: Sequence[TrainedStage]) -> Figure:
    """Validation L1 and PSNR over the epochs, a line a stage, beside linear interpolation.

    A stage that starts from an epoch of another counts on from there.
    """
    figure = Figure(figsize=(PAGE_WIDTH, 2.8), layout="constrained")
    loss, psnr = figure.subplots(1, 2)
    for stage in stages:
        epochs = stage.metrics["epoch"] + stage.epochs_before
        marker = "o" if len(epochs) <= 15 else None
        for axes, column in ((loss, "validation_l1"), (psnr, "validation_psnr")):
            axes.plot(epochs, stage.metrics[column], marker=marker, markersize=3, label=stage.name)
    for value in sorted({stage.linear_psnr for stage in stages}):
        psnr.axhline(value, color="0.4", linewidth=1, linestyle="--")
        psnr.annotate(
            "linear interpolation",
            (0.99, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            color="0.3",
            fontsize=7,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )
    loss.set_ylabel("validation L1 (of 1)")
    psnr.set_ylabel(f"validation PSNR in dB ({PROTOCOL})")
    for axes in (loss, psnr):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.margins(x=0.03, y=0.08)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
