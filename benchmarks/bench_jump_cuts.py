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
from itertools import pairwise
from time import process_time

import cv2
import numpy as np
from footage import CUTS, KINDS, Footage, Frame, make_footage, read_clip
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector, HistogramDetector

from pipeline.selection.flow_cuts import flow_cut_scores
from pipeline.selection.jump_cuts import DEFAULT_THRESHOLD, neighbour_distances
from pipeline.settings import DEFAULT_FLOW_CUT_THRESHOLD

FPS = 25.0

Scores = NDArray[np.float64]  # one for each pair of neighbouring frames; a cut is where it is high


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
