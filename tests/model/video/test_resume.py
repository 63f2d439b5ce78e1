"""A film that was killed goes on where it was, and becomes the same file."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.settings import VideoSettings
from model.video.ahead import ahead
from model.video.interpolation import FloatFrame, linear
from model.video.parts import PacketFile, parts_of, read_packets
from model.video.smoothing import interpolate_video
from model.video.writer import Encoded
from pipeline.errors import MidframeError
from tests.model.videos import FAST, FASTEST, decode, encode_planes, moving, planes

# Four frames of 25 a second make a part.
SHORT = {"segment_minutes": 4 / 25 / 60}
KILLED = """
import os, signal, sys, time
from pathlib import Path
from model.settings import VideoSettings
from model.video.interpolation import linear
from model.video.smoothing import interpolate_video

asked = 0

source, target = Path(sys.argv[1]), Path(sys.argv[2])

def predictor(first, third, moment=0.5):
    global asked
    asked += 1
    if asked == 12:
        # The second part may still be on its way to the disk.
        end = time.monotonic() + 60
        while not list(target.parent.glob(".*.progress-*/00001.json")) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return linear(first, third, moment)

settings = VideoSettings.model_validate_json(sys.argv[3])
interpolate_video(source, target, predictor, 2, settings, identity="linear")
"""


def counting(asked: list[int]) -> Any:
    def predictor(first: FloatFrame, third: FloatFrame, time: float = 0.5) -> FloatFrame:
        asked.append(1)
        return linear(first, third, time)

    return predictor


@pytest.mark.parametrize(("codec", "suffix"), [("ffv1", "mkv"), ("h264", "mp4")])
def test_a_killed_run_goes_on_and_gives_the_same_file(
    codec: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = encode_planes(tmp_path / "in.mkv", moving("yuv420p", 20), "yuv420p")
    settings = VideoSettings.model_validate(
        {"codec": codec, "preset": "veryfast", "cut_method": None, **SHORT}
    )
    target, undisturbed = tmp_path / f"out.{suffix}", tmp_path / f"undisturbed.{suffix}"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, source, target, settings.model_dump_json()],
        timeout=120,
        capture_output=True,
    )
    assert run.returncode == -signal.SIGKILL
    assert not target.exists()
    asked: list[int] = []
    interpolate_video(source, target, counting(asked), 2, settings, identity="linear")
    assert "in.mkv: going on at frame" in capsys.readouterr().err
    # Those of the two parts that were whole, of four frames each, are not made again.
    assert len(asked) == 19 - 8
    interpolate_video(source, undisturbed, linear, 2, settings)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", target.name, undisturbed.name}
    if codec == "ffv1":
        assert target.read_bytes() == undisturbed.read_bytes()
    # x264 with AVX-512 reads memory that it did not write, of pictures as small as these.
    for frame, other in zip(decode(target), decode(undisturbed), strict=True):
        assert frame.time == other.time
        for plane, same in zip(planes(frame), planes(other), strict=True):
            assert np.abs(plane.astype(int) - same).mean() < 4


def test_parts_meet_without_a_gap(tmp_path: Path) -> None:
    """Frames that come out of order (B-frames) too: every time once, and keys where parts begin."""
    source = encode_planes(tmp_path / "in.mkv", moving("yuv420p", 16), "yuv420p")
    settings = VideoSettings.model_validate({"cut_method": None, **SHORT})
    for suffix in ("mp4", "mkv"):
        target = tmp_path / f"out.{suffix}"
        interpolate_video(source, target, linear, 3, settings)
        frames = decode(target)
        times = [frame.time for frame in frames]
        assert times == pytest.approx([n * 0.04 / 3 for n in range(46)], abs=6e-4)
        assert [frame.key_frame for frame in frames[::12]] == [True] * 4
        with av.open(target) as container:
            assert container.duration == pytest.approx(640_000, abs=1500)
            stamps = [packet.dts for packet in container.demux(video=0) if packet.dts is not None]
        assert stamps == sorted(stamps)


def test_other_settings_begin_anew_and_leave_nothing(tmp_path: Path) -> None:
    source = encode_planes(tmp_path / "in.mkv", moving("yuv420p", 12), "yuv420p")
    settings = FASTEST["ffv1"].model_copy(update={"cut_method": None, **SHORT})
    asked: list[int] = []

    def stopped(first: FloatFrame, third: FloatFrame) -> FloatFrame:
        asked.append(1)
        if len(asked) == 9:
            raise KeyboardInterrupt
        return linear(first, third)

    with pytest.raises(KeyboardInterrupt):
        interpolate_video(source, tmp_path / "out.mkv", stopped, 2, settings, identity="linear")
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".out.mkv.progress-")]
    assert len(left) == 1
    asked.clear()
    interpolate_video(source, tmp_path / "out.mkv", counting(asked), 2, settings, identity="flow")
    assert len(asked) == 11
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "out.mkv"}


def test_two_runs_of_one_file_do_not_mix(tmp_path: Path) -> None:
    source = encode_planes(tmp_path / "in.mkv", moving("yuv420p", 4), "yuv420p")

    def again(first: FloatFrame, third: FloatFrame) -> FloatFrame:
        with pytest.raises(MidframeError, match="another process is writing it"):
            interpolate_video(source, tmp_path / "out.mkv", linear, 2, FAST, identity="linear")
        return linear(first, third)

    interpolate_video(source, tmp_path / "out.mkv", again, 2, FAST, identity="linear")


def test_packets_come_back_as_they_were(tmp_path: Path) -> None:
    packets = [
        Encoded(b"one", -3, -5, 2, True),
        Encoded(b"", 1 << 40, 7, 0, False, ((15, b"alpha"), (3, b""))),
    ]
    file = PacketFile(tmp_path / "part")
    file.write(packets)
    file.close()
    assert list(read_packets(tmp_path / "part")) == packets


def test_work_ahead_is_bounded_ordered_and_ends_with_its_taker() -> None:
    made = []

    def numbers() -> Iterator[int]:
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            made.append(-1)

    before = threading.active_count()
    taken = ahead(numbers(), 2, "numbers")
    assert [next(taken) for _ in range(5)] == [0, 1, 2, 3, 4]
    taken.close()
    assert made[-1] == -1
    assert len(made) <= 5 + 2 + 2
    assert threading.active_count() == before


def test_an_error_ahead_comes_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    taken = ahead(broken(), 4, "broken")
    assert next(taken) == 1
    with pytest.raises(ValueError, match="broken"):
        next(taken)


@pytest.mark.parametrize("identity", [None, "one"])
def test_a_disk_that_fills_up_while_a_part_is_written_is_said(tmp_path: Path, identity) -> None:
    with (
        pytest.raises(MidframeError, match=r"not enough space: more needed"),
        parts_of(tmp_path / "ride.mp4", identity),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [path.name for path in tmp_path.iterdir()] == []
