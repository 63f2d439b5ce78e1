"""Flags are read as they were written, and what they mark as bad is skipped."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import MidframeError
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.store.export import export
from pipeline.store.flags import (
    Flag,
    Window,
    flags_file,
    read_excluded,
    read_flags,
    write_flags,
)
from pipeline.store.patch_store import PatchStore
from tests.conftest import SMALL_PATCHES

BAD = Window("ride", 3, 10, 20)
FLAGS = {BAD: Flag("bad", "zerrissen: „über“"), Window("cut", 0, 1, 2): Flag("interesting")}


def window(table: pd.DataFrame, row: int) -> Window:
    found = table.iloc[row]
    first_frame, top, left = (int(found[name]) for name in Window._fields[1:])
    return Window(str(found["sequence"]), first_frame, top, left)


def test_flags_come_back_and_only_bad_ones_exclude(tmp_path: Path) -> None:
    file = flags_file(tmp_path / "patches")
    assert file == tmp_path / "patches.flags.json"
    write_flags(file, FLAGS)
    assert read_flags(file) == FLAGS
    assert read_excluded([file]) == {BAD}
    assert [path.name for path in tmp_path.iterdir()] == ["patches.flags.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a file of flags"),
        ("[]", "not a file of flags"),
        ('{"kind": "flags", "format_version": 7}', "format version 7"),
        (
            '{"kind": "flags", "format_version": 1, "flags": [{"sequence": "a", "first_frame": 0,'
            ' "top": 0, "left": 0, "mark": "odd", "note": ""}]}',
            "flags.0.*mark",
        ),
    ],
)
def test_another_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "flags.json").write_text(text)
    with pytest.raises(MidframeError, match=message):
        read_flags(tmp_path / "flags.json")
    with pytest.raises(MidframeError, match="cannot be read"):
        read_flags(tmp_path / "none.json")


def test_a_store_is_built_as_before_without_what_is_marked_bad(
    source: Source, patches: Path, tmp_path: Path
) -> None:
    before = PatchStore.open(patches)
    write_flags(tmp_path / "flags.json", {window(before.table(), 2): Flag("bad")})
    sample([source], tmp_path / "out", SMALL_PATCHES, workers=0, exclude=[tmp_path / "flags.json"])
    after = PatchStore.open(tmp_path / "out")
    expected = before.table().drop(index=2).reset_index(drop=True)
    pd.testing.assert_frame_equal(after.table(), expected)
    assert after.manifest["windows"]["excluded"] == 1
    assert after.read([2]).tobytes() == before.read([3]).tobytes()


def test_an_export_leaves_out_what_is_marked_bad(patches: Path, tmp_path: Path) -> None:
    store = PatchStore.open(patches)
    write_flags(tmp_path / "flags.json", {window(store.table(), 0): Flag("bad")})
    export([patches], tmp_path / "out", "vimeo90k", workers=0, exclude=[tmp_path / "flags.json"])
    listed = pd.read_csv(tmp_path / "out" / "coordinates.csv")
    assert listed["top"].tolist() == store.table()["top"].tolist()[1:]
    assert len(list((tmp_path / "out" / "sequences").rglob("im1.png"))) == len(store) - 1
