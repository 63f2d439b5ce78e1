"""The sampling stage: patches are cut from their frames, and every window tried is on record."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.datasets import fetch
from pipeline.errors import MidframeError
from pipeline.frames import open_frames
from pipeline.motion_store import MotionStore
from pipeline.patch_store import PatchStore
from pipeline.patches import Source, sample
from pipeline.settings import DatasetSettings, PatchSettings
from pipeline.window_motion import WindowMotion
from tests.conftest import SMALL_PATCHES, directory_bytes, write_images


def with_settings(**changes: object) -> PatchSettings:
    return PatchSettings.model_validate(SMALL_PATCHES.model_dump() | changes)


def test_a_patch_is_the_window_of_its_three_frames(patches: Path, source: Source) -> None:
    store = PatchStore.open(patches)
    frames = {sequence.name: list(sequence.read()) for sequence in open_frames(source.frames)}
    for row, triplet in zip(store.table().itertuples(), store.read(range(len(store))), strict=True):
        for offset in range(3):
            frame = frames[row.sequence][row.first_frame + offset]
            window = frame[row.top : row.top + 48, row.left : row.left + 48]
            np.testing.assert_array_equal(triplet[offset], window)


def test_every_window_tried_is_recorded_with_its_outcome(patches: Path) -> None:
    store = PatchStore.open(patches)
    candidates = store.candidates()
    assert len(candidates) == 6 * SMALL_PATCHES.tries
    taken = candidates[candidates["reason"] == "taken"]
    assert list(taken["sample"]) == list(range(len(store)))
    assert (candidates.loc[candidates["reason"] != "taken", "sample"] == -1).all()
    columns = ["sequence", "first_frame", "top", "left", "motion"]
    pd.testing.assert_frame_equal(
        taken[columns].reset_index(drop=True), store.table()[columns], check_dtype=False
    )
    assert store.manifest["windows"] == {
        reason: int((candidates["reason"] == reason).sum()) for reason in store.manifest["windows"]
    }


def test_no_patch_spans_the_cut(patches: Path) -> None:
    store = PatchStore.open(patches)
    assert store.manifest["jump_cuts"] == {"cut": [4], "ride": [4]}
    candidates = store.candidates()
    refused = candidates[candidates["reason"] == "jump cut"]
    # The triplets of frames 3, 4 and 5 are the ones with a cut inside.
    assert set(refused["first_frame"]) == {3}
    assert len(refused) == 2 * SMALL_PATCHES.tries
    assert (store.table()["first_frame"] != 3).all()


def test_a_patch_scores_its_motion(patches: Path, source: Source) -> None:
    row = PatchStore.open(patches).table().iloc[-1]
    motion = MotionStore(source.motion)
    index = motion.first_frames(row["sequence"]).index(row["first_frame"])
    expected = WindowMotion(motion.flow(row["sequence"], index)).score(
        row["top"], row["left"], 48, "mean_magnitude"
    )
    assert row["motion"] == expected


@pytest.mark.slow
def test_workers_do_not_change_a_byte(patches: Path, source: Source, tmp_path: Path) -> None:
    sample([source], tmp_path / "patches", SMALL_PATCHES, workers=2)
    assert directory_bytes(tmp_path / "patches") == directory_bytes(patches)


def test_smaller_shards_hold_the_same_samples(
    patches: Path, source: Source, tmp_path: Path
) -> None:
    sample([source], tmp_path / "patches", with_settings(shard_samples=3), workers=0)
    small, large = PatchStore.open(tmp_path / "patches"), PatchStore.open(patches)
    assert len(small) == len(large)
    everything = range(len(large))
    np.testing.assert_array_equal(small.read(everything), large.read(everything))


def test_a_sequence_in_two_datasets_is_taken_once(
    patches: Path, source: Source, tmp_path: Path
) -> None:
    sample([source, source], tmp_path / "patches", SMALL_PATCHES, workers=0)
    assert PatchStore.open(tmp_path / "patches").table().equals(PatchStore.open(patches).table())


def test_frames_smaller_than_a_patch_stop_the_stage_with_what_to_do(
    source: Source, tmp_path: Path
) -> None:
    with pytest.raises(MidframeError, match="120x80 are smaller than a patch of 100x100; choose"):
        sample([source], tmp_path / "patches", with_settings(patch_size=100), workers=0)
    assert list(tmp_path.iterdir()) == []


def test_frames_smaller_than_a_patch_are_left_out_and_listed(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = with_settings(patch_size=100, on_bad_frame="skip")
    sample([source], tmp_path / "patches", settings, workers=0)
    store = PatchStore.open(tmp_path / "patches")
    assert set(store.table()["sequence"]) == {"cut"}
    (skipped,) = store.manifest["skipped"]
    assert skipped["sequence"] == "ride"
    assert "skipped ride: frames of 120x80 are smaller" in capsys.readouterr().err


def test_motion_of_other_frames_is_refused(
    source: Source, tmp_path: Path, small_frames: Path
) -> None:
    other = tmp_path / "frames"
    write_images(tmp_path / "images" / "ride", [np.zeros((80, 120, 3), np.uint8)] * 6)
    fetch(DatasetSettings(source="folder", path=str(tmp_path / "images")), other)
    with pytest.raises(MidframeError, match="was made from other frames"):
        sample([dataclasses.replace(source, frames=other)], tmp_path / "out", SMALL_PATCHES, 0)


def test_no_window_taken_at_all_is_an_error_with_the_reasons(
    source: Source, tmp_path: Path
) -> None:
    settings = with_settings(cut_threshold=1e-9)
    with pytest.raises(MidframeError, match=r"no window was taken; refused: .*'jump cut': 48"):
        sample([source], tmp_path / "patches", settings, workers=0)


def test_a_count_draws_that_many_triplets(source: Source, tmp_path: Path) -> None:
    settings = with_settings(count=3, window="centre", split="validation", cut_threshold=1.0)
    sample([source], tmp_path / "patches", settings, workers=0)
    table = PatchStore.open(tmp_path / "patches").table()
    assert len(table) == 3
    assert set(table["split"]) == {"validation"}
