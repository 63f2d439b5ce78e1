"""How well triplets that are no training data are told from those that are.

    python benchmarks/bench_reasons.py [--pieces N] [--seed N] [--picture FILE]

Labelled triplets are made from the shots of two natural clips: repeated frames (24 frames a second
in 30 and in 60, animation on twos and threes), each copy with noise of its own and encoded by x264;
flashes; fades through black; dissolves. The triplets of the shots as they are must pass. For some
limits of each measure the table gives the part of the labelled triplets that are refused (recall),
that of the others that are refused too (false), and the precision if there were as many of the one
as of the other. Black bars of random widths are measured to the pixel or not.
"""

import argparse
import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from footage import CUTS, SIZE, Frame, blend, dissolve, flash, piece, read_clip
from PIL import Image, ImageDraw

from pipeline.selection.frame_changes import CHANGES, black_bars, frame_changes, luma, repeat_ratio

PATTERNS = ([1, 1, 1, 2], [2, 3], [2], [3])
LIMITS = {
    "repeat": (0.1, 0.2, 0.3, 0.4),
    "brightness_change": (2.0, 4.0, 8.0, 16.0),
    "misfit": (2.0, 3.0, 4.0, 6.0),
}
TILE = (176, 99)


def encoded(frames: list[Frame], crf: int) -> list[Frame]:
    """Frames as x264 leaves them."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def repeated(shot: list[Frame], random: np.random.Generator) -> tuple[list[Frame], list[bool]]:
    """Frames shown more than once, noisy and encoded; and which triplets hold a copy."""
    pattern = PATTERNS[int(random.integers(len(PATTERNS)))]
    stretch = piece(shot, 24, random)
    order = [i for i in range(len(stretch)) for _ in range(pattern[i % len(pattern)])]
    noisy = [
        np.clip(stretch[i] + random.normal(0, 2, stretch[i].shape), 0, 255).astype(np.uint8)
        for i in order
    ]
    copies = [a == b or b == c for a, b, c in zip(order, order[1:], order[2:], strict=False)]
    return encoded(noisy, int(random.integers(18, 30))), copies


def faded(shot: list[Frame], random: np.random.Generator) -> list[Frame]:
    """The end of a shot that fades to black in 4 to 12 frames; only the frames that fade."""
    length = int(random.integers(4, 13))
    stretch = piece(shot, length + 1, random)
    return [blend(frame, 0.0, i / length) for i, frame in enumerate(stretch)]


def measured(frames: list[Frame]) -> dict[str, np.ndarray]:
    """The measures of every triplet of neighbouring frames, as candidates have them."""
    rows = frame_changes(frames, fits=True)
    change = rows[:, CHANGES.index("change")]
    brightness = np.abs(rows[:, CHANGES.index("brightness")])
    return {
        "repeat": np.array([repeat_ratio(np.array(pair)) for pair in pairwise(change)]),
        "brightness_change": np.maximum(brightness[:-1], brightness[1:]),
        "misfit": rows[:-1, -1],
    }


def labelled(
    shots: list[list[Frame]], count: int, random: np.random.Generator
) -> Iterator[tuple[str, list[Frame], list[bool]]]:
    """Kind, frames, and for each triplet whether it is one of that kind."""
    for shot in shots:
        yield "as they are", shot, [True] * (len(shot) - 2)
    long = [shot for shot in shots if len(shot) >= 45]
    for index in range(count):
        shot, other = (long[int(i)] for i in random.choice(len(long), 2, replace=False))
        yield "repeats", *repeated(shot, random)
        flashing = flash(shot, random).frames
        light = np.array([frame.mean() for frame in flashing])
        jumps = np.abs(np.diff(light)) > 10
        yield "flashes", flashing, [bool(a or b) for a, b in pairwise(jumps)]
        fading = faded(shot, random)
        yield "fades", fading, [True] * (len(fading) - 2)
        length = (8, 25)[index % 2]
        dissolving = dissolve(shot, other, length, random).frames[12:-12]
        yield f"dissolves of {length}", dissolving, [True] * (len(dissolving) - 2)


def exact_bars(shots: list[list[Frame]], count: int, random: np.random.Generator) -> int:
    """In how many of ``count`` frames with bars of random widths all four are found exactly."""
    exact = 0
    for _ in range(count):
        frame = np.maximum(piece(shots[0], 1, random)[0], 48)
        top, bottom, left, right = (int(width) for width in random.integers(0, 40, 4))
        for edge in (np.s_[:top], np.s_[SIZE[1] - bottom :], np.s_[:, :left]):
            frame[edge] = 16
        frame[:, SIZE[0] - right :] = 16
        bars = black_bars(luma(frame))
        exact += (bars.top, bars.bottom, bars.left, bars.right) == (top, bottom, left, right)
    return exact


def draw(examples: list[tuple[str, list[Frame]]], file: Path) -> None:
    """A row a reason: its name and limit, and three frames."""
    width, height = TILE
    sheet = Image.new("RGB", (200 + 3 * (width + 4), len(examples) * (height + 4)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (text, frames) in enumerate(examples):
        top = row * (height + 4) + 2
        pen.multiline_text((6, top + 30), text, fill="black", font_size=14)
        for column, frame in enumerate(frames):
            tile = np.asarray(cv2.resize(frame, TILE, interpolation=cv2.INTER_AREA), np.uint8)
            sheet.paste(Image.fromarray(tile), (200 + column * (width + 4), top))
    sheet.save(file, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pieces", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="write an example of each reason here")
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    shots = []
    for name in ("bikes", "carphone_pristine"):  # bigbuckbunny repeats frames of its own
        frames = read_clip(name)
        ends = [-1, *CUTS[name], len(frames) - 1]
        shots += [frames[start + 1 : end + 1] for start, end in pairwise(ends)]

    values: dict[str, dict[str, list[float]]] = {}
    strongest: dict[str, tuple[float, list[Frame]]] = {}
    for kind, frames, labels in labelled(shots, arguments.pieces, random):
        found = measured(frames)
        for measure, by_triplet in found.items():
            chosen = [float(v) for v, yes in zip(by_triplet, labels, strict=True) if yes]
            values.setdefault(kind, {}).setdefault(measure, []).extend(chosen)
        measure = measure_of(kind)
        if measure is not None:
            sign = -1 if measure == "repeat" else 1
            scores = np.where(labels, sign * found[measure], -np.inf)
            best = int(np.argmax(scores))
            if kind not in strongest or scores[best] > strongest[kind][0]:
                strongest[kind] = float(scores[best]), frames[best : best + 3]

    plain = values.pop("as they are")
    print(f"{len(plain['repeat'])} triplets as they are")
    print(f"{'':16}{'triplets':>10}{'limit':>8}{'recall':>9}{'false':>9}{'precision':>11}")
    for kind, by_measure in values.items():
        measure = measure_of(kind)
        assert measure is not None
        for limit in LIMITS[measure]:
            recall, false = refused(by_measure, measure, limit), refused(plain, measure, limit)
            precision = recall / max(recall + false, 1e-9)
            print(
                f"{kind:16}{len(by_measure[measure]):10}{limit:8g}{recall:9.3f}{false:9.4f}"
                f"{precision:11.3f}"
            )
    count = 10 * arguments.pieces
    print(f"bars measured to the pixel: {exact_bars(shots, count, random)} of {count} frames")
    if arguments.picture is not None:
        texts = {
            kind: f"{kind}\n{measure_of(kind)}: {abs(strongest[kind][0]):.3g}" for kind in values
        }
        draw([(texts[kind], strongest[kind][1]) for kind in values], arguments.picture)
        print(f"{arguments.picture}: the clearest triplet of each kind")


def measure_of(kind: str) -> str | None:
    """The measure by which triplets of a kind are refused."""
    if kind == "repeats":
        return "repeat"
    if kind in ("flashes", "fades"):
        return "brightness_change"
    return "misfit" if kind.startswith("dissolves") else None


def refused(values: dict[str, list[float]], measure: str, limit: float) -> float:
    """The part of the triplets that a limit refuses."""
    measured = np.array(values[measure])
    return float(np.mean(measured < limit if measure == "repeat" else measured > limit))


if __name__ == "__main__":
    main()
