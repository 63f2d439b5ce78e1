"""One page that tells an experiment to a reader who knows none of the tools behind it."""

import base64
import html
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from model.evaluation.bootstrap import FEWEST_SEQUENCES
from model.reporting.figures import FORMAT_VERSION as FIGURES_VERSION
from model.reporting.figures import KIND as FIGURES
from model.reporting.loss_curve import TRAINING_FORMAT_VERSION
from model.reporting.tables import FORMAT_VERSION as TABLE_VERSION
from model.reporting.tables import KIND as TABLE
from model.reporting.tables import LEGEND
from model.video.interpolation import complete_or_nothing
from pipeline.errors import MidframeError
from pipeline.provenance import read_manifest
from pipeline.store.evaluation_files import FORMAT_VERSION as EVALUATION_VERSION
from pipeline.store.evaluation_files import KIND as EVALUATION


@dataclass(frozen=True)
class Parts:
    """What a report is made of: directories that the stages have published, and videos.

    ``inspections`` are what ``inspect`` has written: a summary and a contact sheet. ``skipped``
    are lines that say what was skipped, and why.
    """

    inspections: Sequence[Path] = ()
    trainings: Sequence[Path] = ()
    evaluations: Sequence[Path] = ()
    tables: Sequence[Path] = ()
    figures: Sequence[Path] = ()
    videos: Sequence[Path] = ()
    skipped: Sequence[str] = ()


def write_report(parts: Parts, out: Path, title: str = "Midframe") -> None:
    """Write the page; pictures are inside it, videos are linked by their relative paths.

    Raises
    ------
    MidframeError
        if there is nothing to report, or one of the parts is not what it should be.
    """
    stages = [_stage(path) for path in parts.trainings]
    evaluations = [_run(path, EVALUATION, EVALUATION_VERSION) for path in parts.evaluations]
    tables = [_run(path, TABLE, TABLE_VERSION) for path in parts.tables]
    figures = [_run(path, FIGURES, FIGURES_VERSION) for path in parts.figures]
    runs = [*stages, *evaluations, *tables, *figures]
    datasets = [_dataset(path) for path in parts.inspections]
    if not runs and not datasets:
        raise MidframeError("report: there is nothing to report")
    for video in parts.videos:
        if not video.is_file():
            raise MidframeError(f"{video}: no such video file")
    sections = {
        "dataset": datasets,
        "training": stages,
        "tables": [*tables, *parts.skipped],
        "figures": figures,
        "videos": parts.videos,
        "runs": [True],
    }
    texts = [_text_and_legend(path) for path in parts.tables]
    template = (resources.files("model.reporting") / "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(
        title=title,
        sections=[name for name, content in sections.items() if content],
        datasets=datasets,
        stages=stages,
        tables=[to_html(text) for text, _ in texts],
        legends=[to_html(legend) for legend in dict.fromkeys(legend for _, legend in texts)],
        headlines=[line for path in parts.tables if (line := headline(path))],
        figures=[picture for run in figures for picture in _pictures(run)],
        videos=[_relative(video, out.parent) for video in parts.videos],
        skipped=parts.skipped,
        packages=runs[0]["manifest"]["packages"] if runs else {},
        runs=runs,
    )
    with complete_or_nothing(out) as partial:
        partial.write_text(page, encoding="utf-8")


def _text_and_legend(table: Path) -> tuple[str, str]:
    """A table in Markdown, and how it is to be read: the same for all, so told once."""
    text, start, legend = (table / "table.md").read_text(encoding="utf-8").partition(LEGEND)
    return text, start + legend


