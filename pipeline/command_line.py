"""What the commands of both packages have in common."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.caches import prepare_caches
from pipeline.errors import MidframeError
from pipeline.locations import Url, location
from pipeline.processor import SETTING, choose_threads, use_threads
from pipeline.progress import notice

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction
"""What `add_subparsers` returns: a parser's commands, to which each package adds its own."""


def settings_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--settings``."""
    parser.add_argument(
        "--settings",
        metavar="S",
        help=f"{what} as JSON text, or a YAML or JSON file that holds them; "
        "keys that it does not name keep their defaults (see docs/settings.md)",
    )


def output_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--out``, a directory."""
    parser.add_argument(
        "--out", type=location, required=True, metavar="DIR", help=f"{what} (or s3://bucket/prefix)"
    )


def threads_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``; the command's first line then says how many were chosen, and why."""
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help=f"threads to compute with (default: ${SETTING}, if set, or else as many as this "
        "process may use of the cores: its affinity, a container's quota, SLURM's share and "
        "$OMP_NUM_THREADS count)",
    )


def cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers`` and ``--scheduler``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes on this machine; 0: none, everything in this process (default: one for "
        "each core that may be used)",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="address of a running Dask scheduler, for example tcp://node1:8786, or slurm:N for "
        "workers in at most N SLURM jobs (default: $DASK_SCHEDULER_ADDRESS, if set)",
    )


def run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run the command, and return the exit status.

    Every sub-command sets ``command`` (with ``parser.set_defaults``) to a function of the parsed
    arguments. A `MidframeError` becomes one line on standard error and status 1, an interrupt
    (Ctrl-C) status 130; any other exception is a bug and keeps its traceback. SIGTERM, which
    batch systems send, ends the command as an interrupt does, so that nothing half-written stays.
    Before the command loads a library that computes, this sets how many threads each uses
    (`pipeline.processor`) and where compiled code goes (`pipeline.caches`). URLs among the
    arguments become paths (`pipeline.staging`).
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        parsed = parser.parse_args(arguments)
        urls = _has_urls(parsed)
        prepare_caches()
        threads = choose_threads(getattr(parsed, "threads", None))
        use_threads(threads.count, exactly=bool(threads.source))
        if hasattr(parsed, "threads"):
            notice(f"using {threads}")
        if urls:
            from pipeline.staging import run_staged

            run_staged(parsed.command, parsed)
        else:
            parsed.command(parsed)
    except MidframeError as error:
        for line in str(error).splitlines():
            print(f"midframe: error: {line}", file=sys.stderr)
        return 1
    except MemoryError:
        print(
            "midframe: error: out of memory; leave it more, or start fewer --workers; the same "
            "command goes on from what is done",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        # Who presses Ctrl-C twice need not read a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("midframe: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)
    return 0


def _has_urls(parsed: argparse.Namespace) -> bool:
    """Whether a URL is among the arguments.

    Raises
    ------
    MidframeError
        if one is given where only a path can be.
    """
    given = [
        (name, value)
        for name, values in vars(parsed).items()
        for value in (values if isinstance(values, list) else [values])
    ]
    for name, value in given:
        # A path has lost one of the slashes.
        if isinstance(value, Path | str) and str(value).startswith("s3:/"):
            url = str(value).replace("s3:/", "s3://", 1).replace("///", "//")
            raise MidframeError(f"{url}: {name} must be a path on this machine, and no URL")
    return any(isinstance(value, Url) for _, value in given)
