"""The report's page: what stands in it, and that it needs no other file but the videos."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from model.evaluation.evaluate import evaluate
from model.reporting.figures import make_figures
from model.reporting.report import Parts, caption, headline, to_html, write_report
from model.reporting.tables import make_table, skip_table
from model.settings import EvaluationSettings, FigureSettings, TableSettings
from pipeline.errors import MidframeError


@pytest.fixture(scope="module")
def parts(small_frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("results")
    chosen = EvaluationSettings.model_validate({"pictures": ["ride:0"]})
    evaluate(small_frames, "linear", chosen, folder / "linear")
    make_table([folder / "linear"], TableSettings(title="Rides & cuts"), folder / "table")
    drawing = FigureSettings.model_validate({"dpi": 60})
    make_figures([], [folder / "linear"], [], drawing, folder / "figures")
    (folder / "look").mkdir()
    summary = {
        "patches": 1200,
        "patch_size": 150,
        "split": "train",
        "triplets": 80,
        "windows_tried": 2400,
        "windows": {"taken": 1200, "little motion": 1200},
        "jump_cuts": {"ride": [29, 75], "boat": []},
        "skipped": [{"sequence": "stamp", "reason": "too small"}],
        "paper": None,
    }
    (folder / "look" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    Image.new("RGB", (8, 8)).save(folder / "look" / "contact_sheet.png")
    (folder / "double #1.mp4").write_bytes(b"video")
    return Parts(
        inspections=[folder / "look"],
        evaluations=[folder / "linear"],
        tables=[folder / "table"],
        figures=[folder / "figures"],
        videos=[folder / "double #1.mp4"],
    )


@pytest.fixture(scope="module")
def page(parts: Parts) -> str:
    out = parts.tables[0].parent / "report.html"
    write_report(parts, out, "Small <experiment>")
    return out.read_text(encoding="utf-8")


def test_tables_stand_in_the_page_with_their_protocols(page: str) -> None:
    assert "<h3>Rides &amp; cuts</h3>" in page
    assert re.search(r"<td><code>standard</code></td><td>linear</td><td><strong>\d+\.\d\d ", page)
    assert "<li>niklaus: prediction truncated to 8 bits" in page


def test_how_tables_are_read_is_told_once(parts: Parts, tmp_path: Path) -> None:
    twice = Parts(tables=[*parts.tables, *parts.tables])
    write_report(twice, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("<h3>Rides &amp; cuts</h3>") == 2
    assert text.count("Means with 95 % bootstrap intervals") == 1


def test_the_page_begins_with_the_best_model_of_each_table(
    small_frames: Path, tmp_path: Path
) -> None:
    names = ("linear", "nothing")
    for name in names:
        evaluate(small_frames, "linear", EvaluationSettings(), tmp_path / name, label=name)
    scores = pd.read_csv(tmp_path / "nothing" / "scores.csv", dtype={"sequence": str})
    scores["standard_psnr"] += 0.5
    scores.to_csv(tmp_path / "nothing" / "scores.csv", index=False)
    kept = scores[scores["cut"] == 0]["standard_psnr"].mean()
    make_table([tmp_path / name for name in names], TableSettings(), tmp_path / "table")
    assert headline(tmp_path / "table") == (
        f"Evaluation: nothing {kept:.2f} dB, linear {kept - 0.5:.2f} dB: +0.50 dB (+0.50 to +0.50 "
        "over triplets, too few videos to tell) (PSNR, standard)."
    )
    skip_table("data/ucf101: no such folder", TableSettings(), tmp_path / "absent")
    assert headline(tmp_path / "absent") == ""


def test_what_was_skipped_is_told_with_the_reason(parts: Parts, tmp_path: Path) -> None:
    why = "ucf101: data/ucf101: no such folder"
    write_report(Parts(tables=parts.tables, skipped=[why]), tmp_path / "report.html")
    assert f"<li>{why}</li>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_pictures_are_inside_the_page(page: str) -> None:
    sources = re.findall(r'<img src="([^"]{0,40})', page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_videos_are_linked_by_relative_paths(page: str) -> None:
    assert 'href="double%20%231.mp4"' in page


def test_the_dataset_is_told_with_its_cuts_and_what_was_skipped(page: str) -> None:
    assert "1,200 triplets of 150×150 pixels" in page
    assert "ride 29|30, 75|76; boat none." in page
    assert "Skipped: stamp (too small)." in page


def test_what_was_run_is_told_with_digests_and_settings(parts: Parts, page: str) -> None:
    manifest = json.loads((parts.tables[0] / "manifest.json").read_text(encoding="utf-8"))
    assert f"<code>{manifest['settings_digest'][:12]}</code>" in page
    assert f"numpy {manifest['packages']['numpy']}" in page
    assert "&#34;resamples&#34;: 2000" in page


def test_a_title_is_text_and_no_markup(page: str) -> None:
    assert "<h1>Small &lt;experiment&gt;</h1>" in page


def test_equal_parts_give_equal_pages(parts: Parts, page: str) -> None:
    again = parts.tables[0].parent / "again.html"
    write_report(parts, again, "Small <experiment>")
    assert again.read_text(encoding="utf-8") == page


def test_markup_in_a_table_is_text() -> None:
    text = to_html("| Model |\n| --- |\n| **<b>** |\n")
    assert "<td><strong>&lt;b&gt;</strong></td>" in text


def test_captions_name_what_is_shown() -> None:
    assert "boat-2, triplet of frame 6" in caption("comparison-boat-2-00006")
    assert caption("resolutions-car-turn-00030").startswith("The same frame at several")
    assert "epochs" in caption("loss_curve")


def test_nothing_to_report_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="there is nothing to report"):
        write_report(Parts(), tmp_path / "report.html")


def test_a_part_of_another_kind_is_one_clear_line(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="is a table directory, not a figures directory"):
        write_report(Parts(figures=parts.tables), tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_a_missing_video_is_one_clear_line(parts: Parts, tmp_path: Path) -> None:
    missing = Parts(tables=parts.tables, videos=[tmp_path / "none.mp4"])
    with pytest.raises(MidframeError, match=r"none\.mp4: no such video file"):
        write_report(missing, tmp_path / "report.html")
