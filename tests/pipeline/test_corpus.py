"""A corpus of ordinary and of broken files goes through all stages, and names each problem once."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.frames.sequences import open_frames
from pipeline.look.inspection import inspect
from pipeline.selection.cuts import measure
from pipeline.selection.motion import score
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.settings import CutSettings, DatasetSettings, MotionSettings, PatchSettings
from pipeline.sources.datasets import fetch
from pipeline.store.patch_store import PatchStore, verify
from tests.pipeline.frames.made_files import KINDS, ffmpeg, needs_ffmpeg

LENGTH = 14  # frames of each file
GOOD = (
    *("closed.mp4", "b-pyramid.mkv", "open-groups.mp4", "hevc-open.mp4", "hevc-open.mov"),
    *("fragmented.mp4", "b-frames.flv", "intra-refresh.mp4", "h264.avi", "mpeg4.avi"),
    *("mjpeg.avi", "mpeg2.mpg", "mpeg2.vob", "mpeg2.ts", "h264.m2ts", "mpeg2.mxf", "bare.h264"),
    *("vp9.webm", "ffv1.mkv", "theora.ogv", "wmv2.wmv", "animation.gif", "ten-bits.mkv"),
    "variable-rate.mkv",
)


def make_good(folder: Path, clip: Path) -> None:
    source = ["-ss", "1.3", "-i", clip, "-frames:v", str(LENGTH), "-an", "-s", "160x96"]
    ffmpeg(*source, "-c:v", "ffv1", "-g", "1", folder / "whole.mkv")
    for name in GOOD:
        ffmpeg("-i", folder / "whole.mkv", *KINDS[name].split(), folder / name)
    closed = folder / "closed.mp4"
    # Of one stem, linked, named in Latin-1, and in signs that mean something to shells.
    shutil.copy(closed, folder / "clip.mp4")
    shutil.copy(folder / "mjpeg.avi", folder / "clip.avi")
    shutil.copy(closed, os.fsencode(folder) + b"/caf\xe9.mp4")
    shutil.copy(closed, folder / "a b:c[1] $x.mp4")
    (folder / "linked.mp4").symlink_to(closed)
    ffmpeg("-i", closed, "-c", "copy", "-metadata:s:v", "rotate=90", folder / "rotated.mp4")
    ffmpeg(
        *("-i", closed, "-filter_complex", "[0:v]split[a][b];[a]scale=96:64[s];[b]null[l]"),
        *("-map", "[s]", "-map", "[l]", "-c:v", "ffv1", folder / "two-streams.mkv"),
    )
    # Every frame twice.
    ffmpeg("-i", closed, "-vf", "fps=50", "-c:v", "ffv1", folder / "on-twos.mkv")
    images = folder / "images"
    images.mkdir()
    ffmpeg("-i", closed, "-start_number", "1", images / "%d.png")


def make_broken(folder: Path) -> dict[str, str]:
    """Files with something wrong, and words of the reason that is given for each."""
    closed = folder / "closed.mp4"
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "empty.mkv").touch()
    (folder / "notes.txt").write_text("passed over")
    ffmpeg("-i", closed, "-frames:v", "2", folder / "short.mp4")
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", folder / "sound.mp4")
    woven = ["-vf", "tinterlace=4", "-flags", "+ilme+ildct", "-c:v", "mpeg2video"]
    ffmpeg("-i", closed, *woven, folder / "woven.mpg")
    whole = (folder / "ffv1.mkv").read_bytes()
    (folder / "truncated.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    ffmpeg("-i", closed, "-c:v", "mjpeg", folder / "damaged.mov")
    data = bytearray((folder / "damaged.mov").read_bytes())
    start = len(data) // 2
    data[start : start + 2000] = bytes(2000)
    (folder / "damaged.mov").write_bytes(data)
    for name in ("gap", "rgba", "sizes"):
        shutil.copytree(folder / "images", folder / name)
    (folder / "gap" / "6.png").unlink()
    for file in (folder / "rgba").iterdir():
        Image.open(file).convert("RGBA").save(file)
    Image.new("RGB", (64, 64)).save(folder / "sizes" / "14.png")
    return {
        "text": "not a readable video",
        "empty": "not a readable video",
        "short": "has 2 frames",
        "sound": "has no video stream",
        "woven": "is interlaced",
        "truncated": "cut short",
        "damaged": "cannot be decoded",
        "gap": "no image between 5.png and 7.png",
        "rgba": "colour mode RGBA",
        "sizes": "is 64x64, but most of the sequence is 160x96",
        # These are whole until the dataset is made.
        "vanished": "is gone",
        "overwritten": "has changed since",
    }


@needs_ffmpeg
@pytest.mark.slow
def test_forty_files_go_through_all_stages_and_each_problem_is_named_once(
    tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    make_good(folder, clips / "bikes.mp4")
    shutil.copy(folder / "closed.mp4", folder / "vanished.mp4")
    shutil.copytree(folder / "images", folder / "overwritten")
    problems = make_broken(folder)
    assert len(list(folder.iterdir())) >= 40

    frames, motion, cuts = (tmp_path / name for name in ("frames", "motion", "cuts"))
    settings = DatasetSettings(source="folder", path=str(folder), on_bad_frame="skip")
    fetch(settings, frames, workers=0)
    sequences = {sequence.name: sequence for sequence in open_frames(frames)}
    (folder / "vanished.mp4").unlink()
    shutil.copy(folder / "images" / "2.png", folder / "overwritten" / "9.png")
    score(frames, motion, MotionSettings(method="dis"), workers=0)
    measure(frames, cuts, CutSettings(), workers=0)
    source = Source(frames, motion, cuts)
    patches = PatchSettings(patch_size=48, tries=4, max_taken=2, motion_scale=0.01)
    sample([source], tmp_path / "patches", patches, workers=0)
    inspect(tmp_path / "patches", tmp_path / "look")
    said = capsys.readouterr().err

    # What is wrong is listed, once, by name and reason.
    skipped = json.loads((tmp_path / "look" / "summary.json").read_text())["skipped"]
    assert Counter(entry["sequence"] for entry in skipped) == Counter(problems.keys())
    for entry in skipped:
        assert problems[entry["sequence"]] in entry["reason"]
        assert str(tmp_path) not in entry["reason"]
    assert "skipped 1 files that are neither video nor image: 1 .txt" in said
    assert f"skipped text: {folder}/text.mp4: " in said

    # What is right is used: read exactly, under names that tell files apart.
    names = {"caf%E9", "a b:c[1] $x", "clip.mp4", "clip.avi", "linked", "images", "two-streams"}
    assert names <= sequences.keys()
    assert (sequences["rotated"].width, sequences["rotated"].height) == (96, 160)
    assert sequences["two-streams"].width in (96, 160)
    assert not verify(tmp_path / "patches")
    store = PatchStore.open(tmp_path / "patches")
    table = store.table()
    used = set(table["sequence"])
    for name in GOOD:
        assert name in used or Path(name).stem in used, f"no patch of {name}"
    # A twice shown frame is refused; a truncated, damaged or gapped file is used beside the hole.
    assert "on-twos" not in used
    assert {"truncated", "damaged", "gap", "sizes"} <= used
    assert not used & {"vanished", "text", "short", "woven", "rgba"}
    for row, triplet in zip(table.itertuples(), store.read(range(len(store))), strict=True):
        if row.sequence in ("closed", "mpeg2.ts", "gap"):
            three = list(sequences[row.sequence].read(row.first_frame, row.first_frame + 3))
            window = np.s_[row.top : row.top + 48, row.left : row.left + 48]
            np.testing.assert_array_equal(triplet, [frame[window] for frame in three])
