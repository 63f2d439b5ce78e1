"""Windows are filtered and sorted as their table is, and flags go beside the store."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.browse.collection import Collection, Query
from pipeline.browse.detail import describe, explain
from pipeline.browse.origins import Origins
from pipeline.browse.pictures import PictureCache, Pictures, colour_wheel
from pipeline.browse.query import parse
from pipeline.errors import MidframeError
from pipeline.frames.sequences import open_frames
from pipeline.selection.candidates import WHOLE_SCHEMA
from pipeline.selection.judging import REASONS
from pipeline.selection.triplets import Source
from pipeline.store.flags import Flag, flags_file, read_flags, write_flags
from pipeline.store.patch_store import PatchStore
from tests.conftest import directory_bytes


def test_filters_and_sorting_are_those_of_the_table(patches: Path) -> None:
    collection, table = Collection(patches), PatchStore.open(patches).candidates()
    assert len(collection.rows(Query())) == len(table)
    rows = collection.rows(parse({"reason": "taken,jump cut", "motion": "1~", "sort": "-motion"}))
    expected = table[table["reason"].isin(["taken", "jump cut"]) & (table["motion"] >= 1)]
    expected = expected.sort_values("motion", ascending=False, kind="stable")
    assert rows.tolist() == expected.index.tolist()
    both = collection.rows(parse({"sequence": "ride", "left": "10~40", "split": "train"}))
    ride = table[(table["sequence"] == "ride") & table["left"].between(10, 40)]
    assert both.tolist() == ride.index.tolist()
    assert collection.rows(parse({"split": "test"})).tolist() == []


def test_every_column_of_the_table_is_filtered_and_sorted(patches: Path) -> None:
    collection, table = Collection(patches), PatchStore.open(patches).candidates()
    for name in WHOLE_SCHEMA.names:
        values = table[name]
        # Reasons stand in the order in which the rules ask.
        key = values.map([r.value for r in REASONS].index) if name == "reason" else values
        places = collection.rows(parse({"sort": name}))
        assert places.tolist() == key.sort_values(kind="stable").index.tolist()
        wanted = values.dropna().iloc[:1].tolist()
        if wanted:
            text = (
                str(wanted[0]) if name in ("sequence", "reason") else f"{wanted[0]!r}~{wanted[0]!r}"
            )
            found = collection.rows(parse({name: text}))
            assert found.tolist() == table.index[values == wanted[0]].tolist()


def test_names_with_commas_are_written_otherwise() -> None:
    asked = parse({"sequence": "a%2Cb 50%25,c"})
    assert asked.choices == {"sequence": frozenset({"a,b 50%", "c"})}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({"motion": "fast~"}, "a range such as"),
        ({"motion": "3"}, "a range such as"),
        ({"sort": "beauty"}, "no column 'beauty'"),
        ({"what_if": "tries"}, "name:value"),
    ],
)
def test_a_query_that_makes_no_sense_is_named(
    patches: Path, address: dict[str, str], message: str
) -> None:
    with pytest.raises(MidframeError, match=message):
        Collection(patches).rows(parse(address))


def test_refused_windows_are_cut_out_of_their_frames(patches: Path, source: Source) -> None:
    collection = Collection(patches)
    given = [source.frames, source.motion]
    pictures = Pictures(collection, Origins(patches, collection.store.manifest, given))
    sequences = {sequence.name: sequence for sequence in open_frames(source.frames)}
    refused = int(collection.rows(parse({"reason": "jump cut"}))[0])
    window, size = collection.window(refused), collection.store.patch_size
    frames = list(sequences[window.sequence].read(window.first_frame, window.first_frame + 3))
    place = (slice(window.top, window.top + size), slice(window.left, window.left + size))
    np.testing.assert_array_equal(pictures.triplet(refused), [frame[place] for frame in frames])
    taken = int(collection.rows(parse({"reason": "taken"}))[0])
    np.testing.assert_array_equal(pictures.triplet(taken), collection.store.read([0])[0])
    assert pictures.tile(taken, 64).shape == (64, 192, 3)
    assert pictures.view(refused, "flow").shape == (size, size, 3)
    assert pictures.view(refused, "frame").shape == frames[1].shape


def test_missing_frames_are_said_where_they_are_needed(patches: Path, tmp_path: Path) -> None:
    collection = Collection(patches)
    pictures = Pictures(collection, Origins(tmp_path / "a" / "b", collection.store.manifest))
    refused = int(collection.rows(parse({"reason": "jump cut"}))[0])
    with pytest.raises(MidframeError, match="give their dataset directory to browse too"):
        pictures.triplet(refused)
    assert pictures.tile(int(collection.rows(parse({"reason": "taken"}))[0]), 64).any()


def test_frames_and_motion_that_go_while_they_are_shown_are_said(
    copied: Callable[[], Path],
) -> None:
    patches = copied()
    collection = Collection(patches)
    pictures = Pictures(collection, Origins(patches, collection.store.manifest))
    first, *_, last = collection.rows(parse({"reason": "jump cut"})).tolist()
    assert pictures.view(first, "flow").any()
    assert pictures.view(first, "frame").any()
    assert collection.window(first).sequence != collection.window(last).sequence or (
        collection.window(first).first_frame != collection.window(last).first_frame
    )
    shutil.rmtree(patches.parent / "datasets")
    shutil.rmtree(patches.parent / "motion")
    for view in ("flow", "frame"):
        with pytest.raises(MidframeError, match="gone|missing|no such"):
            pictures.view(last, view)


def test_every_window_says_why_and_knows_its_neighbours(patches: Path) -> None:
    collection = Collection(patches)
    settings = collection.store.manifest["settings"]
    for row in range(len(collection)):
        told = describe(collection, row)
        assert told["because"] == explain(told, settings)
        assert row in [one["row"] for one in told["triplet"]]
        for name in ("previous_triplet", "next_triplet"):
            if told[name] is not None:
                assert collection.window(told[name]).sequence == told["sequence"]
                assert collection.window(told[name]).first_frame != told["first_frame"]
    cut = int(collection.rows(parse({"reason": "jump cut"}))[0])
    assert "jump cut lies in the triplet" in describe(collection, cut)["because"]


def test_a_flag_is_written_beside_the_store_at_once(copied: Callable[[], Path]) -> None:
    patches = copied()
    before = directory_bytes(patches)
    collection = Collection(patches)
    collection.set_flag(3, Flag("bad", "torn"))
    window = collection.window(3)
    assert read_flags(flags_file(patches)) == {window: Flag("bad", "torn")}
    assert collection.describe(3)["note"] == "torn"
    assert collection.rows(parse({"flag": "bad"})).tolist() == [3]
    assert Collection(patches).rows(parse({"flag": "bad"})).tolist() == [3]
    collection.set_flag(3, None)
    assert read_flags(flags_file(patches)) == {}
    assert directory_bytes(patches) == before


def test_flags_that_another_program_wrote_are_shown_after_the_next_one(
    copied: Callable[[], Path],
) -> None:
    patches = copied()
    collection = Collection(patches)
    foreign = collection.window(7)
    nowhere = foreign._replace(sequence="elsewhere")
    write_flags(flags_file(patches), {foreign: Flag("bad"), nowhere: Flag("bad")})
    collection.set_flag(3, Flag("interesting"))
    assert collection.describe(7)["flag"] == "bad"
    assert collection.rows(parse({"flag": "bad,interesting"})).tolist() == [3, 7]
    flags_file(patches).unlink()
    collection.set_flag(4, Flag("bad"))
    assert collection.rows(parse({"flag": "bad,interesting"})).tolist() == [4]


def test_an_answer_that_a_flag_overtakes_is_not_kept(
    copied: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = Collection(copied())
    bad = parse({"flag": "bad"})
    with monkeypatch.context() as patched:
        # The flag is set when the rows that match are known already.
        patched.setattr(collection, "_order", lambda _: collection.set_flag(3, Flag("bad")))
        assert collection.rows(bad).tolist() == []
    assert collection.rows(bad).tolist() == [3]


def test_a_flag_that_cannot_be_written_is_not_shown_either(copied: Callable[[], Path]) -> None:
    patches = copied()
    collection = Collection(patches)
    file = flags_file(patches)
    # What it is written to first cannot be a file.
    file.with_name(f".{file.name}.{os.getpid()}").mkdir()
    with pytest.raises(MidframeError, match="cannot write here"):
        collection.set_flag(3, Flag("bad"))
    assert collection.describe(3)["flag"] == "none"


def test_kept_pictures_stay_below_their_limit() -> None:
    cache = PictureCache(limit=100)
    for number in range(50):
        assert cache.get((number,), lambda: bytes(30)) == bytes(30)
        assert cache.size <= 100
    assert cache.get((49,), lambda: b"made again") == bytes(30)


def test_the_colour_wheel_tells_directions_apart_and_greys_the_unknown() -> None:
    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 0], flow[0, 1], flow[1, 1] = (3, 0), (-3, 0), (np.nan, 0)
    picture = colour_wheel(flow)
    assert picture[0, 0].tolist() == [255, 0, 0]
    assert picture[0, 1].tolist() == [0, 255, 255]
    assert picture[1, 0].tolist() == [255, 255, 255]
    assert picture[1, 1].tolist() == [128, 128, 128]
