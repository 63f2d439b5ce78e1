"""Figures: losses over the epochs, true frames beside predictions, one frame at two resolutions.

Each is written as PNG and as SVG, at the width of a printed page. Equal inputs give equal files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.rcsetup import cycler
from numpy.typing import NDArray

from model.evaluation.evaluate import Evaluation, open_evaluation
from model.reporting.loss_curve import PAGE_WIDTH, PROTOCOL, loss_curve, read_stage
from model.settings import FigureSettings
from model.video.interpolation import read_image
from pipeline.errors import MidframeError
from pipeline.frames.sequences import Frame
from pipeline.provenance import publish, write_manifest
from pipeline.store.evaluation_files import picture_path

KIND = "figures"
FORMAT_VERSION = 1
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "svg.hashsalt": "midframe",
    # Okabe and Ito's colours, which stay apart in print and for the colour-blind.
    "axes.prop_cycle": cycler(
        color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
    ),
}
DETAIL_SHARE = 4  # a detail is a quarter of the picture's width and height


def make_figures(
    training: Sequence[Path],
    evaluations: Sequence[Path],
    resolutions: Sequence[Path],
    settings: FigureSettings,
    out: Path,
) -> None:
    """Publish the figures that the inputs allow.

    Parameters
    ----------
    training : trained stages; of them ``loss_curve``.
    evaluations : of the same triplets by several models; of each kept triplet
        ``comparison-SEQUENCE-FRAME``: truth, predictions, detail, error maps.
    resolutions : of one model on the same triplets at several resolutions; of each kept triplet
        ``resolutions-SEQUENCE-FRAME``.

    Raises
    ------
    MidframeError
        if there is nothing to draw, or a triplet that is asked for was not kept.
    """
    if not (training or evaluations or resolutions):
        raise MidframeError("figures: give --training, --evaluation or --resolutions")
    stages = [read_stage(path) for path in training]
    compared = [open_evaluation(path) for path in evaluations]
    resolved = [open_evaluation(path) for path in resolutions]
    pictures = [
        ("comparison", triplet, compared) for triplet in _kept(compared, settings.triplets)
    ] + [("resolutions", triplet, resolved) for triplet in _kept(resolved, settings.triplets)]
    names = []
    with publish(out) as partial, matplotlib.rc_context(STYLE):
        if stages:
            names.append("loss_curve")
            _save(loss_curve(stages), partial / "loss_curve", settings)
        for kind, (sequence, first_frame), shown in pictures:
            draw = comparison if kind == "comparison" else resolution_comparison
            figure = draw(shown, sequence, first_frame, settings)
            name = f"{kind}-{sequence.replace('/', '_')}-{first_frame:05d}"
            names.append(name)
            _save(figure, partial / name, settings)
        inputs = {
            f"{kind}-{index}": path
            for kind, paths in (
                ("training", training),
                ("evaluation", evaluations),
                ("resolutions", resolutions),
            )
            for index, path in enumerate(paths)
        }
        write_manifest(partial, KIND, FORMAT_VERSION, settings, inputs, figures=names)


def _save(figure: Figure, path: Path, settings: FigureSettings) -> None:
    figure.savefig(path.with_suffix(".png"), dpi=settings.dpi, metadata={"Software": None})
    figure.savefig(path.with_suffix(".svg"), dpi=settings.dpi, metadata={"Date": None})


def _kept(evaluations: Sequence[Evaluation], asked: Sequence[str]) -> list[tuple[str, int]]:
    """The triplets to draw: those asked for, or all whose pictures every evaluation has."""
    if not evaluations:
        return []

    def has(evaluation: Evaluation, sequence: str, first_frame: int) -> bool:
        return picture_path(evaluation.pictures, sequence, first_frame, "truth").is_file()

    if asked:
        triplets = []
        for name in asked:
            sequence, _, first = name.rpartition(":")
            for evaluation in evaluations:
                if not first.isdecimal() or not has(evaluation, sequence, int(first)):
                    raise MidframeError(
                        f"{evaluation.directory}: kept no pictures of '{name}'; evaluate with it "
                        "in 'pictures'"
                    )
            triplets.append((sequence, int(first)))
        return triplets
    listing = evaluations[0].scores[["sequence", "first_frame"]].itertuples(index=False)
    return [
        (str(sequence), int(first))
        for sequence, first in listing
        if all(has(evaluation, str(sequence), int(first)) for evaluation in evaluations)
    ]


@dataclass(frozen=True)
class _Shown:
    """A prediction to show: who made it, its picture, the truth, and its PSNR in dB."""

    label: str
    truth: Frame
    prediction: Frame
    psnr: float

    @property
    def error(self) -> NDArray[np.float64]:
        """Mean absolute difference of the channels, in levels (0..255), ``[H, W]``."""
        difference = self.prediction.astype(np.int16) - self.truth
        mean: NDArray[np.float64] = np.abs(difference).mean(axis=2)
        return mean


def _show(evaluation: Evaluation, sequence: str, first_frame: int) -> _Shown:
    scores = evaluation.scores
    row = scores[(scores["sequence"] == sequence) & (scores["first_frame"] == first_frame)]
    truth, prediction = (
        read_image(picture_path(evaluation.pictures, sequence, first_frame, what))
        for what in ("truth", "prediction")
    )
    return _Shown(evaluation.label, truth, prediction, float(row[f"{PROTOCOL}_psnr"].iloc[0]))


def comparison(
    evaluations: Sequence[Evaluation], sequence: str, first_frame: int, settings: FigureSettings
) -> Figure:
    """The true frame beside each model's prediction: whole, in detail, and the error.

    The detail is where the predictions err most.
    """
    shown = [_show(evaluation, sequence, first_frame) for evaluation in evaluations]
    truth = shown[0].truth
    if any(not np.array_equal(other.truth, truth) for other in shown):
        raise MidframeError(
            f"{sequence}:{first_frame}: the evaluations show different true frames; were they "
            "made with the same settings?"
        )
    top, left, height, width = detail_window(np.mean([one.error for one in shown], axis=0))
    columns = [("truth", truth), *((_title(one), one.prediction) for one in shown)]
    aspect = truth.shape[0] / truth.shape[1]
    column_width = PAGE_WIDTH / len(columns)
    figure = _picture_page(3 * column_width * aspect + 0.6)
    grid = figure.subplots(3, len(columns), squeeze=False)
    for axes, (title, picture) in zip(grid[0], columns, strict=True):
        _picture(axes, picture, title)
        axes.add_patch(
            Rectangle((left, top), width, height, fill=False, edgecolor="white", linewidth=0.8)
        )
    for axes, (_, picture) in zip(grid[1], columns, strict=True):
        _picture(axes, picture[top : top + height, left : left + width], nearest=True)
    grid[2][0].set_axis_off()
    for axes, one in zip(grid[2][1:], shown, strict=True):
        image = axes.imshow(one.error, cmap="magma", vmin=0, vmax=settings.error_peak)
        axes.set_axis_off()
    bar = figure.colorbar(
        image, cax=grid[2][0].inset_axes((0.05, 0.45, 0.9, 0.12)), orientation="horizontal"
    )
    bar.set_label("absolute error in levels of 255", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    bar.ax.grid(False)
    figure.suptitle(_heading(sequence, first_frame, settings), fontsize=9)
    return figure


def resolution_comparison(
    evaluations: Sequence[Evaluation], sequence: str, first_frame: int, settings: FigureSettings
) -> Figure:
    """One frame at several resolutions, a row each: truth, prediction, and both in detail."""
    shown = [_show(evaluation, sequence, first_frame) for evaluation in evaluations]
    aspect = shown[0].truth.shape[0] / shown[0].truth.shape[1]
    figure = _picture_page(len(shown) * (PAGE_WIDTH / 4 * aspect + 0.25) + 0.3)
    grid = figure.subplots(len(shown), 4, squeeze=False)
    top, left, height, width = (
        np.array(detail_window(shown[0].error), np.float64) / shown[0].truth.shape[0]
    )
    for row, one in zip(grid, shown, strict=True):
        rows = slice(*_scaled(top, height, one))
        columns = slice(*_scaled(left, width, one))
        resolution = f"{one.truth.shape[1]}x{one.truth.shape[0]}"
        _picture(row[0], one.truth, f"truth, {resolution}")
        _picture(row[1], one.prediction, _title(one))
        _picture(row[2], one.truth[rows, columns], "truth, detail", nearest=True)
        _picture(row[3], one.prediction[rows, columns], "prediction, detail", nearest=True)
    figure.suptitle(_heading(sequence, first_frame, settings), fontsize=9)
    return figure


def _heading(sequence: str, first_frame: int, settings: FigureSettings) -> str:
    name = f"{sequence}, frames {first_frame} to {first_frame + 2}"
    return f"{name} ({settings.note})" if settings.note else name


def _picture_page(height: float) -> Figure:
    """A figure for rows of pictures that nearly touch; ``height`` in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.04)
    return Figure(figsize=(PAGE_WIDTH, height), layout=layout)


