"""Files that change, are cut short or vanish after `fetch` stop no corpus that skips bad frames."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.evaluation.evaluate import evaluate, open_evaluation
from model.settings import EvaluationSettings
from pipeline.errors import MidframeError
from pipeline.frames.losses import Loss, merge, read_remaining
from pipeline.frames.sequences import FrameSequence, open_frames
from pipeline.provenance import read_manifest
from pipeline.selection import cuts, patches
from pipeline.selection.cuts import CutDistances, measure
from pipeline.selection.motion import score
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.settings import CutSettings, DatasetSettings, MotionSettings, PatchSettings
from pipeline.sources.datasets import fetch
from pipeline.store import evaluation_files
from pipeline.store.motion_store import MotionStore
from pipeline.store.patch_store import PatchStore, verify
from tests.conftest import directory_bytes, write_images

PATCHES = PatchSettings(patch_size=48, tries=4, max_taken=4, motion_scale=0.01, seed=3)
MOTION = MotionSettings(method="dis")


@pytest.fixture
def folder(tmp_path: Path, clips: Path, bikes_clip: FrameSequence) -> Path:
    """A video of 120 frames and two folders of 12 images, in the user's folder."""
    folder = tmp_path / "mine"
    frames = [frame[60:180, 200:360] for frame in bikes_clip.read(31, 43)]
    write_images(folder / "one", frames)
    write_images(folder / "two", frames)
    shutil.copy(clips / "carphone_pristine.mp4", folder / "video.mp4")
    return folder


def dataset(folder: Path, on_bad_frame: str = "skip", **settings: Any) -> Path:
    out = folder.parent / "frames"
    fetch(
        DatasetSettings.model_validate(
            {"source": "folder", "path": str(folder), "on_bad_frame": on_bad_frame} | settings
        ),
        out,
        workers=0,
    )
    return out


def cut_short(folder: Path) -> None:
    file = folder / "video.mp4"
    file.write_bytes(file.read_bytes()[:20_000])


def remove_video(folder: Path) -> None:
    (folder / "video.mp4").unlink()


def replace_video(folder: Path) -> None:
    """By another one of the same name, whose frames are others."""
    file = folder / "video.mp4"
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    file.write_bytes(data)


def remove_image(folder: Path) -> None:
    (folder / "two" / "00000.png").unlink()


def change_image(folder: Path) -> None:
    shutil.copy(folder / "two" / "00003.png", folder / "two" / "00007.png")


HARM: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a video cut short": (cut_short, "video", "video.mp4"),
    "a video that is gone": (remove_video, "video", "video.mp4: is gone"),
    "a video that was damaged": (replace_video, "video", "video.mp4: frame"),
    "an image that is gone": (remove_image, "two", "two/00000.png: is gone"),
    "an image that was changed": (change_image, "two", "two/00007.png: has changed since"),
}


