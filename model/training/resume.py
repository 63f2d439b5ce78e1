"""State of an unfinished training, in its own directory until the stage is published.

The directory's name holds the digest of the stage's settings and inputs, so no other
experiment picks it up. Each of its files is written completely or not at all.
"""

import glob
import io
import os
import pickle
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from filelock import BaseFileLock, FileLock, Timeout

from model.network.checkpoints import write_atomically
from pipeline.errors import MidframeError
from pipeline.progress import notice
from pipeline.provenance import digest

FORMAT_VERSION = 2
KEPT_STATES = 2
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Progress:
    """The directory that holds a stage's state and unpublished results.

    Parameters
    ----------
    out : the directory that the stage will publish; the progress lies beside it.
    identity : settings and digests of the inputs, JSON values.
    writes : whether this process writes (one of them does); only a writer locks the directory.

    Raises
    ------
    MidframeError
        if the directory cannot be made, or another process is training the same stage.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any], writes: bool = True) -> None:
        self._name = out.name
        key = digest({"format_version": FORMAT_VERSION, **identity})[:16]
        self.directory = out.with_name(f".{out.name}.progress-{key}")
        self._lock = FileLock(self.directory / "lock")
        if writes:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=0)
            except Timeout:
                raise MidframeError(
                    f"{out}: another process is training this stage ({self.directory})"
                ) from None
            except OSError as error:
                raise MidframeError(
                    f"{out}: cannot write here ({error.strerror}); choose another output folder"
                ) from None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def results(self, name: str) -> Path:
        """A folder for results that will be published under ``name``."""
        folder = self.directory / "results" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, partial: Path) -> None:
        """Put the results into ``partial``, and keep them here too in case of an interrupt."""
        shutil.copytree(
            self.directory / "results",
            partial,
            dirs_exist_ok=True,
            copy_function=_link_or_copy,
            ignore=shutil.ignore_patterns(".*"),  # what a killed run had half written
        )

    def remove(self) -> None:
        """Delete the directory, once the stage is published, and those of other settings.

        A directory that another process is still training in stays.
        """
        _remove_held(self.directory, self._lock)
        for other in self.directory.parent.glob(f".{glob.escape(self._name)}.progress-*"):
            lock = FileLock(other / "lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _remove_held(other, lock)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Keep ``state``, and of the older states only the newest.

        Parameters
        ----------
        step : of the whole stage; names the state.
        state : tensors, numbers, strings, and lists and dicts of them.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomically(self.directory / f"state-{step:09d}.pt", buffer.getvalue())
        for old in self._states()[KEPT_STATES:]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read, on the CPU; ``None`` if there is none."""
        for path in self._states():
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
                notice(f"{path}: damaged ({type(error).__name__}), so the previous state is used")
                continue
            return state
        return None

    def _states(self) -> list[Path]:
        """Files of the states, newest first."""
        if not self.directory.is_dir():
            return []
        files = [f for f in self.directory.iterdir() if re.fullmatch(r"state-\d{9}\.pt", f.name)]
        return sorted(files, reverse=True)


def _remove_held(directory: Path, lock: BaseFileLock) -> None:
    """Remove a directory whose lock this process holds, the lock last.

    Windows removes no open file: there the lock is released first.
    """
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
    if sys.platform == "win32":
        lock.release()
    shutil.rmtree(directory)
    lock.release()


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


class StopRequest:
    """Whether the process has been asked to stop (SIGTERM, Ctrl-C)."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note the first request to stop instead of dying; a second one kills as usual.

    Preempted SLURM jobs, `torchrun` and Snakemake send SIGTERM, a terminal SIGINT.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        restore()
