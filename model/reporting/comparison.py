"""Several models on the same images: their means, and how far they differ image by image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.evaluation.bootstrap import CONFIDENCE, Estimate, holm, mean_interval, paired_interval
from model.evaluation.evaluate import Evaluation
from model.evaluation.measures import MEASURES
from model.evaluation.scoring import measures_of
from model.reporting.published import TABLES, PublishedScore
from model.settings import TableSettings

SAME = "cannot be told apart"
NONE = ""


@dataclass(frozen=True)
class Cell:
    """One model under one protocol and metric, over one choice of images.

    Attributes
    ----------
    label, protocol, metric : what was measured.
    cuts : whether triplets that hold a jump cut count.
    score : mean over the images.
    to_baseline, to_best : mean of the differences image by image, to the baseline and to the row
        with the best mean; ``None`` for that row itself. Their ``p`` is corrected for the
        number of comparisons in the whole table.
    best : label of the row with the best mean: the highest, or of an error the lowest.
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
    best: str = ""


def compare(
    evaluations: Mapping[str, Evaluation],
    published: Mapping[str, PublishedScore],
    settings: TableSettings,
) -> list[Cell]:
    """All numbers of a table: for each choice of images, protocol, metric and model, in order.

    The evaluations have measured the same images.
    """
    scores = {label: evaluation.scores for label, evaluation in evaluations.items()}
    any_scores = next(iter(scores.values()))
    # Without flagged triplets both choices are the same images.
    choices = [False, True] if any_scores["cut"].any() else [False]
    cells = []
    for cuts in choices:
        kept = np.ones(len(any_scores), bool) if cuts else any_scores["cut"].to_numpy() == 0
        measured = [
            protocol
            for protocol in settings.protocols
            if all(protocol in one.protocols for one in evaluations.values())
        ]
        for protocol in measured:
            for metric in measures_of(protocol):
                values = {
                    label: table[f"{protocol}_{metric}"].to_numpy()[kept]
                    for label, table in scores.items()
                }
                sequences = any_scores["sequence"].to_numpy()[kept]
                cells += _column(values, sequences, protocol, metric, cuts, published, settings)
    return _corrected(cells, settings.baseline)


def _column(
    values: Mapping[str, NDArray[np.float64]],
    sequences: NDArray[np.object_],
    protocol: str,
    metric: str,
    cuts: bool,
    published: Mapping[str, PublishedScore],
    settings: TableSettings,
) -> list[Cell]:
    draws = (sequences, settings.resamples, settings.seed)
    scores = {label: mean_interval(column, *draws) for label, column in values.items()}
    means = {label: score.mean for label, score in scores.items() if score.count}
    sign = 1 if MEASURES[metric].higher_is_better else -1
    best = max(means, key=lambda label: sign * means[label]) if means else settings.baseline
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
            best,
        )
        for label, column in values.items()
    ]


def _corrected(cells: list[Cell], baseline: str) -> list[Cell]:
    """The cells with every ``p`` corrected for all comparisons of the table, each counted once."""
    found: dict[tuple[str, str, bool, frozenset[str]], float] = {}
    for cell in cells:
        for other, difference in ((baseline, cell.to_baseline), (cell.best, cell.to_best)):
            if difference is not None:
                found[_pair(cell, other)] = difference.p
    corrected = dict(zip(found, holm(list(found.values())), strict=True))

    def replaced(cell: Cell, difference: Estimate | None, other: str) -> Estimate | None:
        return difference and replace(difference, p=corrected[_pair(cell, other)])

    return [
        replace(
            cell,
            to_baseline=replaced(cell, cell.to_baseline, baseline),
            to_best=replaced(cell, cell.to_best, cell.best),
        )
        for cell in cells
    ]


def _pair(cell: Cell, other: str) -> tuple[str, str, bool, frozenset[str]]:
    return cell.protocol, cell.metric, cell.cuts, frozenset({cell.label, other})


def verdict(difference: Estimate | None, metric: str = "psnr") -> str:
    """What a paired difference says: better, worse, or that the two cannot be told apart.

    ``better`` and ``worse`` need an interval over videos that excludes 0 and a ``p`` (corrected,
    in a table) of at most 5 %; with too few videos there is none (`NONE`).
    """
    if difference is None or not difference.count:
        return "–"
    if not difference.over_videos:
        return NONE
    if difference.p <= 1 - CONFIDENCE + 1e-12:
        more, less = "better", "worse"
        if not MEASURES[metric].higher_is_better:
            more, less = less, more
        if difference.low > 0:
            return more
        if difference.high < 0:
            return less
    return SAME
