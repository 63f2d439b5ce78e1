"""The doctor says what is there, and how to get what is missing."""

import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from midframe import doctor
from midframe.__main__ import build_parser
from pipeline.command_line import run
from pipeline.processor import Cores, Limit, Threads

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only one in which programs are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def make_program(folder: Path, name: str, says: str) -> None:
    program = folder / name
    program.write_text(f"#!{sys.executable}\nprint({says!r})\n")
    program.chmod(0o755)


def test_the_ffmpeg_program_is_found_and_asked_for_its_version(programs: Path) -> None:
    make_program(programs, "ffmpeg", "ffmpeg version 7.1 Copyright (c) the developers")
    assert doctor.ffmpeg() == doctor.Finding("ffmpeg", "ok", "ffmpeg version 7.1")


def test_an_ffmpeg_program_that_does_not_run_is_told(programs: Path) -> None:
    (programs / "ffmpeg").write_text("no program")
    (programs / "ffmpeg").chmod(0o755)
    found = doctor.ffmpeg()
    assert found.state == "absent"
    assert "does not run" in found.seen


def test_a_missing_ffmpeg_program_comes_with_how_to_get_it(programs: Path) -> None:
    found = doctor.ffmpeg()
    assert found.state == "absent"
    assert "apt-get install ffmpeg" in found.advice


def test_slurm_without_its_plugin_comes_with_how_to_get_it(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    assert doctor.slurm().seen == "no sbatch"
    make_program(programs, "sbatch", "")
    assert doctor.slurm().advice == "pip install 'midframe[slurm]'"
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: object())
    assert doctor.slurm().state == "ok"


def test_the_encoder_that_videos_are_written_by_is_there() -> None:
    found = doctor.encoders()
    assert found.state == "ok"
    assert "libx264" in found.seen


def test_a_missing_encoder_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED_ENCODERS", ("libx264", "no-such-encoder"))
    found = doctor.encoders()
    assert found.state == "broken"
    assert found.seen.endswith("without no-such-encoder")


def test_without_a_cuda_device_the_cpu_is_named(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "CPU" in doctor.gpu().advice
    make_program(programs, "nvidia-smi", "")
    assert "without CUDA" in doctor.gpu().advice


def test_a_gpu_comes_with_the_command_that_checks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    found = doctor.gpu()
    assert (found.state, found.seen) == ("ok", "card 0, card 1")
    assert "make gpu-check" in found.advice


def test_missing_cupy_comes_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    assert "pip install 'midframe[cuda]'" in doctor.cupy().advice


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    quota = Cores(64, (Limit(3, "a quota of 3 (cgroup)"),))
    monkeypatch.setattr(doctor, "choose_threads", lambda: Threads(3, quota, ""))
    found = doctor.cores()
    assert found.seen == "3 of 64 may be used; 3 threads"
    assert found.advice == "the limit is a quota of 3 (cgroup)"


def test_files_that_shadow_our_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not doctor.names().advice
    (tmp_path / "model.py").touch()
    assert doctor.names().seen == f"model.py in {tmp_path}"
    assert "`python -m midframe` ignore" in doctor.names().advice


def test_more_threads_than_cores_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "choose_threads", lambda: Threads(2, Cores(2, ()), "MIDFRAME", 8))
    assert doctor.cores().state == "absent"
    assert "MIDFRAME asks for 8" in doctor.cores().advice


@pytest.mark.parametrize(("free", "state"), [(10**8, "broken"), (5 * 10**9, "ok"), (10**12, "ok")])
def test_a_full_disk_is_broken(free: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**13, 0, free))
    found = doctor.space()
    assert found.state == state
    assert f"{free / 1e9:,.1f} GB free" in found.seen
    assert bool(found.advice) == (free < doctor.PAPER_BYTES)


def test_a_folder_that_cannot_be_written_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    found = doctor.temporary_files()
    assert found.state == "broken"
    assert found.advice == "set TMPDIR to a folder that you can write"


def test_the_kernel_cache_is_where_numba_keeps_it() -> None:
    found = doctor.kernel_cache()
    assert found.state == "ok"
    assert found.seen.endswith("can be written")


def test_the_report_lists_everything_and_a_broken_thing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(build_parser(), ["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= len(doctor.CHECKS)
    broken = doctor.Finding("space", "broken", "0.0 GB free", "free some")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.python, lambda: broken))
    assert run(build_parser(), ["doctor"]) == 1
    said = capsys.readouterr()
    assert "free some" in said.out
    assert said.err == "midframe: error: doctor: fix this first: space\n"
