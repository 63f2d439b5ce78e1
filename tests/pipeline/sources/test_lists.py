"""A list of files is a dataset: whole files, and parts of them by time."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import MidframeError
from pipeline.frames.sequences import FrameSequence, open_frames
from pipeline.provenance import read_manifest
from pipeline.settings import DatasetSettings
from pipeline.sources.datasets import fetch
from pipeline.sources.lists import read_list
from tests.conftest import directory_bytes, write_images


@pytest.fixture
def files(tmp_path: Path, clips: Path, bikes_clip: FrameSequence) -> Path:
    """A folder of a video of 120 frames at 29.97 fps, twice, and of a folder of images."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clips / "carphone_pristine.mp4", folder / name)
    write_images(folder / "images", list(bikes_clip.read(0, 4)))
    return folder


def listed(files: Path, **settings: object) -> DatasetSettings:
    return DatasetSettings.model_validate({"source": "list", "path": str(files)} | settings)


def write_csv(files: Path, *rows: str) -> Path:
    path = files / "clips.csv"
    path.write_text("\n".join(["path,start,end", *rows]) + "\n")
    return path


def test_a_text_file_lists_videos_and_folders_relative_to_itself(
    files: Path, tmp_path: Path
) -> None:
    (files / "clips.txt").write_text("# two of three\n\nimages\na.mp4\n")
    fetch(listed(files / "clips.txt"), tmp_path / "out", workers=0)
    sequences = open_frames(tmp_path / "out")
    assert [(one.name, one.frame_count) for one in sequences] == [("a", 120), ("images", 4)]
    # Messages will name the user's own file.
    assert [one.path for one in sequences] == [files / "a.mp4", files / "images"]


def test_parts_of_one_file_are_sequences_of_their_own_with_stable_names(
    files: Path, tmp_path: Path
) -> None:
    rows = ["a.mp4,0.5,1.5", "b.mp4,,", "a.mp4,2,", f"{files}/a.mp4,0.5,1"]
    fetch(listed(write_csv(files, *rows)), tmp_path / "out", workers=0)
    parts = {one.name: one for one in open_frames(tmp_path / "out")}
    assert sorted(parts) == ["a@0.5-1", "a@0.5-1.5", "a@2-end", "b"]
    whole = list(parts["b"].read())
    # Frame k is shown at k * 1001 / 30000 s.
    assert (parts["a@0.5-1.5"].offset, parts["a@0.5-1.5"].frame_count) == (15, 30)
    np.testing.assert_array_equal(list(parts["a@0.5-1.5"].read(3, 6)), whole[18:21])
    np.testing.assert_array_equal(list(parts["a@2-end"].read()), whole[60:])
    fetch(listed(write_csv(files, *rows[::-1])), tmp_path / "turned", workers=2)
    assert directory_bytes(tmp_path / "turned") == directory_bytes(tmp_path / "out")


def test_csv_and_parquet_of_the_same_rows_give_the_same_sequences(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"caption": ["x", "y"], "end": [1.0, None], "path": ["a.mp4", "images"]}
    table = pd.DataFrame(rows)
    table.to_csv(files / "clips.csv", index=False)
    table.to_parquet(files / "clips.parquet")
    assert read_list(files / "clips.csv")[1] == []
    assert "clips.csv: columns that are not used: caption" in capsys.readouterr().err
    for suffix in ("csv", "parquet"):
        found, problems = read_list(files / f"clips.{suffix}")
        assert [part.name for one in found for part in one.parts] == ["a@0-1", "images"]
        assert not problems


