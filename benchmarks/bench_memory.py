"""The most memory of the starting process in each stage of a dataset, by the number of files.

    python benchmarks/bench_memory.py [--files 1000 20000]

The files are tiny videos (4 frames of 48 x 48) that differ by name alone. Each stage runs in a
process of its own, with one Dask worker, which is not counted. *per file* is what the last number
of files takes beyond the first, shared among the files between.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

STAGES = {
    "fetch": """
from pipeline.settings import DatasetSettings
from pipeline.sources.datasets import fetch
def run(folder):
    settings = DatasetSettings(source="folder", path=str(folder / "corpus"))
    fetch(settings, folder / "frames", workers=1)
""",
    "score": """
from pipeline.selection.motion import score
from pipeline.settings import MotionSettings
def run(folder):
    score(folder / "frames", folder / "motion", MotionSettings(method="dis"), workers=1)
""",
    "cuts": """
from pipeline.selection.cuts import measure
from pipeline.settings import CutSettings
def run(folder):
    measure(folder / "frames", folder / "cuts", CutSettings(), workers=1)
""",
    "sample": """
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.settings import PatchSettings
def run(folder):
    source = Source(folder / "frames", folder / "motion", folder / "cuts")
    settings = PatchSettings(
        patch_size=32, tries=2, max_taken=1, motion_scale=1e-3, cut_threshold=1,
        repeat_threshold=None,
    )
    sample([source], folder / "patches", settings, workers=1)
""",
}
# The most pages that the process itself has held, in kB; the kernel's count for children includes
# what their parent held when it started them.
PROGRAM = """
import re, sys
from pathlib import Path
{stage}
if __name__ == "__main__":
    run(Path(sys.argv[1]))
    print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def make_clip(file: Path) -> None:
    """Four frames of noise that moves."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    with av.open(file, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for at in range(4):
            frame = av.VideoFrame.from_ndarray(noise[:, 2 * at : 2 * at + 48].copy())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def measure(folder: Path, count: int) -> dict[str, float]:
    """Megabytes of each stage for so many files."""
    (folder / "corpus").mkdir(parents=True)
    make_clip(folder / "clip.mp4")
    for number in range(count):
        # As a corpus that was downloaded may name its files.
        link = folder / "corpus" / f"{number // 1000:03d}" / f"clip-of-a-corpus-{number:06d}.mp4"
        link.parent.mkdir(exist_ok=True)
        os.link(folder / "clip.mp4", link)
    most: dict[str, float] = {}
    for stage, code in STAGES.items():
        program = folder / f"{stage}.py"
        program.write_text(PROGRAM.format(stage=code), encoding="utf-8")
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, program, folder],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        most[stage] = int(done.stdout) / 1024
        took = time.perf_counter() - start
        print(f"{count:7d} {stage:8} {most[stage]:6.0f} MB {took:6.0f} s", flush=True)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 20000])
    counts = parser.parse_args().files
    found = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(Path(folder), count))
    if len(counts) > 1:
        for stage in STAGES:
            more = (found[-1][stage] - found[0][stage]) / (counts[-1] - counts[0])
            print(f"per file {stage:8} {1024 * more:6.2f} kB")


if __name__ == "__main__":
    main()
