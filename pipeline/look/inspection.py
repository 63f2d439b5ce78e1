"""A look at a patch store: summary, contact sheet, and a page that shows both."""

import base64
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import MidframeError
from pipeline.mirrors import shown
from pipeline.selection.judging import Reason
from pipeline.selection.published import beside_paper
from pipeline.store.patch_store import PatchStore

SHEET_COLUMNS = 4
SHEET_SAMPLES = 32
TILE = 96  # pixels
CAPTION = 18  # pixels


def inspect(patches: Path, out: Path) -> None:
    """Write ``summary.json``, ``contact_sheet.png`` and ``index.html`` of a patch directory.

    Raises
    ------
    MidframeError
        if ``patches`` is no patch directory, or ``out`` cannot be written.
    """
    store = PatchStore.open(patches)
    summary = summarise(store)
    sheet = contact_sheet(store)
    page = _page(store, summary, sheet)
    try:
        out.mkdir(parents=True, exist_ok=True)
        sheet.save(out / "contact_sheet.png")
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        (out / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise MidframeError(f"{out}: cannot write here ({error.strerror})") from None


def summarise(store: PatchStore) -> dict[str, Any]:
    """What a store holds and how it came to be, as JSON values.

    Counts of triplets, windows (tried, and by outcome) and samples; motion in pixels of the
    windows tried and taken; counts by sequence; jump cuts; sequences and frames skipped; sequences
    found twice; settings.
    """
    candidates = store.candidates()
    taken = candidates[candidates["reason"] == Reason.TAKEN]
    outcomes = pd.crosstab(candidates["sequence"], candidates["reason"])
    triplets = candidates.groupby("sequence")["first_frame"].nunique()
    return {
        "patches": len(store),
        "patch_size": store.patch_size,
        "split": store.manifest["settings"]["split"],
        "triplets": int(triplets.sum()),
        "triplets_with_patches": int(taken.groupby(["sequence", "first_frame"]).ngroups),
        "windows_tried": len(candidates),
        "windows": store.manifest["windows"],
        "motion_tried": _quartiles(candidates["motion"]),
        "motion_taken": _quartiles(taken["motion"]),
        "sequences": {
            str(name): {
                "triplets": int(triplets[name]),
                **{reason.value: int(outcomes.loc[name].get(reason.value, 0)) for reason in Reason},
            }
            for name in outcomes.index
        },
        "jump_cuts": store.manifest["jump_cuts"],
        "skipped": store.manifest["skipped"],
        "duplicates": store.manifest["duplicates"],
        "paper": beside_paper(store.manifest),
        "settings": store.manifest["settings"],
        "settings_digest": store.manifest["settings_digest"],
    }


def _quartiles(motion: pd.Series) -> dict[str, float | None]:
    known = motion.dropna()
    names = {"minimum": 0.0, "quartile_1": 0.25, "median": 0.5, "quartile_3": 0.75, "maximum": 1.0}
    return {
        name: round(float(known.quantile(share)), 4) if len(known) else None
        for name, share in names.items()
    }


def contact_sheet(store: PatchStore) -> Image.Image:
    """Samples spread evenly over the store: first, middle and third frame side by side.

    Above each its sequence, first frame, place and motion.
    """
    count = min(SHEET_SAMPLES, len(store))
    indices = np.linspace(0, len(store) - 1, count).round().astype(int)
    table = store.table()
    font = ImageFont.load_default(size=11)
    cell = (3 * TILE + 10, TILE + CAPTION + 8)
    rows = -(-count // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * cell[0] + 10, rows * cell[1] + 10), "white")
    draw = ImageDraw.Draw(sheet)
    for position, (index, triplet) in enumerate(zip(indices, store.read(indices), strict=True)):
        left = 10 + position % SHEET_COLUMNS * cell[0]
        top = 5 + position // SHEET_COLUMNS * cell[1]
        row = table.iloc[int(index)]
        caption = (
            f"{row['sequence'][-18:]} {row['first_frame']}-{row['first_frame'] + 2}"
            f"  ({row['left']}, {row['top']})  {row['motion']:.1f} px"
        )
        draw.text((left, top), caption, fill="black", font=font)
        for frame, pixels in enumerate(triplet):
            tile = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left + frame * TILE, top + CAPTION))
    return sheet


def _motion_histogram(store: PatchStore) -> str:
    """Motion of the windows tried and taken, as the text of an SVG picture."""
    candidates = store.candidates()
    known = candidates[candidates["motion"].notna()]
    taken = known[known["reason"] == Reason.TAKEN]["motion"]
    with matplotlib.rc_context({"svg.hashsalt": "midframe"}):
        figure = Figure(figsize=(7, 2.6), layout="constrained")
        axes = figure.subplots()
        edges = np.histogram_bin_edges(known["motion"], bins=40).tolist()
        axes.hist(known["motion"], bins=edges, color="#c8d3df", label="tried")
        axes.hist(taken, bins=edges, color="#2b6ca3", label="taken")
        axes.set_xlabel("motion of the window (pixels)")
        axes.set_ylabel("windows")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()[picture.getvalue().index("<svg") :]


def _page(store: PatchStore, summary: dict[str, Any], sheet: Image.Image) -> str:
    """One page that needs no other file."""
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    template = (resources.files("pipeline.look") / "inspection.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        name=store.path.name,
        path=shown(store.path),
        summary=summary,
        reasons=[reason.value for reason in Reason],
        histogram=_motion_histogram(store),
        sheet=base64.b64encode(encoded.getvalue()).decode(),
    )