def test_each_problem_of_a_list_is_one_line_that_names_the_row(files: Path) -> None:
    (files / "x.png").touch()
    (files / "empty").mkdir()
    path = write_csv(
        files,
        "gone.mp4,,",
        "a.mp4,3,2",
        "a.mp4,soon,2",
        "a.mp4,1,2",
        "a.mp4,1.0,2.0",
        ",1,2",
        "images,1,2",
        "x.png,,",
        "empty,,",
        "a.mp4,-1,2",
    )
    _, problems = read_list(path)
    said = [what.removeprefix(f"{path}, ") for _, what in problems]
    assert said == [
        f"line 2: gone.mp4 is missing ({files}/gone.mp4)",
        "line 3: start 3 is not before end 2",
        "line 4: start is 'soon', not a time in seconds",
        f"line 6: a.mp4 again, as in {path}, line 5",
        "line 7: names no path",
        "line 8: images is a folder of images, which has no times",
        "line 9: x.png is one image; list the folder that holds it",
        "line 10: empty is a folder without images",
        "line 11: start is '-1', not a time in seconds",
    ]
    with pytest.raises(MidframeError) as error:
        fetch(listed(path), files.parent / "out", workers=0)
    assert str(error.value).splitlines()[:-1] == [what for _, what in problems]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("file,start", r"clips\.csv: has no column 'path'; columns: file, start"),
        ("path,strat", r"clips\.csv: column 'strat'; did you mean 'start'\?"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(files: Path, header: str, said: str) -> None:
    (files / "clips.csv").write_text(f"{header}\na.mp4,1\n")
    with pytest.raises(MidframeError, match=said):
        read_list(files / "clips.csv")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("clips.json", "[]", r"clips\.json: a list of files is \.txt, \.csv, \.parquet"),
        (
            "clips.parquet",
            "text",
            r"clips\.parquet: damaged .*; a list of files in Parquet is needed",
        ),
        ("clips.txt", "# nothing\n", r"clips\.txt: lists no file"),
        ("clips.txt", "a.mp4\t1\t2\t3\n", r"clips\.txt, line 1: more than a path"),
    ],
)
def test_what_is_no_list_is_named(files: Path, name: str, content: str, said: str) -> None:
    (files / name).write_text(content)
    with pytest.raises(MidframeError, match=said):
        read_list(files / name)


def test_times_outside_a_file_and_broken_files_are_listed_by_their_rows(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "broken.mp4").write_text("not a video")
    path = write_csv(
        files, "a.mp4,1,2", "a.mp4,3,9", "a.mp4,60,", "b.mp4,1,1.05", "broken.mp4,1,2", "none.mp4,,"
    )
    with pytest.raises(MidframeError, match=r"line 7: none\.mp4 is missing"):
        fetch(listed(path), tmp_path / "out", workers=0)
    fetch(listed(path, on_bad_frame="skip"), tmp_path / "out", workers=0)
    assert [one.name for one in open_frames(tmp_path / "out")] == ["a@1-2"]
    skipped = read_manifest(tmp_path / "out", "frames", 3)["skipped"]
    assert [one["sequence"] for one in skipped] == [
        "none.mp4",
        "a@3-9",
        "a@60-end",
        "b@1-1.05",
        "broken@1-2",
    ]
    said = capsys.readouterr().err
    assert f"{path}, line 3: {files}/a.mp4: 3 to 9 s lies outside, for it lasts 4.004 s" in said
    assert "line 4: " in said
    assert "to the end s lies outside" in said
    assert "line 5: " in said
    assert "2 frames lie there, but a triplet needs 3" in said
    assert f"line 6: {files}/broken.mp4: not a readable video" in said


def test_two_files_of_one_stem_are_told_apart_by_their_suffix(files: Path) -> None:
    shutil.copy(files / "a.mp4", files / "a.mov")
    (files / "clips.txt").write_text("a.mp4\t1\t2\na.mov\n")
    found, _ = read_list(files / "clips.txt")
    assert [part.name for one in found for part in one.parts] == ["a.mov", "a.mp4@1-2"]


def test_a_list_that_is_taken_for_a_folder_says_so(files: Path, tmp_path: Path) -> None:
    settings = DatasetSettings(source="folder", path=str(write_csv(files, "a.mp4,,")))
    with pytest.raises(MidframeError, match=r"if it lists files, take the source 'list'"):
        fetch(settings, tmp_path / "out", workers=0)