def headline(table: Path) -> str:
    """The result of a table in a sentence: the best model, and the baseline; or nothing.

    By the mean PSNR under the last of the table's protocols, without triplets across jump cuts.
    """
    settings = read_manifest(table, TABLE, TABLE_VERSION)["settings"]
    cells = pd.read_csv(table / "table.csv")
    protocol, baseline = settings["protocols"][-1], settings["baseline"]
    cells = cells[(cells["protocol"] == protocol) & (cells["metric"] == "psnr")]
    cells = cells[(cells["cuts"] == 0) & cells["score"].notna()].set_index("label")
    if cells.empty or baseline not in cells.index:
        return ""
    best = cells["score"].idxmax()
    line = f"{settings['title']}: {best} {cells.loc[best, 'score']:.2f} dB"
    if best != baseline:
        of = cells.loc[best]
        difference = f"{of['to_baseline']:+.2f} dB"
        interval = f"{of['to_baseline_low']:+.2f} to {of['to_baseline_high']:+.2f}"
        if of["sequences"] < FEWEST_SEQUENCES:
            interval += " over triplets, too few videos to tell"
        line += f", {baseline} {cells.loc[baseline, 'score']:.2f} dB: {difference} ({interval})"
    else:
        line += ", the highest of all"
    return f"{line} (PSNR, {protocol})."


def _stage(path: Path) -> dict[str, Any]:
    """A trained stage, with its picture of validation patches after the last epoch."""
    from model.training.visual_tests import HELD_OUT

    run = _run(path, "model", TRAINING_FORMAT_VERSION)
    name = f"epoch-{run['manifest']['last_epoch']['epoch']:04d}.png"
    return {**run, "strip": _encoded(path / "visual" / HELD_OUT / name)}


def _run(path: Path, kind: str, version: int) -> dict[str, Any]:
    manifest = read_manifest(path, kind, version)
    settings = json.dumps(manifest["settings"], indent=1, ensure_ascii=False)
    name = "/".join(path.resolve().parts[-2:])
    return {"name": name, "path": path, "manifest": manifest, "settings": settings}


def _dataset(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        return {
            "name": path.resolve().name,
            "summary": summary,
            "sheet": _encoded(path / "contact_sheet.png"),
        }
    except (OSError, ValueError) as error:
        raise MidframeError(f"{path}: not what `inspect` writes ({error})") from None


def _pictures(run: dict[str, Any]) -> Iterator[dict[str, str]]:
    for name in run["manifest"]["figures"]:
        text = caption(name, run["manifest"]["settings"]["note"])
        yield {"png": _encoded(run["path"] / f"{name}.png"), "caption": text}


def caption(name: str, note: str = "") -> str:
    """What the figure with the name of this file shows, in a sentence."""
    if name == "loss_curve":
        return (
            "Validation loss and PSNR over the epochs. A stage that started from an epoch of "
            "another counts on from there."
        )
    kind, _, triplet = name.partition("-")
    sequence, _, frame = triplet.rpartition("-")
    where = f"{sequence}, triplet of frame {int(frame)}" + (f", {note}" if note else "")
    if kind == "comparison":
        return f"The true middle frame beside its predictions, and their errors ({where})."
    return f"The same frame at several resolutions ({where})."


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def to_html(markdown: str) -> Markup:
    """The Markdown that tables are written in, as HTML: headings, tables, lists, paragraphs."""
    blocks = (block.splitlines() for block in re.split(r"\n\s*\n", markdown.strip()))
    return Markup("\n").join(_block(lines) for lines in blocks)


def _block(lines: list[str]) -> Markup:
    first = lines[0]
    if first.startswith("#"):
        level = len(first) - len(first.lstrip("#")) + 1  # the page has a heading above them
        return Markup("<h{0}>{1}</h{0}>").format(level, _inline(first.lstrip("# ")))
    if first.startswith("|"):
        rows = [line.strip("| ").split(" | ") for line in lines if not line.startswith("| ---")]
        cells = [
            Markup("").join(
                Markup("<{0}>{1}</{0}>").format("td" if number else "th", _inline(cell))
                for cell in row
            )
            for number, row in enumerate(rows)
        ]
        body = Markup("").join(Markup("<tr>{}</tr>").format(row) for row in cells)
        return Markup('<div class="wide"><table>{}</table></div>').format(body)
    if first.startswith("- "):
        items = (Markup("<li>{}</li>").format(_inline(line[2:])) for line in lines)
        return Markup("<ul>{}</ul>").format(Markup("").join(items))
    return Markup("<p>{}</p>").format(_inline(" ".join(lines)))


def _inline(text: str) -> Markup:
    escaped = html.escape(text)
    escaped = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", escaped))
