"""Tables over several evaluations: what each model scored, and whether two can be told apart."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.bootstrap import Estimate, mean_interval, paired_interval
from model.evaluation import Evaluation, open_evaluation
from model.metrics import PROTOCOLS
from model.published import TABLES, PublishedScore, PublishedTable
from model.settings import TableSettings
from pipeline.errors import MidframeError
from pipeline.provenance import publish, write_manifest

KIND = "table"
FORMAT_VERSION = 1
METRICS = ("psnr", "ssim")
DECIMALS = {"psnr": 2, "ssim": 4}
UNITS = {"psnr": " dB", "ssim": ""}


@dataclass(frozen=True)
class Cell:
    """One model under one protocol and metric, over one choice of images.

    Attributes
    ----------
    label, protocol, metric : what was measured.
    cuts : whether triplets that hold a jump cut count.
    score : mean over the images.
    to_baseline, to_best : mean of the differences image by image, to the baseline and to the row
        with the highest mean; ``None`` for that row itself.
    published : the paper's number, where it reports one for this row under this protocol.
    """

    label: str
    protocol: str
    metric: str
    cuts: bool
    score: Estimate
    to_baseline: Estimate | None
    to_best: Estimate | None
    published: float | None


def make_table(evaluations: Sequence[Path], settings: TableSettings, out: Path) -> None:
    """Publish ``table.md`` and ``table.csv`` over evaluations of the same triplets.

    Raises
    ------
    MidframeError
        if the evaluations measured different triplets or prepared them differently, or labels in
        the settings do not fit.
    """
    opened = [open_evaluation(path) for path in evaluations]
    labels = _labels(opened, settings)
    _check_alike(opened)
    published = TABLES[settings.published] if settings.published else None
    rows = _published_rows(settings, published)
    cells = compare(dict(zip(labels, opened, strict=True)), rows, settings)
    with publish(out) as partial:
        (partial / "table.csv").write_text(to_csv(cells), encoding="utf-8")
        text = to_markdown(cells, settings, published, opened[0])
        (partial / "table.md").write_text(text, encoding="utf-8")
        inputs = {f"{index}": path for index, path in enumerate(evaluations)}
        write_manifest(partial, KIND, FORMAT_VERSION, settings, inputs, labels=labels)


def _labels(evaluations: Sequence[Evaluation], settings: TableSettings) -> list[str]:
    labels = [evaluation.label for evaluation in evaluations]
    if settings.rows is not None:
        if len(settings.rows) != len(evaluations):
            raise MidframeError(
                f"rows: {len(settings.rows)} rows for {len(evaluations)} evaluations; "
                "one is needed for each, in their order"
            )
        labels = [row.label for row in settings.rows]
    if len(set(labels)) != len(labels):
        raise MidframeError(
            f"two evaluations have one label: {', '.join(labels)}; name them apart with --label, "
            "or with 'rows'"
        )
    if settings.baseline not in labels:
        raise MidframeError(
            f"baseline: no row '{settings.baseline}'; there are: {', '.join(labels)}"
        )
    return labels


def _published_rows(
    settings: TableSettings, published: PublishedTable | None
) -> dict[str, PublishedScore]:
    """For the labels that have one, the published row."""
    rows = {}
    for row in settings.rows or ():
        if row.published is None:
            continue
        if published is None:
            raise MidframeError(f"rows: '{row.label}' names a published row, but no table is set")
        if row.published not in published.rows:
            raise MidframeError(
                f"rows: {settings.published} has no row '{row.published}'; "
                f"there are: {', '.join(published.rows)}"
            )
        rows[row.label] = published.rows[row.published]
    return rows


def _check_alike(evaluations: Sequence[Evaluation]) -> None:
    """All evaluations must have measured the same images."""
    keys = ["sequence", "first_frame", "height", "width", "cut"]
    first = evaluations[0]
    unlike_settings = {"pictures"}
    for other in evaluations[1:]:
        if not first.scores[keys].equals(other.scores[keys]):
            raise MidframeError(
                f"{other.directory}: measured other triplets, sizes or cuts than "
                f"{first.directory}; evaluate both with the same frames and settings"
            )
        ours = first.settings.model_dump(exclude=unlike_settings)
        theirs = other.settings.model_dump(exclude=unlike_settings)
        unlike = [key for key in ours if ours[key] != theirs[key]]
        if unlike:
            raise MidframeError(
                f"{other.directory}: evaluated with another '{unlike[0]}' than "
                f"{first.directory}; evaluate both with the same settings"
            )


def compare(
    evaluations: dict[str, Evaluation],
    published: dict[str, PublishedScore],
    settings: TableSettings,
) -> list[Cell]:
    """All numbers of a table: for each choice of images, protocol, metric and model, in order."""
    scores = {label: evaluation.scores for label, evaluation in evaluations.items()}
    any_scores = next(iter(scores.values()))
    # Without flagged triplets both choices are the same images.
    choices = [False, True] if any_scores["cut"].any() else [False]
    cells = []
    for cuts in choices:
        kept = np.ones(len(any_scores), bool) if cuts else any_scores["cut"].to_numpy() == 0
        for protocol in settings.protocols:
            for metric in METRICS:
                values = {
                    label: table[f"{protocol}_{metric}"].to_numpy()[kept]
                    for label, table in scores.items()
                }
                cells += _column(values, protocol, metric, cuts, published, settings)
    return cells


def _column(
    values: dict[str, np.ndarray],
    protocol: str,
    metric: str,
    cuts: bool,
    published: dict[str, PublishedScore],
    settings: TableSettings,
) -> list[Cell]:
    draws = (settings.resamples, settings.seed)
    scores = {label: mean_interval(column, *draws) for label, column in values.items()}
    means = {label: score.mean for label, score in scores.items() if score.count}
    best = max(means, key=lambda label: means[label]) if means else settings.baseline
    table = TABLES[settings.published] if settings.published else None
    return [
        Cell(
            label,
            protocol,
            metric,
            cuts,
            scores[label],
            None
            if label == settings.baseline
            else paired_interval(column, values[settings.baseline], *draws),
            None if label == best else paired_interval(column, values[best], *draws),
            getattr(published[label], metric)
            if table and protocol == table.protocol and label in published
            else None,
        )
        for label, column in values.items()
    ]


def to_csv(cells: Iterable[Cell]) -> str:
    """One line a cell; the 95 % intervals beside the means."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    estimates = ("score", "to_baseline", "to_best")
    writer.writerow(
        ["label", "protocol", "metric", "cuts", "images", "left_out"]
        + [f"{name}{part}" for name in estimates for part in ("", "_low", "_high")]
        + ["published", "score_minus_published"]
    )
    for cell in cells:
        row: list[object] = [cell.label, cell.protocol, cell.metric, int(cell.cuts)]
        row += [cell.score.count, cell.score.left_out]
        for name in estimates:
            estimate: Estimate | None = getattr(cell, name)
            row += ["", "", ""] if estimate is None else _numbers(estimate)
        row += (
            ["", ""]
            if cell.published is None
            else [
                cell.published,
                repr(cell.score.mean - cell.published),
            ]
        )
        writer.writerow(row)
    return text.getvalue()


