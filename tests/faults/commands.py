"""A command in a process of its own, with a fault at a chosen moment.

Moments are counted in what the command does under a folder: files that it opens to write, renames
and removes, and lines that it prints. So a fault falls at the same place on any machine. Processes
are forked from one that has the libraries loaded: a run costs a fraction of a second.
"""

import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import Any

import psutil

TIMEOUT = 150.0  # seconds that a command may take
LIBRARIES = [
    "midframe.__main__",
    "model.evaluation.evaluate",
    "model.training.train",
    "model.video.smoothing",
    "pipeline.selection.cuts",
    "pipeline.selection.motion",
    "pipeline.selection.patches",
    "pipeline.sources.datasets",
]
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LIBRARIES)

Fault = Callable[[], None]


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    status: int  # exit status; negative: the signal that ended it
    printed: str
    moments: int  # what was counted

    @property
    def errors(self) -> list[str]:
        """Lines that tell the user what went wrong."""
        prefixes = ("midframe: error:", "midframe: interrupted")
        return [line for line in self.printed.splitlines() if line.startswith(prefixes)]


class Moments(TextIOBase):
    """Counts what the command does; stands for standard error, whose lines count too."""

    def __init__(self, folder: Path, log: Path, faults: dict[int, Fault]) -> None:
        self._folder, self._faults, self.count = str(folder), faults, 0
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._process = os.getpid()

    def write(self, text: str) -> int:
        """Print, and count a line."""
        os.write(self._log, text.encode())
        if "\n" in text:
            self._happened()
        return len(text)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take note of an event of the interpreter."""
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event in WRITES:
            path = arguments[0]
        else:
            return
        if isinstance(path, (str, os.PathLike)) and str(path).startswith(self._folder):
            self._happened()

    def _happened(self) -> None:
        if os.getpid() != self._process:
            return
        self.count += 1
        fault = self._faults.pop(self.count, None)
        if fault is not None:
            fault()


def _execute(
    arguments: list[str], folder: Path, log: Path, faults: dict[int, Fault], counted: Any
) -> None:
    import pipeline.progress
    from midframe.__main__ import build_parser
    from pipeline.command_line import run

    moments = Moments(folder, log, faults)
    sys.stderr = sys.stdout = moments  # type: ignore[assignment]
    os.dup2(moments._log, 1)
    os.dup2(moments._log, 2)
    pipeline.progress.LOG_INTERVAL = 0.0  # every step prints a line
    sys.addaudithook(moments.audit)
    try:
        status = run(build_parser(), arguments)
    finally:
        counted.value = moments.count
    os._exit(status)


class Running:
    """A command at work."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        faults: dict[int, Fault] | None = None,
        name: str = "log",
    ) -> None:
        self._log = folder.parent / f"{folder.name}.{name}"
        self._log.unlink(missing_ok=True)
        self._counted = _context.Value("i", 0)
        given = (list(arguments), folder, self._log, faults or {}, self._counted)
        self.process = _context.Process(target=_execute, args=given)
        self.process.start()

    def end(self) -> Ending:
        """Wait for its end."""
        self.process.join(TIMEOUT)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise TimeoutError(self._log.read_text())
        printed = self._log.read_text() if self._log.exists() else ""
        return Ending(self.process.exitcode or 0, printed, self._counted.value)


def run_command(
    arguments: Sequence[str], folder: Path, faults: dict[int, Fault] | None = None
) -> Ending:
    """Run a command to its end."""
    return Running(arguments, folder, faults).end()


# Faults that a command brings on itself. Instances travel to its process.


@dataclass(frozen=True)
class Kill:
    """A signal to the command itself."""

    signal: int

    def __call__(self) -> None:
        os.kill(os.getpid(), self.signal)


@dataclass(frozen=True)
class ClockJump:
    """The clock of this process moves by so many seconds."""

    seconds: float

    def __call__(self) -> None:
        true, true_ns = time.time, time.time_ns
        time.time = lambda: true() + self.seconds
        time.time_ns = lambda: true_ns() + int(self.seconds * 1e9)


@dataclass(frozen=True)
class Wait:
    """The command says where it is, and waits until it may go on."""

    reached: Path
    go_on: Path

    def __call__(self) -> None:
        self.reached.touch()
        deadline = time.monotonic() + TIMEOUT / 2
        while not self.go_on.exists() and time.monotonic() < deadline:
            time.sleep(0.05)


@dataclass(frozen=True)
class OutOfMemory:
    """The system has no more memory for this process."""

    def __call__(self) -> None:
        raise MemoryError


@dataclass(frozen=True)
class WorkerKilled:
    """The system takes the memory of a worker: of the first one that is there from now on."""

    def __call__(self) -> None:
        threading.Thread(target=self._kill, daemon=True).start()

    @staticmethod
    def _kill() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if any("spawn_main" in word for word in child.cmdline()):
                        child.kill()
                        return
            time.sleep(0.05)


@dataclass(frozen=True)
class Truncate:
    """Half of an input is gone."""

    path: Path

    def __call__(self) -> None:
        os.truncate(self.path, self.path.stat().st_size // 2)
