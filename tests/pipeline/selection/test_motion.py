"""The motion stage computes every triplet's flow once, however often it is interrupted."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.__main__ import build_parser
from pipeline.command_line import run
from pipeline.errors import MidframeError
from pipeline.flow.optical_flow import Flow, compute_flow
from pipeline.frames.sequences import FrameSequence, open_frames
from pipeline.provenance import read_manifest
from pipeline.selection import motion
from pipeline.selection.motion import score
from pipeline.selection.patches import Source
from pipeline.settings import MotionSettings
from pipeline.store.motion_store import STEPS, MotionStore
from tests.conftest import directory_bytes


def test_the_flow_is_that_between_first_and_third_frame(source: Source) -> None:
    store = MotionStore(source.motion)
    for sequence in open_frames(source.frames):
        for row, first in enumerate(store.first_frames(sequence.name)):
            a, _, b = sequence.read(first, first + 3)
            flow = compute_flow(a, b, layers=3, averaging_block_size=2, max_flow=4)
            stored = store.flow(sequence.name, row)
            np.testing.assert_allclose(stored, flow, rtol=0, atol=0.5 / STEPS)


def test_another_method_of_flow_can_be_stored(dataset: Path, tmp_path: Path) -> None:
    score(dataset, tmp_path / "motion", MotionSettings(method="dis"), workers=0)
    (sequence, _) = open_frames(dataset)
    a, _, b = sequence.read(0, 3)
    stored = MotionStore(tmp_path / "motion").flow(sequence.name, 0)
    np.testing.assert_allclose(stored, compute_flow(a, b, "dis"), rtol=0, atol=0.5 / STEPS)


def test_every_third_frame_starts_a_triplet(source: Source) -> None:
    assert MotionStore(source.motion).first_frames("cut") == [0, 3, 6, 9]
    assert read_manifest(source.motion, "motion", 2)["triplets"] == 6


def test_overlapping_triplets_are_scored_too(dataset: Path, source: Source, tmp_path: Path) -> None:
    score(dataset, tmp_path / "motion", MotionSettings(stride=1), workers=0)
    dense = MotionStore(tmp_path / "motion")
    assert dense.first_frames("ride") == [0, 1, 2, 3]
    np.testing.assert_array_equal(dense.flow("ride", 3), MotionStore(source.motion).flow("ride", 1))


DENSE = MotionSettings(stride=1)
DENSE_TRIPLETS = 14


@pytest.fixture
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """One triplet a partition."""
    monkeypatch.setattr(motion, "PARTITION_PIXELS", 1)


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`DENSE` motion, one triplet a partition, computed in one go."""
    out = tmp_path_factory.mktemp("undisturbed") / "motion"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(motion, "PARTITION_PIXELS", 1)
        score(dataset, out, DENSE, workers=0)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_do_not_change_a_byte(
    workers: int, dataset: Path, undisturbed: Path, small_partitions: None, tmp_path: Path
) -> None:
    score(dataset, tmp_path / "motion", DENSE, workers=workers)
    assert directory_bytes(tmp_path / "motion") == directory_bytes(undisturbed)


