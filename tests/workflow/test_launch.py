"""A killed Snakemake stops no later run; a living one is never disturbed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.slurm import wait_for
from tests.workflow.conftest import ROOT

pytestmark = pytest.mark.slow

SNAKEFILE = """\
rule all:
    input: "done"

rule slow:
    output: "done"
    shell: "if [ -e again ]; then touch {output}; else touch again; exec sleep 300; fi"
"""
ARGUMENTS = ["--cores", "1", "--rerun-incomplete", "all"]
LAUNCH = [sys.executable, "-m", "workflow.launch", *ARGUMENTS]
PLAIN = [sys.executable, "-m", "snakemake", *ARGUMENTS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A graph of one job, which never ends the first time."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


@contextlib.contextmanager
def started(command: list[str], folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A run whose job is at work; all that is left of it ends with the block."""
    process = subprocess.Popen(
        [*command, "--directory", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: sleeping(folder), "the job does not start", 120)
        yield process
    finally:
        for left in [*sleeping(folder), *snakemakes(folder)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        process.kill()
        process.communicate(timeout=60)


def sleeping(folder: Path) -> list[psutil.Process]:
    """The job."""
    return processes(folder, "sleep")


def snakemakes(folder: Path) -> list[psutil.Process]:
    """Snakemake itself, however it was started."""
    return processes(folder, "snakemake")


def processes(folder: Path, word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if word in process.cmdline() and process.cwd() == str(folder):
                found.append(process)
    return found


def run(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """A run to its end."""
    return subprocess.run(
        [*command, "--directory", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def locks(folder: Path) -> set[str]:
    return {path.name for path in (folder / ".snakemake" / "locks").iterdir()}


def noted(folder: Path) -> bool:
    """Whether the locks of the run are written down."""
    return '.lock"' in (folder / ".snakemake" / "launched.json").read_text()


def test_a_killed_snakemake_leaves_neither_its_job_nor_a_lock(folder: Path) -> None:
    with started(LAUNCH, folder) as first:
        wait_for(lambda: noted(folder), "the locks are not noted")
        (snakemake,) = snakemakes(folder)
        snakemake.kill()
        _, said = first.communicate(timeout=60)
        assert first.returncode == 128 + signal.SIGKILL
        assert said.splitlines()[-1] == ("Snakemake was ended by SIGKILL; run it again to go on")
        assert sleeping(folder) == []
        assert locks(folder) == set()
        assert run(LAUNCH, folder).returncode == 0
    assert (folder / "done").exists()


def test_the_next_run_recovers_when_all_but_the_job_was_killed(folder: Path) -> None:
    with started(LAUNCH, folder) as first:
        wait_for(lambda: noted(folder), "the locks are not noted")
        (snakemake,) = snakemakes(folder)
        first.kill()
        snakemake.kill()
        first.wait(60)
        assert len(sleeping(folder)) == 1
        assert len(locks(folder)) == 2
        second = run(LAUNCH, folder)
        assert second.returncode == 0, second.stderr
        assert "the last run was killed; going on from where it was" in second.stderr
        assert sleeping(folder) == []
    assert (folder / "done").exists()


def test_a_living_run_is_named_and_keeps_its_lock(folder: Path) -> None:
    with started(LAUNCH, folder) as first:
        wait_for(lambda: noted(folder), "the locks are not noted")
        (snakemake,) = snakemakes(folder)
        before = locks(folder)
        second = run(LAUNCH, folder)
        assert second.returncode == 1
        assert second.stderr == (
            f"midframe: error: {folder}: another run works here; wait for it, or stop it\n"
        )
        first.kill()
        first.wait(60)
        third = run(LAUNCH, folder)
        assert third.returncode == 1
        assert third.stderr == (
            f"midframe: error: {folder}: Snakemake works here (process {snakemake.pid}); "
            "wait for it, or stop it\n"
        )
        assert locks(folder) == before
        assert snakemake.is_running()
        assert len(sleeping(folder)) == 1


def test_a_lock_that_another_way_of_starting_has_left_is_not_broken(folder: Path) -> None:
    with started(PLAIN, folder):
        before = locks(folder)
        second = run(LAUNCH, folder)
        assert second.returncode == 1
        assert "Directory cannot be locked" in second.stderr
        assert locks(folder) == before
        assert len(sleeping(folder)) == 1