def _scaled(start: float, length: float, one: _Shown) -> tuple[int, int]:
    """The same part of the scene at another resolution; shares are of the height."""
    height = one.truth.shape[0]
    return round(start * height), round((start + length) * height)


def _title(one: _Shown) -> str:
    psnr = "no error" if np.isinf(one.psnr) else f"{one.psnr:.2f} dB"
    return f"{one.label}\n{psnr} ({PROTOCOL})"


def _picture(axes: Axes, picture: Frame, title: str = "", nearest: bool = False) -> None:
    axes.imshow(picture, interpolation="nearest" if nearest else "antialiased")
    axes.set_title(title)
    axes.set_axis_off()


def detail_window(error: NDArray[np.floating]) -> tuple[int, int, int, int]:
    """The quarter of a picture (in width and height) with the largest error.

    Parameters
    ----------
    error : ``[H, W]``.

    Returns
    -------
    top, left, height, width : in pixels.
    """
    height, width = (max(length // DETAIL_SHARE, 1) for length in error.shape)
    table = np.zeros((error.shape[0] + 1, error.shape[1] + 1))
    table[1:, 1:] = error.cumsum(axis=0).cumsum(axis=1)
    sums = (
        table[height:, width:]
        - table[:-height, width:]
        - table[height:, :-width]
        + table[:-height, :-width]
    )
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left), height, width
