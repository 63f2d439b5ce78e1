"""Tables over several evaluations: what each model scored, and whether two can be told apart."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from model.evaluation.bootstrap import Estimate
from model.evaluation.evaluate import Evaluation, open_evaluation
from model.evaluation.measures import MEASURES
from model.evaluation.scoring import describe, measures_of
from model.reporting.comparison import SAME, Cell, compare, verdict
from model.reporting.literature import literature
from model.reporting.published import TABLES, PublishedScore, PublishedTable
from model.settings import TableSettings
from pipeline.errors import MidframeError
from pipeline.provenance import publish, write_manifest

KIND = "table"
FORMAT_VERSION = 1
PUBLISHED = ("psnr", "ssim")  # measures of the tables that stand beside ours row by row
FEW_SEQUENCES = 3  # so many are told in the table; more are in the manifests of the evaluations
LEGEND = """Means with 95 % bootstrap intervals; bold: the best mean, the lowest where ↓ stands;
†: cannot be told apart from it. Intervals are over videos: sequences are drawn, then triplets in
them. With fewer than 5 sequences none can be given; the interval is then over triplets, marked ‡,
and there is no verdict.
Differences are taken triplet by triplet; two models are told apart where the interval of their
mean difference excludes 0 and its probability, corrected for all comparisons of the table
(Holm), is at most 5 %. The protocols:"""


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
    _check_measured(opened, settings)
    published = TABLES[settings.published] if settings.published else None
    rows = _published_rows(settings, published)
    cells = compare(dict(zip(labels, opened, strict=True)), rows, settings)
    with publish(out) as partial:
        (partial / "table.csv").write_text(to_csv(cells), encoding="utf-8")
        text = to_markdown(cells, settings, published, dict(zip(labels, opened, strict=True)))
        (partial / "table.md").write_text(text, encoding="utf-8")
        inputs = {f"{index}": path for index, path in enumerate(evaluations)}
        write_manifest(partial, KIND, FORMAT_VERSION, settings, inputs, labels=labels)


def skip_table(why: str, settings: TableSettings, out: Path) -> None:
    """Publish a table that says why it has no rows: what it measures is not there."""
    with publish(out) as partial:
        (partial / "table.csv").write_text(to_csv([]), encoding="utf-8")
        text = f"## {settings.title}\n\nSkipped: {why}.\n"
        (partial / "table.md").write_text(text, encoding="utf-8")
        write_manifest(partial, KIND, FORMAT_VERSION, settings, labels=[], skipped=why)


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
    for name, runs in settings.seeds.items():
        if missing := [run for run in runs if run not in labels]:
            raise MidframeError(
                f"seeds: {name}: no row '{missing[0]}'; there are: {', '.join(labels)}"
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
    unlike_settings = {"pictures", "keep"}
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


def _check_measured(evaluations: Sequence[Evaluation], settings: TableSettings) -> None:
    """Perceptual measures are there only where evaluations were told to take them."""
    for name in settings.protocols:
        for one in evaluations:
            if name not in one.protocols and name not in one.not_measured:
                raise MidframeError(
                    f"{one.directory}: '{name}' was not measured; add it to 'perceptual' of the "
                    "evaluation"
                )


def to_csv(cells: Iterable[Cell]) -> str:
    """One line a cell; the 95 % intervals beside the means."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    estimates = ("score", "to_baseline", "to_best")
    writer.writerow(
        ["label", "protocol", "metric", "cuts", "images", "left_out", "sequences"]
        + [f"{name}{part}" for name in estimates for part in ("", "_low", "_high")]
        + ["to_baseline_p", "to_best_p"]
        + ["published", "score_minus_published"]
    )
    for cell in cells:
        row: list[object] = [cell.label, cell.protocol, cell.metric, int(cell.cuts)]
        row += [cell.score.count, cell.score.left_out, cell.score.sequences]
        for name in estimates:
            estimate: Estimate | None = getattr(cell, name)
            row += ["", "", ""] if estimate is None else _numbers(estimate)
        row += [_probability(cell.to_baseline), _probability(cell.to_best)]
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


def _probability(estimate: Estimate | None) -> str:
    return "" if estimate is None or math.isnan(estimate.p) else repr(estimate.p)


