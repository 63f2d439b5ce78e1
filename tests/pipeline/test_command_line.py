"""What a person types: bad input is one clear line and a status, and nothing is half-written."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.__main__ import build_parser
from pipeline.command_line import run
from tests.conftest import SMALL_PATCHES, directory_bytes


def command(*arguments: object) -> int:
    return run(build_parser(), [str(argument) for argument in arguments])


def test_the_data_commands_build_a_patch_store(
    small_frames: Path, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = {name: tmp_path / name for name in ("frames", "motion", "cuts", "patches", "look")}
    here = ("--workers", 0)
    assert command("fetch", "folder", "--path", small_frames, "--out", out["frames"]) == 0
    assert command("score", out["frames"], "--out", out["motion"], *here) == 0
    assert command("cuts", out["frames"], "--out", out["cuts"], *here) == 0
    sources = ("--motion", out["motion"], "--cuts", out["cuts"])
    settings = ("--settings", SMALL_PATCHES.model_dump_json())
    sampled = command("sample", out["frames"], *sources, "--out", out["patches"], *settings, *here)
    assert sampled == 0
    assert command("verify", out["patches"]) == 0
    assert "intact" in capsys.readouterr().out
    assert command("inspect", out["patches"], "--out", out["look"]) == 0
    assert directory_bytes(out["patches"]) == directory_bytes(patches)


def test_a_folder_needs_no_fetch(small_frames: Path, tmp_path: Path) -> None:
    assert command("cuts", small_frames, "--out", tmp_path / "cuts", "--workers", 0) == 0
    assert (tmp_path / "cuts" / "distances.parquet").is_file()


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Folders that hold what a user may give by mistake."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("hello")
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "video.mp4").write_text("hello")
    (tmp_path / "short").mkdir()
    with av.open(tmp_path / "short" / "two.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "missing: no such folder; give a folder of videos or of image folders"),
        ("empty", "empty: holds neither videos"),
        ("texts", "texts: holds neither videos"),
        ("fake", "video.mp4: not a readable video"),
        ("short", "two.mp4: has 2 frames, but a triplet needs 3"),
    ],
)
@pytest.mark.parametrize("stage", ["fetch", "score", "cuts"])
def test_bad_input_is_one_line_and_leaves_nothing(
    inputs: Path, stage: str, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = inputs / "out" / "result"
    given = ("folder", "--path", inputs / name) if stage == "fetch" else (inputs / name,)
    assert command(stage, *given, "--out", out, "--workers", 0) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "frames:" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("midframe: error: ")
    assert said in lines[0]
    assert not out.exists()
    # What was found out about a dataset's files is kept for the next try.
    assert [path for path in inputs.glob("out/*") if ".progress-" not in path.name] == []


@pytest.mark.parametrize("stage", ["score", "cuts"])
def test_an_output_that_cannot_be_written_is_named(
    dataset: Path, tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command(stage, dataset, "--out", tmp_path / "file" / "out", "--workers", 0) == 1
    assert "cannot write here" in capsys.readouterr().err


def test_a_settings_file_with_a_typo_is_told_by_key(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.yaml").write_text("strid: 1\n")
    settings = ("--settings", tmp_path / "settings.yaml")
    assert command("score", dataset, "--out", tmp_path / "out", *settings) == 1
    said = capsys.readouterr().err
    assert "settings.yaml: strid: unknown key 'strid'; did you mean 'stride'?" in said
    assert not (tmp_path / "out").exists()


def test_a_damaged_store_fails_verification(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("verify", tmp_path / "none") == 1
    assert "no such directory" in capsys.readouterr().err
    copy = Path(shutil.copytree(patches, tmp_path / "copy"))
    damaged = copy / "candidates.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (copy / "patches.zarr/triplet/c/0/0/0/0/0").unlink()
    assert command("verify", copy) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"midframe: error: {damaged}: damaged (another SHA-256 than in the manifest)",
        f"midframe: error: {copy}/patches.zarr/triplet/c/0/0/0/0/0: missing",
    ]


@pytest.mark.slow
def test_ctrl_c_ends_a_command_without_a_traceback_and_keeps_what_is_done(
    clips: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "score", clips, "--out", tmp_path / "out"],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    finished = ".out.progress-*/motion.zarr/*/c.*"
    while not list(tmp_path.glob(finished)) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "midframe: interrupted" in said
    assert "Traceback" not in said
    assert list(tmp_path.glob(finished))
    assert not (tmp_path / "out").exists()
