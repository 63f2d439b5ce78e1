"""The tables of docs/scaling.md, from benchmarks/scaling.json and the prices below.

    python benchmarks/scaling_prediction.py [--write]

A stage takes as long as its scarcest resource: CPU time shared by all cores, bytes through the
storage that all nodes share, or through the network of each, or tasks through the process that
hands them out. Stages follow each other. Costs of pixels are taken as proportional to their number.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks/scaling.json"
PAGE = ROOT / "docs/scaling.md"
MEASURED_PIXELS = 854 * 480  # of the frames that bench_scaling.py takes


@dataclass(frozen=True)
class Machine:
    """Parameters, not measurements: a node of a cloud, its price, and what nodes share."""

    cores: int = 32
    node_hour: float = 1.50  # dollars
    network: float = 1.25e9  # bytes a second of one node: 10 Gbit/s
    storage: float = 5e9  # bytes a second of the storage that all nodes share
    gigabyte_month: float = 0.023  # dollars


@dataclass(frozen=True)
class Dataset:
    """A body of video: parameters too."""

    name: str
    frames: int
    triplets: int
    pixels: int  # of a frame
    kind: str  # `video` or `images`


DATASETS = (
    Dataset("DAVIS 2017 trainval, 480p", 6_208, 2_037, 854 * 480, "images"),
    Dataset("Vimeo-90K triplets", 3 * 73_171, 73_171, 448 * 256, "images"),
    Dataset("1,000 h, 720p at 25 frames/s", 90_000_000, 30_000_000, 1280 * 720, "video"),
    Dataset("1 M clips of 3 s, 720p at 25 frames/s", 75_000_000, 25_000_000, 1280 * 720, "video"),
)
NODES = (1, 10, 100)


@dataclass(frozen=True)
class Slope:
    """What one unit of a stage costs, on frames of `MEASURED_PIXELS`."""

    cpu: float  # seconds
    read: float  # bytes
    written: float
    at_most: bool = False  # whether ``cpu`` is an upper bound


def slope(rows: dict[str, dict[str, float]]) -> Slope:
    """Cost of a unit between the small and the large run, without what a run costs once."""
    few, many = rows["few"], rows["many"]
    units = many["units"] - few["units"]
    cpu, read, written = ((many[n] - few[n]) / units for n in ("cpu_s", "read", "written"))
    if cpu <= 0:  # too little to be told from noise: all of a run bounds it from above
        return Slope(many["cpu_s"] / many["units"], read, written, at_most=True)
    return Slope(cpu, read, written)


def stages_of(dataset: Dataset, measured: dict[str, Any]) -> dict[str, tuple[Slope, int, float]]:
    """For each stage its slope, the units that a dataset has, and its tasks."""
    slopes = {name: slope(rows) for name, rows in measured["stages"].items()}
    # A task of `score` and `sample` is a number of pixels; of `fetch` and `cuts`, a sequence.
    a_task = measured["driver"][0]["triplets_a_task"] * MEASURED_PIXELS / dataset.pixels
    partitions = dataset.triplets / a_task
    sequences = dataset.frames / 75
    return {
        "fetch": (slopes[f"fetch, {dataset.kind}"], dataset.frames, sequences),
        "score": (slopes["score"], dataset.triplets, partitions),
        "cuts": (slopes["cuts"], dataset.frames, sequences),
        "sample": (slopes["sample"], dataset.triplets, 2 * partitions),
    }


def driver_rate(row: dict[str, float]) -> float:
    """Tasks that the driver hands out in a second of its CPU time."""
    return row["triplets"] / row["triplets_a_task"] / row["cpu_s"]


def most_tasks(measured: dict[str, Any]) -> dict[str, float]:
    """The run of the driver that had the most tasks."""
    rows: list[dict[str, float]] = measured["driver"]
    return max(rows, key=lambda row: row["triplets"] / row["triplets_a_task"])


def driver_memory(triplets: int, measured: dict[str, Any]) -> float:
    """Bytes of the process that hands them out, by the line through the ends of the runs."""
    small, large = measured["driver"][0], most_tasks(measured)
    each = (large["memory"] - small["memory"]) / (large["triplets"] - small["triplets"])
    return float(small["memory"] + each * max(triplets - small["triplets"], 0))


def seconds(
    dataset: Dataset, nodes: int, machine: Machine, measured: dict[str, Any]
) -> dict[str, tuple[float, str]]:
    """Of each stage the time, and which resource it waits for."""
    times = {}
    for name, (cost, units, tasks) in stages_of(dataset, measured).items():
        scale = units * dataset.pixels / MEASURED_PIXELS
        moved = scale * (cost.read + cost.written)
        waits = {
            "CPU": scale * cost.cpu / (nodes * machine.cores),
            "network": moved / (nodes * machine.network),
            "storage": moved / machine.storage,
            "driver": tasks / driver_rate(most_tasks(measured)),
        }
        bound = max(waits, key=lambda resource: waits[resource])
        times[name] = (waits[bound], bound)
    return times


def duration(value: float) -> str:
    """Seconds in the unit that people use."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.2g} s"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cost_table(measured: dict[str, Any]) -> str:
    """What a unit of each stage costs."""
    units = {"score": "triplet", "sample": "triplet"}
    rows = []
    for name, measurement in measured["stages"].items():
        cost = slope(measurement)
        unit = units.get(name, "frame")
        sizes = tuple(f"{value / 1e3:.3g} kB" for value in (cost.read, cost.written))
        bound = "at most " if cost.at_most else ""
        rows.append((name, unit, f"{bound}{1e3 * cost.cpu:.3g} ms", *sizes))
    rows += [
        (name, name.split()[-1], f"{1e3 * cpu:,.0f} ms", "", "")
        for name, cpu in measured["network"].items()
    ]
    return table(("stage", "unit", "CPU time", "reads", "writes"), rows)


