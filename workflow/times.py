"""How long each step of an experiment took: ``python -m workflow.times results/demo``."""

import csv
import sys
from pathlib import Path

from pipeline.errors import MidframeError


def step_times(results: Path) -> dict[str, float]:
    """Seconds of each step that Snakemake has run, in the order in which they ended.

    Parameters
    ----------
    results : the experiment's folder, whose ``benchmarks`` hold a table for each step.

    Raises
    ------
    MidframeError
        if there are none.
    """
    folder = results / "benchmarks"
    files = sorted(folder.rglob("*.tsv"), key=lambda file: (file.stat().st_mtime_ns, file))
    if not files:
        raise MidframeError(f"{folder}: no times of steps; run the experiment first")
    times = {}
    for file in files:
        with file.open(newline="") as table:
            rows = list(csv.DictReader(table, delimiter="\t"))
        times[str(file.relative_to(folder).with_suffix(""))] = sum(float(row["s"]) for row in rows)
    return times


def report(times: dict[str, float]) -> str:
    """A line for each step and one for their sum, which is more than the time taken where steps ran
    side by side.
    """
    width = max(map(len, [*times, "all steps"]))
    lines = [f"{name:{width}}  {seconds:8.1f} s" for name, seconds in times.items()]
    return "\n".join([*lines, f"{'all steps':{width}}  {sum(times.values()):8.1f} s"])


if __name__ == "__main__":
    try:
        print(report(step_times(Path(sys.argv[1]))))
    except MidframeError as error:
        sys.exit(f"midframe: error: {error}")