def _numbers(estimate: Estimate) -> list[str]:
    if not estimate.count:
        return ["", "", ""]
    return [repr(estimate.mean), repr(estimate.low), repr(estimate.high)]


def to_markdown(
    cells: Sequence[Cell],
    settings: TableSettings,
    published: PublishedTable | None,
    evaluation: Evaluation,
) -> str:
    """The table as a section of Markdown; every number stands under the name of its protocol."""
    cut_count = int(evaluation.scores["cut"].sum())
    lines = [f"## {settings.title}", "", _what(evaluation, cut_count), ""]
    for cuts in (False, True):
        chosen = [cell for cell in cells if cell.cuts == cuts]
        if not chosen:
            continue
        if cut_count:
            heading = "All triplets, those with a jump cut too" if cuts else "Without jump cuts"
            lines += [f"### {heading}", ""]
        lines += _means(chosen) + [""]
        for protocol in settings.protocols:
            lines += _differences(chosen, protocol, settings.baseline) + [""]
    if published is not None and any(cell.published is not None for cell in cells):
        lines += _beside(cells, published) + [""]
    lines += ["Means with 95 % bootstrap intervals over the images. Differences are means over"]
    lines += ["the images of one model's score minus the other's, image by image; where the"]
    lines += ["interval holds 0, the two cannot be told apart. The protocols:", ""]
    lines += [f"- {PROTOCOLS[name]}" for name in settings.protocols]
    left_out = max(cell.score.left_out for cell in cells)
    if left_out:
        lines += [
            "",
            f"Up to {left_out} images are predicted without any error; their PSNR is infinite and "
            "not part of a mean.",
        ]
    return "\n".join(lines) + "\n"