def driver_table(measured: dict[str, Any]) -> str:
    """What handing out costs."""
    score = slope(measured["stages"]["score"]).cpu
    rows = []
    for row in measured["driver"]:
        of_a_task, rate = int(row["triplets_a_task"]), driver_rate(row)
        rows.append(
            (
                f"{int(row['triplets']):,}",
                f"{of_a_task}",
                f"{rate:,.0f}",
                f"{row['memory'] / 1e6:,.0f} MB",
                f"{rate * of_a_task * score:,.0f}",
            )
        )
    head = (
        "triplets",
        "a task",
        "tasks a second of its CPU",
        "largest memory",
        "cores that it keeps busy",
    )
    return table(head, rows)


def prediction_table(measured: dict[str, Any], machine: Machine) -> str:
    """Time and money of each dataset on each number of nodes."""
    rows = []
    for dataset in DATASETS:
        written = sum(
            units * cost.written * dataset.pixels / MEASURED_PIXELS
            for cost, units, _ in stages_of(dataset, measured).values()
        )
        for nodes in NODES:
            times = seconds(dataset, nodes, machine, measured)
            total = sum(time for time, _ in times.values())
            slowest = max(times, key=lambda name: times[name][0])
            price = nodes * total / 3600 * machine.node_hour
            rows.append(
                (
                    dataset.name,
                    str(nodes),
                    duration(total),
                    f"{slowest}: {times[slowest][1]}",
                    f"{price:,.2f}",
                    f"{written / 1e9:,.0f}",
                    f"{written / 1e9 * machine.gigabyte_month:,.2f}",
                    f"{driver_memory(dataset.triplets, measured) / 1e9:.2g} GB",
                )
            )
    head = (
        "data",
        "nodes",
        "time",
        "longest, waits for",
        "$",
        "GB written",
        "$ a month",
        "driver's memory",
    )
    return table(head, rows)


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, by name."""
    return {
        "costs": cost_table(measured),
        "driver": driver_table(measured),
        "predictions": prediction_table(measured, Machine()),
    }


def with_tables(page: str, measured: dict[str, Any]) -> str:
    """A page whose tables are those of the measurements."""
    for name, text in tables(measured).items():
        begin, end = f"<!-- scaling: {name} -->\n", f"\n<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the page has no place for the table of {name}")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="put them into docs/scaling.md")
    arguments = parser.parse_args()
    measured = json.loads(MEASURED.read_text())
    if arguments.write:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")
    else:
        print(*tables(measured).values(), sep="\n\n")


if __name__ == "__main__":
    main()
