"""Each stage under each fault: the same bytes, or one clear line and nothing half-written."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.faults.commands import (
    ClockJump,
    Ending,
    Fault,
    Kill,
    OutOfMemory,
    Running,
    Truncate,
    Wait,
    WorkerKilled,
    run_command,
)
from tests.faults.conftest import Case, disk, remount
from tests.faults.table import RESUMED, SAME, TOLD, note

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PARTS = (0.3, 0.9)  # of a run, at which a fault falls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the stage writes."""
    made = tmp_path / "disk"
    made.mkdir()
    return made


def outcome(case: Case, folder: Path, ending: Ending) -> str:
    """How a disturbed run ended; it may not have left anything half-written."""
    left = case.stage.result(folder)
    assert left in (None, case.undisturbed), f"half-written: {sorted(left)}"
    assert "Traceback" not in ending.printed, ending.printed
    if ending.status == 0:
        assert left == case.undisturbed
        return SAME
    if ending.status < 0:
        return RESUMED
    assert len(ending.errors) == 1, ending.printed
    return RESUMED if ending.status == 130 else TOLD


def settle(fault: str, case: Case, folder: Path, ending: Ending, workers: int = 0) -> None:
    """Judge a disturbed run, let the next one finish its work, and count."""
    how = outcome(case, folder, ending)
    again = run_command(case.stage.command(folder, workers), folder)
    assert again.status == 0, again.printed
    assert case.stage.result(folder) == case.undisturbed
    assert [path.name for path in folder.iterdir()] == [case.stage.output]
    note(fault, case.stage.name, how)


def disturb(case: Case, folder: Path, faults: dict[int, Fault], workers: int = 0) -> Ending:
    """A run in an empty folder with faults at moments."""
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return run_command(case.stage.command(folder, workers), folder, faults)


def test_sigkill(case: Case, folder: Path) -> None:
    for part in PARTS:
        ending = disturb(case, folder, {case.at(part): Kill(signal.SIGKILL)})
        assert ending.status == -signal.SIGKILL
        settle("SIGKILL", case, folder, ending)


def test_sigterm(case: Case, folder: Path) -> None:
    for part in PARTS:
        ending = disturb(case, folder, {case.at(part): Kill(signal.SIGTERM)})
        settle("SIGTERM", case, folder, ending)


def test_ctrl_c_twice(case: Case, folder: Path) -> None:
    for part in PARTS:
        first = case.at(part)
        faults: dict[int, Fault] = {first: Kill(signal.SIGINT), first + 1: Kill(signal.SIGINT)}
        settle("Ctrl-C twice", case, folder, disturb(case, folder, faults))


def test_disk_full(case: Case, folder: Path) -> None:
    needed = sum(-(-len(content) // 4096) * 4096 for content in case.undisturbed.values())
    for part in PARTS:
        with disk(folder, max(int(part * needed), 4096)):
            ending = disturb(case, folder, {})
            how = outcome(case, folder, ending)
            assert how in (TOLD, SAME), ending.printed
            remount(folder, "size=64m")
            settle("disk full", case, folder, ending)


def test_read_only_output(case: Case, folder: Path) -> None:
    with disk(folder, 64 << 20):
        remount(folder, "ro")
        ending = disturb(case, folder, {})
        assert ending.status == 1
        remount(folder, "rw")
        settle("read-only output", case, folder, ending)


def test_two_runs_at_once(case: Case, folder: Path, tmp_path: Path) -> None:
    for part in PARTS:
        reached, go_on = tmp_path / f"reached-{part}", tmp_path / f"go-on-{part}"
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        command = case.stage.command(folder)
        first = Running(command, folder, {case.at(part): Wait(reached, go_on)}, name="first")
        deadline = time.monotonic() + 60
        while not reached.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        second = run_command(command, folder)
        how = outcome(case, folder, second)
        go_on.touch()
        ended = first.end()
        outcome(case, folder, ended)
        assert 0 in (ended.status, second.status), ended.printed + second.printed
        assert how in (SAME, TOLD)
        settle("two runs at once", case, folder, ended)


def test_stale_lock(case: Case, folder: Path) -> None:
    for part in PARTS:
        disturb(case, folder, {case.at(part): Kill(signal.SIGKILL)})
        for lock in [*folder.glob(".*.lock"), *folder.glob(".*/lock")]:
            lock.write_text("99999\n")
        settle("stale lock", case, folder, run_command(case.stage.command(folder), folder))


def test_clock_jump(case: Case, folder: Path) -> None:
    for seconds in (-86_400.0, 86_400.0, 1e9):
        ending = disturb(case, folder, {case.at(0.5): ClockJump(seconds)})
        assert ending.status == 0, ending.printed
        settle("clock jump", case, folder, ending)


def test_out_of_memory(case: Case, folder: Path) -> None:
    workers = 2 if case.stage.workers else 0
    fault: Fault = WorkerKilled() if case.stage.workers else OutOfMemory()
    for part in PARTS:
        ending = disturb(case, folder, {case.at(part): fault}, workers)
        settle("out of memory", case, folder, ending, workers)


def test_input_cut_short(case: Case, folder: Path) -> None:
    victim = case.stage.victim
    content, times = victim.read_bytes(), victim.stat()
    for part in PARTS:
        try:
            ending = disturb(case, folder, {case.at(part): Truncate(victim)})
            how = outcome(case, folder, ending)
            assert how in (SAME, TOLD), ending.printed
        finally:
            victim.write_bytes(content)
            os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
        settle("input cut short", case, folder, ending)
