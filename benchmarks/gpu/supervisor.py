"""Parts run one after the other in a process of their own, and the check goes on without it.

A GPU that met an error in a kernel answers nothing more to its process, and a part may hang. So
the parts run in a child; it is ended when a part takes too long, and another one takes the rest.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import IO, Any

from benchmarks.gpu.parts import PARTS, Part

BUILDS = "MIDFRAME_PRETENDED_KERNELS"  # names the folder of kernels that the processes share

Outcome = dict[str, Any]  # "part", "state" (ok, failed, skipped), "seconds", "found" or "error"


def supervise(command: Sequence[str], parts: Sequence[tuple[Part, float]], total: float,
              tell: Callable[[str], None]) -> list[Outcome]:  # fmt: skip
    """Run parts, each within its seconds and all within ``total``; every part has an outcome.

    Where the first one fails, which looks for the device, the others are skipped.

    Parameters
    ----------
    command : of the child; the number of the pipe and the names of parts are appended.
    """
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + total
    while len(outcomes) < len(parts):
        if outcomes and outcomes[0]["state"] == "failed":
            why = {"state": "skipped", "seconds": 0.0, "found": {"skipped": "no device"}}
            return outcomes + [{"part": part.name, **why} for part, _ in parts[1:]]
        left = parts[len(outcomes) :]
        child, results = _start(command, [part.name for part, _ in left])
        lines = Lines(results)
        try:
            for part, seconds in left:
                outcome = _next(lines, part.name, min(seconds, deadline - time.monotonic()))
                outcomes.append(outcome)
                tell(f"{outcome['state']:8}{outcome['seconds']:6.1f} s  {part.name}")
                if outcome.pop("ended", False) or outcomes[0]["state"] == "failed":
                    break
        finally:
            _end(child)
            results.close()
    return outcomes


def _start(command: Sequence[str], names: list[str]) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [*command, str(writing), *names], pass_fds=[writing], start_new_session=True
    )
    os.close(writing)
    return child, open(reading, "rb", buffering=0)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait(timeout=30)


class Lines:
    """The child's lines, each waited for; it may have written several before one is asked for."""

    def __init__(self, results: IO[bytes]) -> None:
        self._results = results
        self._read = b""

    def next(self, seconds: float) -> bytes:
        """The next line.

        Raises
        ------
        TimeoutError : when it does not come in time.
        EOFError : when the child closed its end before it.
        """
        deadline = time.monotonic() + seconds
        while b"\n" not in self._read:
            patience = deadline - time.monotonic()
            if patience <= 0 or not select.select([self._results], [], [], patience)[0]:
                raise TimeoutError(f"took more time than it has ({max(seconds, 0):.0f} s)")
            piece = self._results.read(65536)
            if not piece:
                raise EOFError("its process ended")
            self._read += piece
        line, self._read = self._read.split(b"\n", 1)
        return line


def _next(lines: Lines, name: str, seconds: float) -> Outcome:
    """The child's next outcome, or why there is none."""
    begin = time.monotonic()
    try:
        return json.loads(lines.next(seconds))
    except (TimeoutError, EOFError) as why:
        return {
            "part": name,
            "state": "failed",
            "seconds": time.monotonic() - begin,
            "error": str(why),
            "ended": True,
        }


def run_parts(machine: Any, pipe: int, names: Sequence[str]) -> None:
    """What the child does: parts in their order, and a line of JSON for each."""
    by_name = {part.name: part for part in PARTS}
    with open(pipe, "w", encoding="utf-8") as results:
        for name in names:
            outcome, usable = _run(machine, by_name[name])
            results.write(json.dumps(outcome) + "\n")
            results.flush()
            if not usable:
                sys.exit(1)


def _run(machine: Any, part: Part) -> tuple[Outcome, bool]:
    """A part's outcome, and whether the device still answers."""
    begin = time.monotonic()
    outcome: Outcome = {"part": part.name, "state": "ok"}
    usable = True
    try:
        found = plain(part.function()(machine))
        outcome |= {"found": found, "state": "skipped" if "skipped" in found else "ok"}
        machine.synchronize()
    except Exception as error:  # any failure is the part's result
        outcome |= {
            "state": "failed",
            "error": f"{type(error).__name__}: {str(error)[:2000]}",
            "traceback": traceback.format_exc()[-6000:],
        }
        try:
            machine.synchronize()
        except (RuntimeError, AssertionError) as lost:  # the latter of a PyTorch without CUDA
            outcome["error"] += f" (and the device is lost: {str(lost)[:200]})"
            outcome["ended"] = True
            usable = False
    outcome["seconds"] = time.monotonic() - begin
    return outcome, usable


def plain(value: Any) -> Any:
    """The value as JSON has it; a number that is none becomes its name."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
