"""The summary counts what the store and its candidates hold; the pictures show it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import MidframeError
from pipeline.look.inspection import SHEET_COLUMNS, contact_sheet, inspect, summarise
from pipeline.store.patch_store import PatchStore
from tests.conftest import SMALL_PATCHES


def test_the_summary_adds_up(patches: Path) -> None:
    store = PatchStore.open(patches)
    summary = summarise(store)
    assert summary["patches"] == len(store) == summary["windows"]["taken"]
    assert summary["windows_tried"] == sum(summary["windows"].values())
    assert summary["windows_tried"] == summary["triplets"] * SMALL_PATCHES.tries
    assert sum(counts["taken"] for counts in summary["sequences"].values()) == len(store)
    assert summary["jump_cuts"] == {"cut": [4], "ride": [4]}
    motion = summary["motion_taken"]
    assert 0 < motion["minimum"] <= motion["median"] <= motion["maximum"]
    assert motion["maximum"] == round(store.table()["motion"].max(), 4)


def test_the_files_are_written_and_the_page_needs_no_other(patches: Path, tmp_path: Path) -> None:
    inspect(patches, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["patch_size"] == 48
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        sheet.verify()
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'src="data:image/png;base64,' in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")
    assert "4|5" in page


def test_a_store_of_a_dataset_of_the_paper_stands_beside_its_number(
    patches: Path, tmp_path: Path
) -> None:
    assert summarise(PatchStore.open(patches))["paper"] is None
    copy = Path(shutil.copytree(patches, tmp_path / "copy"))
    manifest = json.loads((copy / "manifest.json").read_text())
    assert manifest["dataset_sources"] == ["folder"]
    manifest["dataset_sources"] = ["davis-2016"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    store = PatchStore.open(copy)
    tried = 6 * SMALL_PATCHES.tries
    assert summarise(store)["paper"] == {
        "triplets": {"paper": 1135, "here": 6, "difference": 6 - 1135},
        "windows": {"paper": 34050, "here": tried, "difference": tried - 34050},
        "patches": {"paper": 9952, "here": len(store), "difference": len(store) - 9952},
    }
    inspect(copy, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Beside the paper" in page
    assert f"{6 - 1135:+,}" in page


def test_a_tile_of_the_sheet_shows_its_patch(patches: Path) -> None:
    store = PatchStore.open(patches)
    sheet = contact_sheet(store)
    assert sheet.width == pytest.approx(SHEET_COLUMNS * 298, abs=10)
    first = store.read([0])[0]
    left, top = 10, 5 + 18
    tile = sheet.crop((left + 96, top, left + 192, top + 96)).resize((48, 48))
    expected = Image.fromarray(first[1])
    difference = np.asarray(tile, float) - np.asarray(expected, float)
    assert abs(difference.mean()) < 1


def test_no_patch_directory_and_an_unwritable_place_are_named(
    patches: Path, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(MidframeError, match="is a frames directory, not a patches directory"):
        inspect(dataset, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(MidframeError, match="cannot write here"):
        inspect(patches, tmp_path / "file" / "below")
