"""``python -m workflow.launch ARGUMENT …``: Snakemake, after what a killed run has left is cleared.

A Snakemake that is killed leaves a lock, which stops the next run, and may leave jobs that nobody
waits for. This command notes which Snakemake it starts and which locks that one takes. The next run
in the folder ends the jobs and removes the locks that the note names, and no others, once that
Snakemake is dead. A lock of a living run, or of one that was started otherwise, stays.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from pipeline.errors import MidframeError
from pipeline.progress import notice

RUN = "MIDFRAME_RUN"  # in the environment of all that a run starts
LOCK_INTERVAL = 0.1  # seconds between two looks for the locks that a new Snakemake takes
PATIENCE = 20.0  # seconds for an abandoned job to end by itself, before it is killed


class Note:
    """What is written down about the Snakemake that works in a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".snakemake" / "launched.json"
        self._locks = folder / ".snakemake" / "locks"

    def read(self) -> dict[str, Any] | None:
        """The note; ``None`` if there is none, or none that can be read."""
        try:
            note = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        complete = isinstance(note, dict) and {"host", "run", "pid", "started", "locks"} <= set(
            note
        )
        return note if complete else None

    def write(self, run: str, process: psutil.Process, locks: list[list[Any]]) -> None:
        """Write the note, whole or not at all."""
        note = {
            "host": socket.gethostname(),
            "run": run,
            "pid": process.pid,
            "started": process.create_time(),
            "locks": locks,
        }
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(note), encoding="utf-8")
        partial.replace(self._path)

    def remove(self) -> None:
        """Forget it."""
        self._path.unlink(missing_ok=True)

    def locks(self) -> list[list[Any]]:
        """The locks in the folder: name, inode and time of each, by which another one differs."""
        if not self._locks.is_dir():
            return []
        found = [(file.name, file.stat()) for file in sorted(self._locks.iterdir())]
        return [[name, status.st_ino, status.st_mtime_ns] for name, status in found]

    def remove_locks(self, locks: list[list[Any]]) -> None:
        """Remove those locks that are still the same ones."""
        for lock in self.locks():
            if lock in locks:
                (self._locks / lock[0]).unlink()


def launch(arguments: Sequence[str]) -> int:
    """Run Snakemake with ``arguments`` to its end; returns its exit status.

    Raises
    ------
    MidframeError
        if another run works in the folder.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--directory", "-d", type=Path, default=Path())
    folder = parser.parse_known_args(arguments)[0].directory.absolute()
    (folder / ".snakemake").mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / ".snakemake" / "launched.lock")
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise MidframeError(f"{folder}: another run works here; wait for it, or stop it") from None
    with held:
        note = Note(folder)
        if _recover(note, folder):
            notice("the last run was killed; going on from where it was")
        status = _run(arguments, note)
        if status < 0:
            _recover(note, folder)
            notice(f"Snakemake was ended by {signal.Signals(-status).name}; run it again to go on")
            return 128 - status
        note.remove()
        return status


def _recover(note: Note, folder: Path) -> bool:
    """Clear what a killed run has left; returns whether there was one."""
    last = note.read()
    if last is None or last["host"] != socket.gethostname():
        return False
    if _is_alive(last["pid"], last["started"]):
        raise MidframeError(
            f"{folder}: Snakemake works here (process {last['pid']}); wait for it, or stop it"
        )
    abandoned = list(_processes(last["run"]))
    for process in abandoned:
        process.terminate()
    for process in psutil.wait_procs(abandoned, PATIENCE)[1]:
        process.kill()
    note.remove_locks(last["locks"])
    note.remove()
    return True


def _is_alive(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        # Another process may have the number by now.
        return process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _processes(run: str) -> Iterator[psutil.Process]:
    """What a run has started and is still there."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN) == run:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def _run(arguments: Sequence[str], note: Note) -> int:
    run = uuid.uuid4().hex
    before = note.locks()
    # A terminal sends Ctrl-C to Snakemake too, and this process waits for what it makes of it.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    child = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments], env={**os.environ, RUN: run}
    )
    signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    try:
        process = psutil.Process(child.pid)
        note.write(run, process, [])
    except psutil.NoSuchProcess:
        return child.wait()
    while True:
        try:
            return child.wait(LOCK_INTERVAL)
        except subprocess.TimeoutExpired:
            # Both of its locks: of what it reads, and of what it writes.
            taken = [lock for lock in note.locks() if lock not in before]
            if len(taken) >= 2:
                note.write(run, process, taken)
                return child.wait()


def main(arguments: Sequence[str]) -> int:
    """The command."""
    try:
        return launch(arguments)
    except MidframeError as error:
        print(f"midframe: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