def _numbers(estimate: Estimate) -> list[str]:
    if not estimate.count:
        return ["", "", ""]
    return [repr(estimate.mean), repr(estimate.low), repr(estimate.high)]


def to_markdown(
    cells: Sequence[Cell],
    settings: TableSettings,
    published: PublishedTable | None,
    evaluations: Mapping[str, Evaluation],
) -> str:
    """The table as a section of Markdown; every number stands under the name of its protocol."""
    evaluation = next(iter(evaluations.values()))
    cut_count = int(evaluation.scores["cut"].sum())
    lines = [f"## {settings.title}", "", _what(evaluation, cut_count), ""]
    for cuts in (False, True):
        chosen = [cell for cell in cells if cell.cuts == cuts]
        if not chosen:
            continue
        if cut_count:
            heading = "All triplets, those with a jump cut too" if cuts else "Without jump cuts"
            lines += [f"### {heading}", ""]
        lines += _scores(chosen, settings.baseline) + [""]
        if settings.seeds:
            lines += _over_seeds(chosen, settings.seeds) + [""]
    if published is not None and any(cell.published is not None for cell in cells):
        lines += _beside(cells, published) + [""]
    columns = [
        f"{protocol}_psnr" for protocol in settings.protocols if "psnr" in measures_of(protocol)
    ]
    exact = max(
        (
            int(np.isinf(one.scores[column]).sum())
            for one in evaluations.values()
            for column in columns
        ),
        default=0,
    )
    if exact:
        lines += [
            f"Up to {exact} images are predicted without any error; their PSNR is infinite and "
            "not part of a mean.",
            "",
        ]
    for label, one in evaluations.items():
        if one.scored:
            lines += [_by_others(label, one), ""]
    for name in settings.protocols:
        if why := evaluation.not_measured.get(name):
            lines += [f"Not measured: {name}: {why}.", ""]
    if settings.literature is not None:
        lines += [*literature(settings.literature), ""]
    lines += [LEGEND, ""]
    lines += [f"- {describe(name)}" for name in settings.protocols]
    return "\n".join(lines) + "\n"


def _what(evaluation: Evaluation, cut_count: int) -> str:
    settings, scores = evaluation.settings, evaluation.scores
    sequences = scores["sequence"].nunique()
    text = f"{len(scores)} triplets of {sequences} sequence{'s' if sequences > 1 else ''}"
    if settings.size:
        text += f", scaled to {settings.size[0]}x{settings.size[1]} ({settings.scaler})"
    if settings.crop:
        text += f", centre {settings.crop}x{settings.crop}"
    text += f"; with a jump cut: {cut_count}."
    if len(evaluation.sequences) <= FEW_SEQUENCES:
        sources = [_source(name, of) for name, of in evaluation.sequences.items()]
        text += f" Read from {'; '.join(sources)}."
    return text


def _by_others(label: str, evaluation: Evaluation) -> str:
    """What predictions by others were, and that some are missing."""
    scored = evaluation.scored
    made = f"by `{scored['command']}`" if "command" in scored else f"in {scored['predictions']}"
    text = f"{label}: predictions of another program, {made}, SHA-256 `{scored['sha256']}`."
    if evaluation.missing:
        text += (
            f" {evaluation.missing} of {len(evaluation.scores)} could not be scored, so its mean "
            "is over fewer triplets than the others'; differences are over those in common."
        )
    return text


def _source(name: str, described: Mapping[str, Any]) -> str:
    """What a sequence was read from, in words."""
    text = f"{name}: {described['width']}x{described['height']}"
    if described.get("frame_count"):
        text += f", {described['frame_count']} frames"
    if described.get("fps"):
        text += f", {float(Fraction(described['fps'])):.6g} fps"
    return f"{text}, SHA-256 `{described['sha256']}`"