@pytest.mark.parametrize(("harm", "name", "said"), HARM.values(), ids=list(HARM))
def test_every_stage_goes_on_and_lists_it_once(
    folder: Path,
    tmp_path: Path,
    harm: Callable[[Path], None],
    name: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    frames = dataset(folder, measure="nothing")
    harm(folder)

    def told() -> str:
        lines = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
        (line,) = lines
        return line

    capsys.readouterr()
    score(frames, tmp_path / "motion", MOTION, workers=0)
    assert f"skipped {name}: {folder}/{said}" in told()
    measure(frames, tmp_path / "cuts", CutSettings(), workers=0)
    assert f"skipped {name}: {folder}/{said}" in told()
    source = Source(frames, tmp_path / "motion", tmp_path / "cuts")
    sample([source], tmp_path / "patches", PATCHES, workers=0)
    assert f"skipped {name}: {folder}/{said}" in told()
    store = PatchStore.open(tmp_path / "patches")
    (entry,) = store.manifest["skipped"]
    assert entry["sequence"] == name
    assert str(folder) not in entry["reason"]
    assert not verify(tmp_path / "patches")
    table = store.table()
    assert {"one", "two", "video"} - {name} <= set(table["sequence"])
    if entry["frames"] is None:
        assert name not in set(table["sequence"])
    lost = read_manifest(tmp_path / "cuts", cuts.KIND, cuts.FORMAT_VERSION)["skipped"]
    whole = {one.name: one for one in open_frames(frames)}
    for row in table[table["sequence"] == name].itertuples():
        for bad in lost:
            assert not bad["frames"][0] - 2 <= row.first_frame <= bad["frames"][1]
        assert len(list(whole[name].read(row.first_frame, row.first_frame + 3))) == 3


@pytest.mark.parametrize("harm", [remove_video, cut_short], ids=["gone", "cut short"])
def test_a_dataset_that_skips_nothing_stops_each_stage_with_one_line(
    folder: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    frames = dataset(folder, "error", measure="nothing")
    score(frames, tmp_path / "motion", MOTION, workers=0)
    measure(frames, tmp_path / "cuts", CutSettings(), workers=0)
    harm(folder)
    source = Source(frames, tmp_path / "motion", tmp_path / "cuts")
    settings = EvaluationSettings(stride=9, sequences=["video"])
    stages: list[Callable[[Path], None]] = [
        lambda out: score(frames, out, MOTION, workers=0),
        lambda out: measure(frames, out, CutSettings(), workers=0),
        lambda out: sample([source], out, PATCHES, workers=0),
        lambda out: evaluate(frames, "linear", settings, out),
    ]
    for stage in stages:
        with pytest.raises(MidframeError) as error:
            stage(tmp_path / "out")
        message = str(error.value)
        assert message.startswith(f"{folder}/video.mp4: ")
        assert message.endswith("; fetch the dataset again, or with the setting on_bad_frame: skip")
        assert "\n" not in message


def test_what_vanishes_between_score_and_sample_is_left_out_of_the_patches(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = dataset(folder)
    score(frames, tmp_path / "motion", MOTION, workers=0)
    measure(frames, tmp_path / "cuts", CutSettings(), workers=0)
    source = Source(frames, tmp_path / "motion", tmp_path / "cuts")
    shutil.rmtree(folder / "one")
    (folder / "two" / "00010.png").write_bytes(b"no image")
    for out, workers in (("patches", 0), ("by workers", 2)):
        sample([source], tmp_path / out, PATCHES, workers=workers)
    assert directory_bytes(tmp_path / "patches") == directory_bytes(tmp_path / "by workers")
    store = PatchStore.open(tmp_path / "patches")
    assert not verify(tmp_path / "patches")
    assert set(store.table()["sequence"]) == {"two", "video"}
    two = store.candidates().query("sequence == 'two'")
    assert set(two["first_frame"]) == {0, 3, 6}
    assert [one["sequence"] for one in store.manifest["skipped"]] == ["one", "two"]
    assert "begins again without the frames" in capsys.readouterr().err


def test_the_place_of_a_lost_triplet_is_taken_where_a_number_is_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    frames = dataset(folder)
    shutil.rmtree(folder / "one")
    score(frames, tmp_path / "motion", MOTION, workers=0)
    measure(frames, tmp_path / "cuts", CutSettings(), workers=0)
    source = Source(frames, tmp_path / "motion", tmp_path / "cuts")
    settings = PATCHES.model_copy(update={"count": 12, "window": "centre"})
    sample([source], tmp_path / "patches", settings, workers=0)
    candidates = PatchStore.open(tmp_path / "patches").candidates()
    assert len(candidates) == 12
    assert set(candidates["sequence"]) == {"two", "video"}


def test_a_sampling_that_was_stopped_remembers_what_is_lost(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = dataset(folder)
    score(frames, tmp_path / "motion", MOTION, workers=0)
    measure(frames, tmp_path / "cuts", CutSettings(), workers=0)
    source = Source(frames, tmp_path / "motion", tmp_path / "cuts")
    away = tmp_path / "away"
    shutil.move(folder / "one", away)
    begin = patches._begin_again

    def stop(folder: Path, losses: list[Loss]) -> None:
        begin(folder, losses)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(patches, "_begin_again", stop)
        with pytest.raises(KeyboardInterrupt):
            sample([source], tmp_path / "patches", PATCHES, workers=0)
    shutil.move(away, folder / "one")
    sample([source], tmp_path / "patches", PATCHES, workers=0)
    assert "one" not in set(PatchStore.open(tmp_path / "patches").table()["sequence"])


def test_an_evaluation_scores_what_is_left_and_lists_the_rest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = dataset(folder)
    shutil.rmtree(folder / "one")
    replace_video(folder)
    evaluate(frames, "linear", EvaluationSettings(stride=9), tmp_path / "scores")
    scores = open_evaluation(tmp_path / "scores").scores
    assert "one" not in set(scores["sequence"])
    assert {"two", "video"} == set(scores["sequence"])
    assert not scores.isna().any(axis=None)
    manifest = read_manifest(
        tmp_path / "scores", evaluation_files.KIND, evaluation_files.FORMAT_VERSION
    )
    assert [entry["sequence"] for entry in manifest["skipped"]] == ["one", "video"]
    assert manifest["images"] == len(scores)
    said = capsys.readouterr().err
    assert said.count(f"skipped one: {folder}/one/00000.png: is gone") == 1
    assert said.count(f"skipped video: {folder}/video.mp4: frame") == 1


def test_frames_behind_the_damage_are_still_used(folder: Path) -> None:
    frames = dataset(folder)
    (folder / "two" / "00004.png").unlink()
    (two,) = [one for one in open_frames(frames) if one.name == "two"]
    losses: list[Loss] = []
    left = [index for index, _ in read_remaining(two, 2, 9, losses)]
    assert left == [2, 3, 5, 6, 7, 8]
    assert [(one.first, one.last) for one in losses] == [(4, 4)]


def test_losses_that_touch_are_one() -> None:
    def loss(name: str, first: int, last: int) -> Loss:
        return Loss(name, "path", first, last, f"{first}")

    found = merge([loss("b", 5, 6), loss("a", 4, 9), loss("a", 0, 3), loss("a", 7, 8)])
    assert found == [Loss("a", "path", 0, 9, "0"), Loss("b", "path", 5, 6, "5")]


def test_cuts_beside_lost_frames_are_unknown(folder: Path, tmp_path: Path) -> None:
    frames = dataset(folder, measure="nothing")
    change_image(folder)
    measure(frames, tmp_path / "cuts", CutSettings(), workers=0)
    unknown = np.isnan(CutDistances(tmp_path / "cuts").of("two")).any(axis=1)
    assert np.flatnonzero(unknown).tolist() == [6, 7]
    score(frames, tmp_path / "motion", MOTION, workers=0)
    assert np.isnan(MotionStore(tmp_path / "motion").flow("two", 2)).all()
