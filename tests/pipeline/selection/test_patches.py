"""The sampling stage: patches are cut from their frames, and every window tried is on record."""

import contextlib
import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster import Cluster
from pipeline.errors import MidframeError
from pipeline.frames.sequences import FrameSequence, open_frames
from pipeline.selection import patches as sampling
from pipeline.selection.candidates import read_taken
from pipeline.selection.cuts import measure
from pipeline.selection.motion import score
from pipeline.selection.patches import runs_of, sample
from pipeline.selection.triplets import Source
from pipeline.selection.window_motion import WindowMotion
from pipeline.settings import CutSettings, DatasetSettings, MotionSettings, PatchSettings
from pipeline.sources.datasets import fetch
from pipeline.store.motion_store import MotionStore
from pipeline.store.patch_store import PatchStore, verify
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


def test_a_dataset_of_the_paper_is_told_beside_its_numbers(
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sample([source], tmp_path / "patches", SMALL_PATCHES, workers=0)
    patches = len(PatchStore.open(tmp_path / "patches"))
    assert f"6 triplets, 48 windows, {patches} patches\n" in capsys.readouterr().err
    monkeypatch.setattr("pipeline.selection.patches.origin", lambda frames: "davis-2017-trainval")
    sample([source], tmp_path / "patches", SMALL_PATCHES, workers=0)
    said = capsys.readouterr().err
    assert "6 triplets (paper: 2,037), 48 windows (paper: 61,110), " in said
    assert f"{patches} patches (paper: 16,768)" in said


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


@pytest.fixture(scope="module")
def in_shards(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patch directory of several shards."""
    out = tmp_path_factory.mktemp("shards") / "patches"
    sample([source], out, with_settings(shard_samples=3), workers=0)
    return out


KILLED = """
import os, sys
from pathlib import Path
from pipeline.selection import candidates
from pipeline.selection import patches
from pipeline.selection import triplets as selection
from pipeline.settings import PatchSettings

module, name, calls = {"judge": (candidates, "_judge_partition", 1),
                       "write": (patches, "_write_shard", 2)}[sys.argv[1]]
original = getattr(module, name)

def killed(task):
    global calls
    if not calls:
        os.kill(os.getpid(), 9)
    calls -= 1
    return original(task)

setattr(module, name, killed)
selection.PARTITION_TRIPLETS = 3
settings = PatchSettings.model_validate_json(sys.argv[2])
patches.sample([selection.Source(*map(Path, sys.argv[4:]))], Path(sys.argv[3]), settings, 0)
"""


@pytest.mark.parametrize(
    ("where", "left"), [("judge", "parts/*.parquet"), ("write", "*/triplet/c/*")]
)
def test_a_killed_run_is_taken_up_and_gives_the_same_bytes(
    source: Source,
    in_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    left: str,
) -> None:
    monkeypatch.setattr("pipeline.selection.triplets.PARTITION_TRIPLETS", 3)
    settings = with_settings(shard_samples=3)
    paths = [str(path) for path in dataclasses.astuple(source)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, where, settings.model_dump_json(), tmp_path / "out", *paths],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (progress,) = tmp_path.glob(".out.progress-*")
    finished = [file for found in progress.glob(left) for file in _files(found)]
    assert len(finished) == {"judge": 1, "write": 2}[where]
    times = {file.relative_to(progress): file.stat().st_mtime_ns for file in finished}
    sample([source], tmp_path / "out", settings, workers=0)
    assert directory_bytes(tmp_path / "out") == directory_bytes(in_shards)
    for file, time in times.items():
        if where == "write":
            assert (tmp_path / "out" / file).stat().st_mtime_ns == time
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def test_a_full_disk_is_one_line_and_what_is_written_is_kept(
    source: Source, small_disk: Path, tmp_path: Path
) -> None:
    settings = with_settings(patch_size=76, shard_samples=4, max_taken=8, codec="uncompressed")
    with pytest.raises(MidframeError, match="not enough space") as caught:
        sample([source], small_disk / "patches", settings, workers=0)
    assert len(str(caught.value).splitlines()) == 1
    assert not (small_disk / "patches").exists()
    assert list(small_disk.glob(".patches.progress-*/**/triplet/c/0/0/0/0/0"))
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    sample([source], small_disk / "patches", settings, workers=0)
    sample([source], tmp_path / "patches", settings, workers=0)
    assert directory_bytes(small_disk / "patches") == directory_bytes(tmp_path / "patches")


class Backwards(Cluster):
    """Does the last task first."""

    def map(
        self, function: Callable[[Any], Any], tasks: Iterable[Any], ahead: int = 0
    ) -> Iterator[Any]:
        for task in reversed(list(tasks)):
            yield task, function(task)


def test_the_order_in_which_tasks_are_done_changes_no_byte(
    source: Source, in_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.selection.patches.connect", lambda *_: contextlib.nullcontext(Backwards(None))
    )
    sample([source], tmp_path / "patches", with_settings(shard_samples=3))
    assert directory_bytes(tmp_path / "patches") == directory_bytes(in_shards)


def test_a_sequence_gives_no_more_than_its_share(
    patches: Path, source: Source, tmp_path: Path
) -> None:
    sample([source], tmp_path / "few", with_settings(max_per_sequence=4), workers=0)
    few, all_of_them = PatchStore.open(tmp_path / "few"), PatchStore.open(patches)
    assert dict(few.table()["sequence"].value_counts()) == {"cut": 4, "ride": 4}
    candidates = few.candidates()
    before = all_of_them.candidates()
    dropped = candidates["reason"] == "enough of sequence"
    assert set(before.loc[dropped, "reason"]) == {"taken"}
    unchanged = candidates[~dropped].drop(columns="sample")
    pd.testing.assert_frame_equal(unchanged, before[~dropped].drop(columns="sample"))
    for _, rows in candidates[before["reason"] == "taken"].groupby("sequence"):
        kept = rows["reason"] == "taken"
        assert rows.loc[kept, "lot"].max() < rows.loc[~kept, "lot"].min()


@pytest.mark.parametrize("cap", [None, 3])
def test_another_sequence_changes_no_choice(
    source: Source, tmp_path: Path, cap: int | None
) -> None:
    tables = {}
    for name, sequences in (("both", ["*"]), ("one", ["ride"])):
        settings = with_settings(sequences=sequences, max_per_sequence=cap)
        sample([source], tmp_path / name, settings, workers=0)
        candidates = PatchStore.open(tmp_path / name).candidates().drop(columns="sample")
        tables[name] = candidates[candidates["sequence"] == "ride"].reset_index(drop=True)
    pd.testing.assert_frame_equal(tables["one"], tables["both"])


@pytest.mark.parametrize("cap", [None, 2])
def test_how_triplets_are_shared_among_tasks_changes_no_choice(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cap: int | None
) -> None:
    settings, choices = with_settings(max_per_sequence=cap), []
    for size in (1, 2, 5, 32):
        monkeypatch.setattr("pipeline.selection.triplets.PARTITION_TRIPLETS", size)
        sample([source], tmp_path / f"{size}", settings, workers=0)
        choices.append(PatchStore.open(tmp_path / f"{size}").candidates())
    for others in choices[1:]:
        pd.testing.assert_frame_equal(others, choices[0])


@pytest.mark.parametrize("count", [1, 4, 1000])
def test_the_windows_taken_are_read_in_blocks(patches: Path, count: int) -> None:
    blocks = list(read_taken(patches / "candidates.parquet", count))
    assert {len(block) for block in blocks[:-1]} <= {count}
    assert 0 < len(blocks[-1]) <= count
    assert list(pd.concat(blocks)["sample"]) == list(range(len(PatchStore.open(patches))))


def test_black_patches_are_stored_like_any_other(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "night", [np.zeros((80, 120, 3), np.uint8)] * 6)
    fetch(
        DatasetSettings(source="folder", path=str(tmp_path / "images")),
        tmp_path / "frames",
        workers=0,
    )
    night = Source(tmp_path / "frames", tmp_path / "motion", tmp_path / "cuts")
    score(night.frames, night.motion, MotionSettings(method="farneback"), workers=0)
    measure(night.frames, night.cuts, CutSettings(), workers=0)
    settings = with_settings(window="centre", repeat_threshold=None)
    sample([night], tmp_path / "patches", settings, workers=0)
    assert verify(tmp_path / "patches") == []
    assert not PatchStore.open(tmp_path / "patches").read([0, 1]).any()


def test_a_frame_that_training_holds_too_is_refused_with_its_sequence(
    patches: Path, source: Source, tmp_path: Path
) -> None:
    settings = with_settings(sequences=["ride"], split="validation")
    with pytest.raises(MidframeError, match=r"holds frame 0 of sequence 'ride', which would be"):
        sample([source], tmp_path / "validation", settings, 0, apart_from=[patches])
    assert list(tmp_path.iterdir()) == []
    first_half, second_half = (with_settings(part=part) for part in ((0.0, 0.5), (0.5, 1.0)))
    sample([source], tmp_path / "training", first_half, workers=0)
    sample([source], tmp_path / "rest", second_half, 0, apart_from=[tmp_path / "training"])


def test_frames_far_from_every_triplet_of_a_shard_are_not_decoded(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[str, int]] = []
    read = sampling.read_remaining

    def noted(sequence: FrameSequence, *arguments: Any) -> Iterator[Any]:
        for index, frame in read(sequence, *arguments):
            decoded.append((sequence.name, index))
            yield index, frame

    monkeypatch.setattr(sampling, "read_remaining", noted)
    settings = with_settings(
        count=3, window="centre", cut_threshold=1.0, repeat_threshold=None, seed=5
    )
    sample([source], tmp_path / "patches", settings, workers=0)
    table = PatchStore.open(tmp_path / "patches").table()
    needed = [
        (row.sequence, row.first_frame + offset)
        for row in table.itertuples()
        for offset in (0, 1, 2)
    ]
    assert len(table) == 3
    assert decoded == needed


@given(
    firsts=st.lists(st.integers(0, 500), unique=True, min_size=1).map(sorted),
    gap=st.integers(0, 150),
)
def test_a_video_is_read_on_over_short_gaps_and_sought_over_long_ones(
    firsts: list[int], gap: int
) -> None:
    runs = runs_of(firsts, gap)
    assert [first for run in runs for first in run] == firsts
    assert all(b - (a + 3) <= gap for run in runs for a, b in pairwise(run))
    assert all(after[0] - (before[-1] + 3) > gap for before, after in pairwise(runs))


def test_smaller_shards_hold_the_same_samples(
    patches: Path, source: Source, tmp_path: Path
) -> None:
    sample([source], tmp_path / "patches", with_settings(shard_samples=3), workers=0)
    small, large = PatchStore.open(tmp_path / "patches"), PatchStore.open(patches)
    assert len(small) == len(large)
    everything = range(len(large))
    np.testing.assert_array_equal(small.read(everything), large.read(everything))


def test_a_sequence_in_two_datasets_is_taken_once(
    patches: Path, source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample([source, source], tmp_path / "patches", SMALL_PATCHES, workers=0)
    store = PatchStore.open(tmp_path / "patches")
    assert store.table().equals(PatchStore.open(patches).table())
    assert store.manifest["duplicates"] == [
        {"sequence": name, "taken_from": "frames", "also_in": "frames"} for name in ("cut", "ride")
    ]
    assert "frames: 2 of its sequences are taken from an earlier" in capsys.readouterr().err


def test_frames_smaller_than_a_patch_stop_the_stage_with_what_to_do(
    source: Source, tmp_path: Path
) -> None:
    with pytest.raises(MidframeError, match="120x80 are smaller than a patch of 100x100; choose"):
        sample([source], tmp_path / "patches", with_settings(patch_size=100), workers=0)
    assert list(tmp_path.iterdir()) == []


def test_frames_smaller_than_a_patch_are_skipped_and_listed(
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
    fetch(DatasetSettings(source="folder", path=str(tmp_path / "images")), other, workers=0)
    with pytest.raises(MidframeError, match="was made from other frames"):
        sample([dataclasses.replace(source, frames=other)], tmp_path / "out", SMALL_PATCHES, 0)


def test_no_window_taken_at_all_is_an_error_with_the_reasons(
    source: Source, tmp_path: Path
) -> None:
    settings = with_settings(cut_threshold=1e-9)
    with pytest.raises(MidframeError, match=r"no window was taken; refused: .*'jump cut': 48"):
        sample([source], tmp_path / "patches", settings, workers=0)


def test_a_count_draws_that_many_triplets(source: Source, tmp_path: Path) -> None:
    settings = with_settings(
        count=3, window="centre", split="validation", cut_threshold=1.0, repeat_threshold=None
    )
    sample([source], tmp_path / "patches", settings, workers=0)
    table = PatchStore.open(tmp_path / "patches").table()
    assert len(table) == 3
    assert set(table["split"]) == {"validation"}