def _scores(cells: Sequence[Cell], baseline: str) -> list[str]:
    """One table for each set of measures, since a column holds one measure."""
    found = {(cell.protocol, cell.label, cell.metric): cell for cell in cells}
    rows: dict[tuple[str, ...], list[list[str]]] = {}
    for protocol, label in dict.fromkeys((cell.protocol, cell.label) for cell in cells):
        row = [f"`{protocol}`", label]
        for metric in measures_of(protocol):
            cell = found[protocol, label, metric]
            row += [_marked(cell), _difference(cell)]
        rows.setdefault(measures_of(protocol), []).append(row)
    lines: list[str] = []
    for metrics, body in rows.items():
        head = ["Protocol", "Model"]
        for metric in metrics:
            head += [MEASURES[metric].heading, f"minus {baseline}"]
        lines += [*([""] if lines else []), *_rows(head, body)]
    return lines


def _over_seeds(cells: Sequence[Cell], seeds: Mapping[str, Sequence[str]]) -> list[str]:
    """Mean and standard deviation over the training runs of a stage."""
    found = {(cell.protocol, cell.label, cell.metric): cell.score.mean for cell in cells}
    rows: dict[tuple[str, ...], list[list[str]]] = {}
    for protocol in dict.fromkeys(cell.protocol for cell in cells):
        for name, runs in seeds.items():
            row = [f"`{protocol}`", name, str(len(runs))]
            for metric in measures_of(protocol):
                means = [found[protocol, run, metric] for run in runs]
                digits = MEASURES[metric].digits
                row.append(
                    f"{statistics.fmean(means):.{digits}f} ± {statistics.stdev(means):.{digits}f}"
                )
            rows.setdefault(measures_of(protocol), []).append(row)
    lines: list[str] = []
    for metrics, body in rows.items():
        head = ["Protocol", "Stage", "Training runs", *(MEASURES[m].heading for m in metrics)]
        lines += [*([""] if lines else []), *_rows(head, body)]
    told = "Mean and standard deviation over training runs that differ in their seed:"
    return [told, "", *lines]


def _marked(cell: Cell) -> str:
    """The mean, bold where it is the best, with a dagger where it cannot be told from the best."""
    text = _interval(cell.score, cell.metric)
    if cell.to_best is None:
        return f"**{text}**"
    return f"{text} †" if verdict(cell.to_best, cell.metric) == SAME else text


def _difference(cell: Cell) -> str:
    if cell.to_baseline is None or not cell.to_baseline.count:
        return "–"
    # An interval over triplets has its sign, ‡, instead of a verdict.
    parts = [_signed(cell.to_baseline, cell.metric), verdict(cell.to_baseline, cell.metric)]
    return ", ".join(filter(None, parts))


def _beside(cells: Sequence[Cell], published: PublishedTable) -> list[str]:
    # The papers say nothing of cuts, so theirs are means over all triplets.
    with_all = any(cell.cuts for cell in cells)
    chosen = [c for c in cells if c.cuts == with_all and c.published is not None]
    head = ["Model"]
    for metric in PUBLISHED:
        name = MEASURES[metric].heading
        head += [f"{name}, `{published.protocol}`", "published", "difference"]
    found = {(cell.label, cell.metric): cell for cell in chosen}
    body = []
    for label in dict.fromkeys(cell.label for cell in chosen):
        row = [label]
        for metric in PUBLISHED:
            cell = found[label, metric]
            assert cell.published is not None
            digits = MEASURES[metric].digits
            row += [f"{cell.score.mean:.{digits}f}", f"{cell.published:g}"]
            row += [f"{cell.score.mean - cell.published:+.{digits}f}"]
        body.append(row)
    return ["### Beside the published numbers", "", f"{published.source}.", "", *_rows(head, body)]


def _interval(estimate: Estimate, metric: str) -> str:
    if not estimate.count:
        return "–"
    digits = MEASURES[metric].digits
    interval = f"{estimate.low:.{digits}f} to {estimate.high:.{digits}f}"
    return f"{estimate.mean:.{digits}f} ({interval}{_over(estimate)})"


def _over(estimate: Estimate) -> str:
    return "" if estimate.over_videos else " ‡"


def _signed(estimate: Estimate, metric: str) -> str:
    digits = MEASURES[metric].digits
    interval = f"{estimate.low:+.{digits}f} to {estimate.high:+.{digits}f}"
    return f"{estimate.mean:+.{digits}f} ({interval}{_over(estimate)})"


def _rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    align = ["---"] * len(head)
    return ["| " + " | ".join(row) + " |" for row in [head, align, *body]]
