"""Everything about CUDA on this machine, in one command: what holds, and how fast it is.

    python benchmarks/gpu_check.py [--quick] [--pretend] [--out results/gpu_check]

Needs Python 3.11, a CUDA build of PyTorch 2.9 or newer, CuPy and NumPy; no network, nothing that
must be installed or compiled before. Ends within 8 minutes (``--quick``: 60 s) and writes
``OUT.json`` and ``OUT.md``. A part that fails, hangs or breaks the device is named, and the others
still run; the exit status is 1 then. ``--pretend`` runs the same on a CPU, at small sizes, with the
kernels made by a C++ compiler: it shows that the check works, and measures nothing.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

TOTAL = {"full": 475.0, "quick": 58.0}
PRETENDING = 200.0  # seconds of a part on a CPU, which others may use too


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60 s instead of 8 minutes")
    parser.add_argument("--pretend", action="store_true", help="on the CPU, to test the check")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu_check")
    parser.add_argument("--only", action="append", default=[], metavar="PART")
    # What the check starts itself with.
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--few-sizes", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kill-at", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    return parser


@contextmanager
def device(given: argparse.Namespace) -> Iterator[object]:
    """The machine; with --pretend, the operator of CPU tensors runs the CUDA kernels."""
    from benchmarks.gpu.machine import Machine

    machine = Machine(given.quick, given.pretend)
    if not given.pretend:
        yield machine
        return
    import torch

    from benchmarks.gpu import on_cpu
    from benchmarks.gpu.supervisor import BUILDS

    torch.set_num_threads(1)
    with on_cpu.as_the_default(Path(os.environ[BUILDS])):
        yield machine


def run_child(given: argparse.Namespace) -> None:
    """One of the processes that the check consists of."""
    with device(given) as machine:
        if given.child:
            from benchmarks.gpu.supervisor import run_parts

            run_parts(machine, int(given.child[0]), given.child[1:])
        elif given.few_sizes:
            from benchmarks.gpu.operator_parts import few_sizes

            few_sizes(machine)
        elif given.rank is not None:
            from benchmarks.gpu.training_parts import one_of_two

            one_of_two(machine, given.rank, given.state)
        else:
            from benchmarks.gpu.training_parts import train_until_killed

            train_until_killed(machine, given.state, given.kill_at)


def check(given: argparse.Namespace) -> int:
    """Run the parts, write the report, and return the exit status."""
    from benchmarks.gpu import report
    from benchmarks.gpu.parts import PARTS
    from benchmarks.gpu.supervisor import BUILDS, supervise

    names = [part.name for part in PARTS]
    for name in given.only:
        if name not in names:
            raise SystemExit(f"no part {name!r}: choose from {', '.join(names)}")
    mode = "quick" if given.quick else "full"
    parts = []
    for part in PARTS:
        seconds = part.quick if given.quick else part.full
        if seconds is not None and (not given.only or part.name in given.only):
            parts.append((part, PRETENDING if given.pretend else seconds))
    command = [sys.executable, str(Path(__file__).resolve())]
    command += ["--quick"] * given.quick + ["--pretend"] * given.pretend + ["--child"]
    begin = time.monotonic()
    total = 2.6 * PRETENDING if given.pretend else TOTAL[mode]
    with tempfile.TemporaryDirectory() as folder:
        os.environ[BUILDS] = folder  # each process would compile the pretended kernels
        outcomes = supervise(command, parts, total, lambda line: print(line, flush=True))
    seconds = time.monotonic() - begin
    label = f"{mode}, pretended" if given.pretend else mode
    for path in report.write(outcomes, label, seconds, given.out):
        print(path)
    failed = [outcome["part"] for outcome in outcomes if outcome["state"] == "failed"]
    print(f"{seconds:.0f} s; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def main() -> None:
    given = build_parser().parse_args()
    if given.child or given.few_sizes or given.kill_at is not None or given.rank is not None:
        run_child(given)
    else:
        sys.exit(check(given))


if __name__ == "__main__":
    main()
