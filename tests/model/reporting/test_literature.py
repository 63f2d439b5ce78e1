"""Numbers of papers: where they are from, and that they stand apart from ours."""

from pathlib import Path

import pytest

from model.evaluation.evaluate import evaluate
from model.reporting.literature import HEADING, NAMES, literature, read
from model.reporting.tables import make_table
from model.settings import EvaluationSettings, TableSettings


def test_every_number_has_a_source_and_a_sane_value() -> None:
    for row in read():
        assert row.source
        assert row.origin in ("measured", "copied", "")
        if row.benchmark == "middlebury-other":
            assert 1 < float(row.ie) < 5
            assert not row.psnr
        else:
            assert 20 < float(row.psnr) < 45
            assert 0.8 < float(row.ssim) < 1


def test_every_benchmark_has_sepconv_and_at_least_ten_others() -> None:
    for benchmark in NAMES:
        methods = [row.method for row in read() if row.benchmark == benchmark]
        assert "SepConv" in methods
        assert len(set(methods)) == len(methods) >= 11


@pytest.mark.parametrize("benchmark", NAMES)
def test_published_numbers_have_a_heading_and_columns_of_their_own(benchmark: str) -> None:
    lines = literature(benchmark)
    assert lines[0].startswith(f"### {HEADING}")
    assert any("Printed in" in line for line in lines)


def test_a_table_shows_them_after_ours_and_never_in_its_csv(
    small_frames: Path, tmp_path: Path
) -> None:
    evaluate(small_frames, "linear", EvaluationSettings(sequences=["ride"]), tmp_path / "out")
    settings = TableSettings(protocols=["middlebury"], literature="middlebury-other")
    make_table([tmp_path / "out"], settings, tmp_path / "table")
    text = (tmp_path / "table" / "table.md").read_text()
    ours, theirs = text.split(f"### {HEADING}")
    assert "SepConv" not in ours
    assert "| SepConv | 2.27 |" in theirs
    assert "SepConv" not in (tmp_path / "table" / "table.csv").read_text()
    assert "IE ↓" in ours
