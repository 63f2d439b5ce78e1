"""Numbers of other methods as they stand in papers; none of them was measured here.

They are data, in ``literature.csv``: one row a method and benchmark, with the paper and table that
it was read from. ``origin`` says whether that paper measured it or copied it from another, and
``procedure`` whose test procedure the paper says it followed, where it does. What a paper does not
print is empty.
"""

import csv
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

HEADING = "Published numbers, not measured here"
NAMES = {
    "middlebury-other": "Middlebury other",
    "vimeo-90k": "Vimeo-90K",
    "ucf101": "UCF101",
    "snu-film-easy": "SNU-FILM easy",
    "snu-film-medium": "SNU-FILM medium",
    "snu-film-hard": "SNU-FILM hard",
    "snu-film-extreme": "SNU-FILM extreme",
    "xiph-2k": "Xiph 2K",
    "xiph-4k": "Xiph 4K",
}


class Published(NamedTuple):
    """A row of `literature.csv`; numbers as printed, empty where the paper gives none."""

    benchmark: str
    method: str
    psnr: str
    ssim: str
    ie: str
    origin: str
    procedure: str
    source: str


def read() -> list[Published]:
    """All published numbers, in the order of the benchmarks."""
    text = (resources.files("model.reporting") / "literature.csv").read_text(encoding="utf-8")
    return [Published(**row) for row in csv.DictReader(text.splitlines())]


def literature(benchmark: str) -> list[str]:
    """The published numbers of a benchmark as Markdown lines, under a heading of their own."""
    rows = [row for row in read() if row.benchmark == benchmark]
    head = ["Method", *(["IE ↓"] if rows[0].ie else ["PSNR dB", "SSIM"]), "Procedure", "Printed in"]
    body = [
        [
            row.method,
            *([row.ie] if row.ie else [row.psnr, row.ssim]),
            row.procedure or "not stated",
            row.source + (", which copied it" if row.origin == "copied" else ""),
        ]
        for row in rows
    ]
    return [
        f"### {HEADING}: {NAMES[benchmark]}",
        "",
        "As printed in the papers named. Their preparation of frames and their arithmetic may "
        "differ from every protocol above, so they are not compared with our rows and take no "
        "part in means, intervals or verdicts.",
        "",
        *_rows(head, body),
    ]


def _rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body]]
