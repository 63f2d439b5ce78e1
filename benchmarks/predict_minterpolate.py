"""Predict the middle frames of a sequence with FFmpeg's minterpolate, for `evaluate --predictions`.

    python benchmarks/predict_minterpolate.py FRAMES SEQUENCE --out DIR [--part FROM TO]

For the triplet that begins with frame n, FFmpeg sees four frames, n - 2, n, n + 2 and n + 4, as
far as the sequence has them: its filter needs one before and one after the pair it joins. The
frame between n and n + 2 is written as DIR/SEQUENCE/n.png.
"""

import argparse
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.errors import MidframeError
from pipeline.frames.sequences import Frame, open_frames, triplet_starts

FILTER = "minterpolate=fps=2:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"
TIMEOUT = 120.0


def middle(frames: list[Frame], pair: int) -> Frame:
    """The frame between ``frames[pair]`` and the next, at twice the rate of one frame a second."""
    height, width = frames[0].shape[:2]
    # Repeated ends keep the pair away from the first and the last frame, which the filter drops.
    padded = [frames[0], *frames, frames[-1], frames[-1]]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    command = ["ffmpeg", "-v", "error", *raw, "-s", f"{width}x{height}", "-r", "1", "-i", "-"]
    command += ["-vf", f"{FILTER},format=rgb24", *raw, "-"]
    done = subprocess.run(
        command,
        input=b"".join(frame.tobytes() for frame in padded),
        capture_output=True,
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise MidframeError(f"ffmpeg: {done.stderr.decode(errors='replace').strip()[-200:]}")
    made = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    # Frames that the filter passes on lie at even places, counted from one of them: find the first.
    given = frames[pair]
    errors = [np.abs(one.astype(int) - given).mean() for one in made]
    return np.asarray(made[int(np.argmin(errors)) + 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("sequence")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", type=float, nargs=2, default=(0.0, 1.0))
    parser.add_argument("--stride", type=int, default=1)
    arguments = parser.parse_args()
    (sequence,) = (one for one in open_frames(arguments.frames) if one.name == arguments.sequence)
    frames = list(sequence.read(0, sequence.frame_count))
    folder = arguments.out / sequence.name
    folder.mkdir(parents=True, exist_ok=True)
    starts = list(triplet_starts(sequence, arguments.stride, tuple(arguments.part)))
    for start in starts:
        places = [n for n in range(start - 2, start + 5, 2) if 0 <= n < len(frames)]
        prediction = middle([frames[n] for n in places], places.index(start))
        Image.fromarray(prediction).save(folder / f"{start:05d}.png")
    print(f"{len(starts)} predictions in {folder}")


if __name__ == "__main__":
    main()
