"""When new frames are shown: any rate, exact duration, repeated frames."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.settings import VideoSettings
from model.video.command import parse_rate
from model.video.files import to_rgb
from model.video.interpolation import AlongFlow, FloatFrame, linear
from model.video.schedule import Instant, Interval, Rate, Times, intervals
from model.video.smoothing import interpolate_video
from pipeline.errors import MidframeError
from tests.model.videos import FASTEST, Frame, decode, encode, encode_planes, moving

FILM = Fraction(24000, 1001)


class Shown:
    """Stands for a picture: its place and its times."""

    cut_follows = False

    def __init__(self, index: int, pts: int, duration: int = 0, level: int = 0) -> None:
        self.index, self.pts, self.duration = index, pts, duration
        self.levels = np.full((8, 8, 3), level, np.uint8)


def made(plan: Times | Rate, ways: Iterator[Interval]) -> list[tuple[Fraction, Fraction]]:
    """Time in seconds of every new frame, and where in the source it lies, in frames."""
    found = []
    for way in ways:
        for instant in plan.instants(way):
            found.append((instant.pts * plan.time_base, way.first.index + instant.time))
    return found


def film(count: int, step: int = 1001, begin: int = 0) -> Iterator[Any]:
    return (Shown(index, index * step, step) for index in range(begin, count))


def test_two_hours_of_film_stay_in_step_with_their_sound() -> None:
    """Times are not added up, so the last frames show whether all are right."""
    count = 2 * 3600 * 24000 // 1001
    for plan in (
        Times(5, Fraction(1, 24000), FILM),
        Rate(Fraction(60), Fraction(1, 24000)),
        Rate(Fraction(60000, 1001), Fraction(1, 24000)),
    ):
        found = made(plan, intervals(film(count, begin=count - 4), False))
        assert len(found) > 8
        for time, place in found:
            if place < count - 1:
                assert float(time) == pytest.approx(float(place / FILM), abs=1 / 24000)
        assert float(found[-1][0]) == pytest.approx(7200, abs=0.06)


def test_times_of_a_file_in_milliseconds_do_not_drift() -> None:
    """Matroska rounds: 0, 42, 83, 125 ms; every second one of 48 a second is its own."""
    pictures: Any = (Shown(index, round(index * 1000 / 24)) for index in range(2000))
    found = made(Rate(Fraction(48), Fraction(1, 1000)), intervals(pictures, False))
    assert [place for _, place in found[::2]] == list(range(2000))[: len(found[::2])]
    assert [time for time, _ in found] == [Fraction(n, 48) for n in range(len(found))]


@pytest.mark.parametrize(
    ("rate", "places"),
    [
        (60, [0, Fraction(5, 12), Fraction(5, 6), Fraction(5, 4), Fraction(5, 3), 2, 2, 2]),
        (50, [0, Fraction(1, 2), 1, Fraction(3, 2), 2, 2]),
        (25, [0, 1, 2]),
        (10, [0, 2]),
    ],
)
def test_a_rate_asks_for_the_times_that_fall_on_it(rate: int, places: list[Fraction]) -> None:
    pictures: Any = film(3, 1)
    found = made(Rate(Fraction(rate), Fraction(1, 25)), intervals(pictures, False))
    # Behind the last frame nothing is predicted: it stays.
    assert [place for _, place in found] == places


def test_the_last_frame_stays_for_its_full_time() -> None:
    way: Any = Interval(Shown(4, 400, 100), None, (400, 500))  # type: ignore[arg-type]
    assert list(Times(4, Fraction(1, 1000), Fraction(10)).instants(way)) == [
        Instant(1600, 400, Fraction(0))
    ]


def test_a_rate_has_any_of_its_names() -> None:
    assert parse_rate("60") == 60
    assert parse_rate("60000/1001") == parse_rate("59.94") == Fraction(60000, 1001)
    for text in ("fast", "0", "-1", "1/0"):
        with pytest.raises(MidframeError, match=text):
            parse_rate(text)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_has_the_rate_that_is_asked_for(suffix: str, tmp_path: Path) -> None:
    source = encode_planes(tmp_path / "in.mkv", moving("yuv420p", 12), "yuv420p", rate=25)
    target = tmp_path / f"out.{suffix}"
    settings = VideoSettings.model_validate({"preset": "ultrafast"})
    interpolate_video(source, target, linear, settings=settings, rate=Fraction(60000, 1001))
    with av.open(target) as container:
        assert container.streams.video[0].average_rate == pytest.approx(60000 / 1001, rel=1e-3)
        assert container.duration == pytest.approx(480_000, abs=17_000)
    frames = decode(target)
    assert len(frames) == 29
    gaps = [b.time - a.time for a, b in pairwise(frames)]
    assert gaps == pytest.approx([1001 / 60000] * 28, abs=0.0011)


def test_a_network_meets_flow_between_its_middle_and_the_two(bikes: Frame) -> None:
    first, third = (bikes[at, :64, :96].astype(np.float32) / 255 for at in (0, 2))
    asked = 0

    def middle(a: Any, b: Any) -> FloatFrame:
        nonlocal asked
        asked += 1
        return linear(a, b)

    along = AlongFlow(middle)
    quarter, half, last = (along(first, third, time) for time in (0.25, 0.5, 0.9))
    assert asked == 1
    np.testing.assert_array_equal(half, linear(first, third))
    assert np.abs(quarter - half).mean() < np.abs(quarter - third).mean()
    assert np.abs(last - third).mean() < np.abs(last - half).mean()


def on_twos(bikes: Frame, noise: float) -> list[Frame]:
    """Eight drawings of a square that moves, each shown twice, with noise of its own."""
    seeds = np.random.default_rng(0)
    frames = []
    for number in range(8):
        drawing = bikes[0, :48, :96].copy()
        drawing[16:32, 8 + 8 * number : 24 + 8 * number] = 250
        for _ in range(2):
            grain = seeds.normal(0, noise, drawing.shape)
            frames.append(np.clip(drawing + grain, 0, 255).astype(np.uint8))
    return frames


@pytest.mark.parametrize("noise", [0, 3])
def test_repeated_frames_are_kept_or_replaced_by_motion(
    noise: float, bikes: Frame, tmp_path: Path
) -> None:
    source = encode(tmp_path / "in.mkv", on_twos(bikes, noise), codec="ffv1", pix_fmt="bgr0")
    steps = {}
    for duplicates in ("keep", "replace"):
        settings = FASTEST["ffv1"].model_copy(update={"duplicates": duplicates, "cut_method": None})
        target = tmp_path / f"{duplicates}.mkv"
        interpolate_video(source, target, linear, 2, settings)
        frames = [to_rgb(frame).astype(int) for frame in decode(target)]
        assert len(frames) == 31
        steps[duplicates] = [float(np.abs(b - a).mean()) for a, b in pairwise(frames[:28])]
    usual = np.mean(steps["replace"])
    # Kept: the picture stands still half of the time. Replaced: it moves on evenly.
    assert sum(step < 0.6 * usual for step in steps["keep"]) >= 12
    assert all(0.6 * usual < step < 1.5 * usual for step in steps["replace"])


def test_a_picture_that_stands_still_for_long_is_no_repeat() -> None:
    levels = [0, 20, 40, *[60] * 20, 80, 100]
    pictures: Any = (Shown(n, n, 1, level) for n, level in enumerate(levels))
    ways = list(intervals(pictures, True))
    assert [way.times for way in ways if way.first.index == 21] == [(21, 22)]
    assert max(len(way.times) for way in ways) <= 7
    assert ways[-1].second is None
