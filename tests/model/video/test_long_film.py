"""Two hours of film at 23.976 frames a second: picture and sound stay together."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.video.interpolation import linear
from model.video.smoothing import interpolate_video
from tests.model.videos import FASTEST

FRAME = Fraction(1001, 24000)
COUNT = 2 * 3600 * 24000 // 1001
EVERY = 501  # of so many frames only one is in the file, so that it is written in seconds
SOUND = 4000  # samples a second


def write_film(path: Path) -> tuple[Path, list[Fraction]]:
    """Dark frames and silence; a flash and a beep together at its beginning, middle and end."""
    places = range(0, COUNT, EVERY)
    flashes = [places[1], places[len(places) // 2], places[-2]]
    with av.open(path, "w") as container:
        picture: Any = container.add_stream("ffv1", rate=1 / FRAME, options={"level": "3"})
        picture.width, picture.height, picture.pix_fmt = 16, 16, "gray"
        sound: Any = container.add_stream("flac", rate=SOUND, layout="mono")
        for number in places:
            frame = av.VideoFrame.from_ndarray(
                np.full((16, 16), 250 if number in flashes else 10, np.uint8), format="gray"
            )
            frame.pts, frame.time_base = number * 1001, Fraction(1, 24000)
            container.mux(picture.encode(frame))
            begin, end = (
                round(place * FRAME * SOUND) for place in (number, min(number + EVERY, COUNT))
            )
            samples = np.zeros((1, end - begin), np.int16)
            if number in flashes:
                samples[:, : SOUND // 10] = 20_000
            heard = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = SOUND, begin, Fraction(1, SOUND)
            container.mux(sound.encode(heard))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))
    return path, [number * FRAME for number in flashes]


def flashes_and_beeps(path: Path) -> tuple[list[float], list[float]]:
    """Times in seconds at which a flash and a beep begin."""
    seen, heard, before = [], [], 0
    with av.open(path) as container:
        for frame in container.decode(video=0):
            if frame.to_ndarray(format="gray").mean() > 240 and frame.time is not None:
                seen.append(frame.time)
    with av.open(path) as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray()[0]
            loud = np.flatnonzero(np.abs(samples) > 10_000)
            if len(loud) and not before and frame.time is not None:
                heard.append(frame.time + float(loud[0]) / SOUND)
            before = int(abs(samples[-1]) > 10_000)
    return seen, heard


def test_after_two_hours_a_flash_and_its_beep_are_still_together(tmp_path: Path) -> None:
    source, moments = write_film(tmp_path / "film.mkv")
    target = tmp_path / "smooth.mkv"
    settings = FASTEST["ffv1"].model_copy(update={"cut_method": None})
    interpolate_video(source, target, linear, 5, settings)
    for path in (source, target):
        seen, heard = flashes_and_beeps(path)
        assert seen == pytest.approx([float(moment) for moment in moments], abs=0.0006)
        assert heard == pytest.approx(seen, abs=0.0012)  # both are rounded to milliseconds
