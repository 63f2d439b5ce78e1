"""The motion stage: size and precision of the store, gain from workers, cost of scheduling.

    python benchmarks/bench_motion.py [store] [workers] [scheduling] [--triplets N]

store: bytes a triplet of the clips scaled to 854 x 480, what DAVIS 2017 trainval would take at that
rate, and how far the scores of windows are from those of the flow before it was stored.
workers: the time to score the sample clips with one and with two workers, in turn, and the largest
memory of a worker. scheduling: triplets whose flow costs nothing, in partitions as of 854 x 480 and
then, which is the worst, of a single triplet; CPU time and memory of the process that hands them
out, which holds the scheduler too.
"""

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import cv2
import numpy as np
import pandas as pd
import psutil
from bench_flow import CLIPS, read_pairs, resized

from pipeline.flow.optical_flow import compute_flow
from pipeline.frames.sequences import FrameSequence, triplet_starts
from pipeline.selection import motion
from pipeline.selection.window_motion import Statistic, WindowMotion
from pipeline.settings import DatasetSettings, MotionSettings
from pipeline.sources.datasets import fetch
from pipeline.store import motion_store

SIZE = (854, 480)
PATCH = 150
WINDOWS = 100
DAVIS_TRIPLETS = 2037  # of stride 3 in DAVIS 2017 trainval
STATISTICS: tuple[Statistic, ...] = ("mean_magnitude", "norm_of_mean")


def bench_store(pairs_of_a_clip: int = 4) -> None:
    flows = [
        compute_flow(resized(first, SIZE), resized(third, SIZE))
        for _, first, third in read_pairs(pairs_of_a_clip)
    ]
    triplets = pd.DataFrame(
        [("clips", i, SIZE[1], SIZE[0]) for i in range(len(flows))],
        columns=["sequence", "first_frame", "height", "width"],
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        motion_store.create(folder, triplets, {(SIZE[1], SIZE[0]): pairs_of_a_clip})
        sizes = []
        for shard in range(len(CLIPS)):
            rows = range(shard * pairs_of_a_clip, (shard + 1) * pairs_of_a_clip)
            motion_store.write_shard(
                folder, (SIZE[1], SIZE[0]), rows, flows[rows.start : rows.stop]
            )
            file = motion_store.shard_file(folder, SIZE[1], SIZE[0], shard)
            sizes.append(file.stat().st_size / pairs_of_a_clip)
    raw = flows[0].nbytes
    print(f"motion store at {SIZE[0]}x{SIZE[1]} (float32 flow: {raw / 1e3:.0f} kB a triplet)")
    for clip, size in zip(CLIPS, sizes, strict=True):
        print(f"{clip:20}{size / 1e3:7.0f} kB a triplet, 1/{raw / size:.1f}")
    for what, size in (("mean", float(np.mean(sizes))), ("largest", max(sizes))):
        print(f"DAVIS 2017 trainval at the {what}: {size * DAVIS_TRIPLETS / 1e9:.2f} GB")
    rng = np.random.default_rng(0)
    errors: dict[str, float] = dict.fromkeys(STATISTICS, 0.0)
    for flow in flows:
        exact = WindowMotion(flow)
        stored = WindowMotion(motion_store.decode(motion_store.encode(flow)))
        for _ in range(WINDOWS):
            top, left = int(rng.integers(SIZE[1] - PATCH)), int(rng.integers(SIZE[0] - PATCH))
            for statistic in STATISTICS:
                a, b = (m.score(top, left, PATCH, statistic) for m in (exact, stored))
                if not np.isnan(a):
                    errors[statistic] = max(errors[statistic], abs(a - b))
    bound = np.sqrt(0.5) / motion_store.STEPS
    for statistic, error in errors.items():
        print(f"{statistic:16} of {PATCH}x{PATCH}: at most {error:.1e} px off (bound {bound:.1e})")


@contextlib.contextmanager
def largest_worker() -> Iterator[list[int]]:
    """Yield a list whose only number becomes the largest memory of a child process, in bytes."""
    largest, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    largest[0] = max(largest[0], child.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield largest
    finally:
        done.set()
        thread.join()


def bench_workers(rounds: int = 2) -> None:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        frames = Path(name) / "frames"
        fetch(DatasetSettings(source="sample-clips"), frames)
        print("\nscoring the sample clips, start of the workers included")
        for round in range(rounds):
            for workers in seconds:
                out = Path(name) / f"motion-{workers}-{round}"
                start = time.perf_counter()
                with largest_worker() as memory:
                    motion.score(frames, out, MotionSettings(), workers)
                seconds[workers].append(time.perf_counter() - start)
                print(
                    f"{workers} workers: {seconds[workers][-1]:.1f} s, "
                    f"at most {memory[0] / 1e6:.0f} MB in one"
                )
    print(f"the fastest of each: {min(seconds[1]) / min(seconds[2]):.2f} times as fast with two")


def stand_in(partition: motion.Partition) -> None:
    """Flow that costs nothing."""
    partition.file.touch()


def bench_scheduling(triplets: int, partition_pixels: int) -> None:
    """Print what it costs to hand out triplets in partitions of so many pixels."""
    memory: dict[int, int] = {}

    def watched(items: Iterable[Any], *arguments: Any, **settings: Any) -> Iterator[Any]:
        triplets_done = 0
        for item in items:
            before, triplets_done = triplets_done, triplets_done + settings["amount"](item)
            if before // 1000 < triplets_done // 1000:
                memory[triplets_done // 1000] = psutil.Process().memory_info().rss
            yield item

    each = 1000
    sequences = [
        FrameSequence(f"sequence-{i:04}", Path("/nowhere"), 3 * each, SIZE[1], SIZE[0])
        for i in range(triplets // each)
    ]
    assert len(triplet_starts(sequences[0])) == each
    motion.PARTITION_PIXELS = partition_pixels
    motion.compute_partition = stand_in
    motion.open_frames = lambda path: sequences  # type: ignore[attr-defined]
    motion.progress = watched  # type: ignore[assignment, attr-defined]
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "frames").mkdir()
        wall, start = time.perf_counter(), time.process_time()
        motion.score(Path(name) / "frames", Path(name) / "motion", MotionSettings(), workers=1)
        used, wall = time.process_time() - start, time.perf_counter() - wall
    tenth = max(len(memory) // 10, 1)
    course = ", ".join(f"{memory[k] / 1e6:.0f}" for k in sorted(memory)[tenth - 1 :: tenth])
    of_a_task = max(partition_pixels // (SIZE[0] * SIZE[1]), 1)
    print(
        f"\n{triplets} triplets that cost nothing, {of_a_task} a task, in the process that hands "
        f"them out:\n{1000 * used / triplets:.2f} ms of CPU and {1000 * wall / triplets:.2f} ms a "
        f"triplet; memory {memory[min(memory)] / 1e6:.0f} MB after the first 1,000, then every "
        f"{tenth},000: {course}; at most {max(memory.values()) / 1e6:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parts = ("store", "workers", "scheduling")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; default all")
    parser.add_argument("--triplets", type=int, default=100_000, help="for scheduling, thousands")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    chosen = arguments.parts or parts
    if "store" in chosen:
        bench_store()
    if "workers" in chosen:
        bench_workers()
    if "scheduling" in chosen:
        for pixels in (motion.PARTITION_PIXELS, 1):
            bench_scheduling(arguments.triplets, pixels)


if __name__ == "__main__":
    main()