def _what(evaluation: Evaluation, cut_count: int) -> str:
    settings, scores = evaluation.settings, evaluation.scores
    text = f"{len(scores)} triplets of {scores['sequence'].nunique()} sequences"
    if settings.size:
        text += f", scaled to {settings.size[0]}x{settings.size[1]} ({settings.scaler})"
    if settings.crop:
        text += f", centre {settings.crop}x{settings.crop}"
    return f"{text}; {cut_count} hold a jump cut."


def _means(cells: Sequence[Cell]) -> list[str]:
    columns = list(dict.fromkeys((cell.protocol, cell.metric) for cell in cells))
    head = ["Model", *(f"{metric.upper()}{UNITS[metric]}, `{name}`" for name, metric in columns)]
    found = {(cell.label, cell.protocol, cell.metric): cell for cell in cells}
    body = []
    for label in dict.fromkeys(cell.label for cell in cells):
        row = [label]
        for name, metric in columns:
            cell = found[label, name, metric]
            text = _interval(cell.score, metric)
            row.append(f"**{text}**" if cell.to_best is None else text)
        body.append(row)
    return _rows(head, body)


def _differences(cells: Sequence[Cell], protocol: str, baseline: str) -> list[str]:
    head = ["Model"]
    for metric in METRICS:
        head += [f"{metric.upper()}{UNITS[metric]} − {baseline}, `{protocol}`", "Verdict"]
        head += [f"{metric.upper()} − best, `{protocol}`"]
    found = {(c.label, c.metric): c for c in cells if c.protocol == protocol}
    body = []
    for label in dict.fromkeys(cell.label for cell in cells):
        row = [label]
        for metric in METRICS:
            cell = found[label, metric]
            row += [_signed(cell.to_baseline, metric), verdict(cell.to_baseline)]
            row += ["best" if cell.to_best is None else _signed(cell.to_best, metric)]
        body.append(row)
    return _rows(head, body)


def verdict(difference: Estimate | None) -> str:
    """What a paired difference says: better, worse, or that the two cannot be told apart."""
    if difference is None or not difference.count:
        return "–"
    if difference.low > 0:
        return "better"
    if difference.high < 0:
        return "worse"
    return "cannot be told apart"


def _beside(cells: Sequence[Cell], published: PublishedTable) -> list[str]:
    # The papers say nothing of cuts, so theirs are means over all triplets.
    with_all = any(cell.cuts for cell in cells)
    chosen = [c for c in cells if c.cuts == with_all and c.published is not None]
    head = ["Model"]
    for metric in METRICS:
        name = f"{metric.upper()}{UNITS[metric]}"
        head += [f"{name}, `{published.protocol}`", "published", "difference"]
    found = {(cell.label, cell.metric): cell for cell in chosen}
    body = []
    for label in dict.fromkeys(cell.label for cell in chosen):
        row = [label]
        for metric in METRICS:
            cell = found[label, metric]
            assert cell.published is not None
            digits = DECIMALS[metric]
            row += [f"{cell.score.mean:.{digits}f}", f"{cell.published:g}"]
            row += [f"{cell.score.mean - cell.published:+.{digits}f}"]
        body.append(row)
    return ["### Beside the published numbers", "", f"{published.source}.", "", *_rows(head, body)]


def _interval(estimate: Estimate, metric: str) -> str:
    if not estimate.count:
        return "–"
    digits = DECIMALS[metric]
    return f"{estimate.mean:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def _signed(estimate: Estimate | None, metric: str) -> str:
    if estimate is None or not estimate.count:
        return "–"
    digits = DECIMALS[metric]
    return (
        f"{estimate.mean:+.{digits}f} ({estimate.low:+.{digits}f} to {estimate.high:+.{digits}f})"
    )


def _rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    align = ["---", *("---:" for _ in head[1:])]
    return ["| " + " | ".join(row) + " |" for row in [head, align, *body]]