@pytest.mark.slow
def test_a_cluster_started_by_hand_computes_the_same_bytes(
    dataset: Path,
    undisturbed: Path,
    small_partitions: None,
    tmp_path: Path,
    hand_started: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = ["score", str(dataset), "--out", str(tmp_path / "motion")]
    arguments += ["--scheduler", hand_started, "--settings", DENSE.model_dump_json()]
    assert run(build_parser(), arguments) == 0
    assert directory_bytes(tmp_path / "motion") == directory_bytes(undisturbed)
    # Nobody looks at a terminal here, so progress is told in plain lines.
    # The last of them: a slow machine is told of more than once.
    *_, line = (one for one in capfd.readouterr().err.splitlines() if one.startswith("optical"))
    assert re.fullmatch(r"optical flow: 14/14 triplets, \S+ triplets/s, 0 s left", line)


def test_a_partition_may_hold_many_sequences_or_a_part_of_one(
    dataset: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion, "PARTITION_PIXELS", 3 * 160 * 120)
    score(dataset, tmp_path / "motion", DENSE, workers=0)
    shards = {file.name for file in (tmp_path / "motion" / "motion.zarr" / "160x120").iterdir()}
    assert shards == {"zarr.json", *(f"c.{shard}.0.0.0" for shard in range(4))}
    one, other = MotionStore(undisturbed), MotionStore(tmp_path / "motion")
    for name in ("cut", "ride"):
        assert one.first_frames(name) == other.first_frames(name)
        for row in range(len(one.first_frames(name))):
            np.testing.assert_array_equal(one.flow(name, row), other.flow(name, row))


class Power:
    """Flow that stops working after some calls, and counts them."""

    def __init__(self, calls: float = float("inf")) -> None:
        self.calls, self.left = 0, calls

    def __call__(self, *arguments: object, **settings: object) -> Flow:
        if self.left <= 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.calls += 1
        return compute_flow(*arguments, **settings)  # type: ignore[arg-type]


def test_the_next_run_computes_only_what_is_missing(
    dataset: Path,
    undisturbed: Path,
    small_partitions: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(motion, "compute_flow", Power(5))
    with pytest.raises(KeyboardInterrupt):
        score(dataset, tmp_path / "motion", DENSE, workers=0)
    assert not (tmp_path / "motion").exists()
    (progress,) = tmp_path.glob(".motion.progress-*")
    (progress / "motion.zarr" / "160x120" / "c.9.0.0.0f00.partial").write_text("half a shard")

    rest = Power()
    monkeypatch.setattr(motion, "compute_flow", rest)
    score(dataset, tmp_path / "motion", DENSE, workers=0)
    assert rest.calls == DENSE_TRIPLETS - 5
    assert "5 of 14 triplets are done" in capsys.readouterr().err
    assert directory_bytes(tmp_path / "motion") == directory_bytes(undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["motion"]


def test_progress_of_other_settings_is_not_taken_up_and_removed_in_the_end(
    dataset: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion, "PARTITION_PIXELS", 1)
    monkeypatch.setattr(motion, "compute_flow", Power(5))
    with pytest.raises(KeyboardInterrupt):
        score(dataset, tmp_path / "motion", MotionSettings(stride=1, layers=2), workers=0)
    monkeypatch.setattr(motion, "compute_flow", compute_flow)
    score(dataset, tmp_path / "motion", DENSE, workers=0)
    assert directory_bytes(tmp_path / "motion") == directory_bytes(undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["motion"]


def test_after_a_full_disk_the_next_run_goes_on(
    dataset: Path, undisturbed: Path, small_partitions: None, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(700_000))
    with pytest.raises(MidframeError, match=r"disk: not enough space: .*free some"):
        score(dataset, small_disk / "motion", DENSE, workers=0)
    (progress,) = small_disk.glob(".motion.progress-*")
    done = len(list(progress.rglob("c.*")))
    assert 0 < done < DENSE_TRIPLETS
    filler.unlink()
    score(dataset, small_disk / "motion", DENSE, workers=0)
    assert directory_bytes(small_disk / "motion") == directory_bytes(undisturbed)


PROGRAM = """
import sys, time
from pathlib import Path
from pipeline.selection import motion
from pipeline.__main__ import build_parser
from pipeline.command_line import run
from pipeline.settings import MotionSettings


def slow(partition):
    time.sleep(0.2)
    motion.compute_partition(partition)


if __name__ == "__main__":
    motion.PARTITION_PIXELS = 1
    motion.compute_partition = slow  # here, not in the workers
    motion.score(Path(sys.argv[1]), Path(sys.argv[2]), MotionSettings(stride=1), workers=2)
"""


@pytest.mark.slow
def test_kills_at_random_moments_do_not_change_a_byte(
    dataset: Path, undisturbed: Path, tmp_path: Path
) -> None:
    program, out = tmp_path / "program.py", tmp_path / "out" / "motion"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(Path(motion.__file__).parents[1])}
    moments = random.Random()

    def shards() -> int:
        return len(list(out.parent.glob("**/c.*.0.0.0")))

    kills = 0
    for victim in ["run", "worker", "run", "nobody"]:
        before = shards()
        process = subprocess.Popen(
            [sys.executable, str(program), str(dataset), str(out)], env=environment
        )
        while shards() == before and process.poll() is None:
            time.sleep(0.01)
        children = psutil.Process(process.pid).children() if process.poll() is None else []
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        time.sleep(moments.uniform(0, 0.5))
        if victim == "run":
            process.kill()
        elif victim == "worker" and workers:
            moments.choice(workers).kill()
        status = process.wait(120)
        assert status == (-signal.SIGKILL if victim == "run" else 0) or out.exists()
        kills += victim != "nobody" and bool(workers)
        _, orphans = psutil.wait_procs(workers, timeout=30)
        assert orphans == []
        if out.exists():
            break
    assert kills > 0
    assert directory_bytes(out) == directory_bytes(undisturbed)
    assert [path.name for path in out.parent.iterdir()] == ["motion"]


def test_a_worker_that_does_not_see_the_output_is_told_from_a_bug(tmp_path: Path) -> None:
    partition = motion.Partition(tmp_path / "out", (8, 8), 0, range(1), (), MotionSettings())
    with pytest.raises(MidframeError, match=r"out: a worker on .* does not see this folder"):
        motion.compute_partition(partition)


def test_a_sequence_that_was_not_scored_is_named(source: Source) -> None:
    with pytest.raises(MidframeError, match="holds no motion of sequence 'boat'"):
        MotionStore(source.motion).first_frames("boat")


def test_a_frame_that_vanishes_meanwhile_leaves_nothing_half_written(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = [
        FrameSequence(s.name, s.path, s.frame_count + 3, s.height, s.width)
        for s in open_frames(dataset)
    ]
    monkeypatch.setattr("pipeline.selection.motion.open_frames", lambda path: longer)
    with pytest.raises(MidframeError, match="has the file changed"):
        score(dataset, tmp_path / "motion", MotionSettings(), workers=0)
    assert not (tmp_path / "motion").exists()
