"""Videos at twice their frame rate, decoded again."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.settings import VideoSettings
from model.video import smoothing
from model.video.files import to_rgb
from model.video.interpolation import FloatFrame, linear
from model.video.smoothing import interpolate_video
from pipeline.selection.flow_cuts import REACH
from tests.model.videos import FAST, Frame, decode, encode, psnr


@pytest.fixture(scope="module")
def doubled(start_of_bunny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("doubled") / "bunny.mp4"
    interpolate_video(start_of_bunny, path, linear, settings=FAST)
    return path


def test_n_frames_become_2n_minus_1_at_twice_the_rate(start_of_bunny: Path, doubled: Path) -> None:
    before, after = decode(start_of_bunny), decode(doubled)
    assert len(after) == 2 * len(before) - 1
    with av.open(doubled) as container:
        assert container.streams.video[0].guessed_rate == 50
    times = [frame.time for frame in after]
    assert times[0] == before[0].time
    assert [b - a for a, b in pairwise(times)] == pytest.approx([0.02] * (len(after) - 1))


def test_frames_of_the_source_lose_no_more_than_the_codec_takes(
    start_of_bunny: Path, doubled: Path
) -> None:
    for kept, new in zip(decode(start_of_bunny), decode(doubled)[::2], strict=True):
        assert kept.time == pytest.approx(new.time)
        assert psnr(kept.to_ndarray(), new.to_ndarray()) > 40


def test_new_frames_are_as_bright_as_those_of_the_source(doubled: Path) -> None:
    # A conversion to RGB and back that loses half a level would flicker.
    luma = [frame.to_ndarray()[: frame.height].mean() for frame in decode(doubled)]
    for before, new, after in zip(luma[:-2:2], luma[1::2], luma[2::2], strict=True):
        assert new == pytest.approx((before + after) / 2, abs=0.25)


def test_sound_is_copied_to_the_last_packet(start_of_bunny: Path, doubled: Path) -> None:
    def sound(path: Path) -> list[tuple[Any, bytes]]:
        with av.open(path) as container:
            stream = container.streams.audio[0]
            return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]

    assert len(sound(doubled)) > 20
    assert sound(doubled) == sound(start_of_bunny)


def test_sound_lies_beside_the_picture_it_belongs_to(doubled: Path) -> None:
    with av.open(doubled) as container:
        places = [
            (p.stream.type, p.pos, float(p.dts * p.time_base)) for p in container.demux() if p.size
        ]
    places.sort(key=lambda place: place[1])
    behind = {"video": 0.0, "audio": 0.0}
    for kind, _, seconds in places:
        behind[kind] = seconds
        assert abs(behind["video"] - behind["audio"]) < 1.1


@pytest.mark.slow
def test_the_whole_of_bunny_has_263_frames_at_50_fps_and_all_its_sound(
    clips: Path, tmp_path: Path
) -> None:
    source, target = clips / "bigbuckbunny.mp4", tmp_path / "bunny.mp4"
    interpolate_video(source, target, linear, settings=FAST)
    assert len(decode(target)) == 263
    with av.open(source) as before, av.open(target) as after:
        assert after.streams.video[0].guessed_rate == 50
        assert after.duration == pytest.approx(before.duration, abs=40_000)
        samples = [
            sum(frame.samples for frame in container.decode(audio=0))
            for container in (before, after)
        ]
    assert samples[0] == samples[1] == 254_976


@pytest.fixture(scope="module")
def phone(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """carphone: 176x144, 30000/1001 fps, pixels 128:117, 120 frames; doubled."""
    path = tmp_path_factory.mktemp("phone") / "phone.mkv"
    interpolate_video(clips / "carphone_pristine.mp4", path, linear, settings=FAST)
    return path


def test_a_broken_frame_rate_and_the_shape_of_pixels_are_kept(phone: Path) -> None:
    with av.open(phone) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(128, 117)
        assert float(stream.average_rate) == pytest.approx(60000 / 1001, rel=1e-3)
    assert len(decode(phone)) == 239


@pytest.mark.parametrize("times", [4, 8])
def test_four_and_eight_times_put_frames_at_even_distances(
    times: int, bikes: Frame, tmp_path: Path
) -> None:
    source = encode(tmp_path / "in.mp4", list(bikes[:4, :64, :96]))
    interpolate_video(source, tmp_path / "out.mp4", linear, times, FAST)
    frames = decode(tmp_path / "out.mp4")
    assert len(frames) == 3 * times + 1
    assert [frame.time for frame in frames] == pytest.approx(
        [0.04 * index / times for index in range(3 * times + 1)]
    )


def test_new_frames_lie_between_their_neighbours_in_order(tmp_path: Path) -> None:
    greys = [np.full((64, 64, 3), level, np.uint8) for level in (40, 200)]
    source = encode(tmp_path / "in.mp4", greys, bit_rate=10_000_000)
    settings = VideoSettings.model_validate({"cut_method": None, "crf": 1})
    interpolate_video(source, tmp_path / "out.mp4", linear, 8, settings)
    levels = [to_rgb(frame).mean() for frame in decode(tmp_path / "out.mp4")]
    assert levels == pytest.approx(list(np.linspace(40, 200, 9)), abs=2)


def test_a_variable_frame_rate_keeps_its_times(bikes: Frame, tmp_path: Path) -> None:
    times = [0, 40, 140, 160, 400]
    source = encode(tmp_path / "in.mkv", list(bikes[:5, :64, :96]), times)
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    found = [frame.time for frame in decode(tmp_path / "out.mp4")]
    assert found == pytest.approx([0, 0.02, 0.04, 0.09, 0.14, 0.15, 0.16, 0.28, 0.4], abs=1e-3)


@pytest.mark.parametrize("method", ["flow", "histogram"])
@pytest.mark.parametrize("times", [2, 4])
def test_nothing_is_blended_across_a_jump_cut(
    times: int, method: str, bikes: Frame, tmp_path: Path
) -> None:
    frames = [frame[:128, :192] for frame in bikes[28:32]]
    source = encode(tmp_path / "in.mp4", frames)
    predicted = []

    def counted(first: FloatFrame, third: FloatFrame, time: float = 0.5) -> FloatFrame:
        predicted.append(time)
        return linear(first, third, time)

    settings = FAST.model_copy(update={"cut_method": method})
    interpolate_video(source, tmp_path / "out.mp4", counted, times, settings)
    assert len(predicted) == 2 * (times - 1)
    found = [to_rgb(frame) for frame in decode(tmp_path / "out.mp4")]
    assert len(found) == 3 * times + 1
    for k in range(1, times):
        repeated, nearer = found[times + k], found[times if 2 * k <= times else 2 * times]
        assert psnr(repeated, nearer) > 35


def test_without_a_method_no_cut_is_looked_for(bikes: Frame, tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mp4", [frame[:128, :192] for frame in bikes[29:31]])
    settings = VideoSettings.model_validate({"cut_method": None, "preset": "ultrafast"})
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, settings)
    first, middle, third = (to_rgb(frame) for frame in decode(tmp_path / "out.mp4"))
    assert psnr(middle, (first.astype(int) + third) / 2) > 30


def test_equal_frames_are_repeated_without_asking_the_model(bikes: Frame, tmp_path: Path) -> None:
    frame = bikes[0, :64, :96]
    source = encode(tmp_path / "in.mkv", [frame] * 3, codec="ffv1", pix_fmt="bgr0")

    def never(first: Frame, third: Frame) -> FloatFrame:
        raise AssertionError("the model was asked")

    interpolate_video(source, tmp_path / "out.mp4", never, 2, FAST)
    assert len(decode(tmp_path / "out.mp4")) == 5


def test_frames_are_written_while_later_ones_are_not_read_yet(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The video is never held whole: at most a few source frames are between reader and writer."""
    from model.video import files as video_file
    from model.video import writer as video_writer

    read, written, ahead = 0, 0, []
    check, write = video_file.VideoSource._check, video_writer.Encoder.encode

    def counted_check(self: Any, frame: av.VideoFrame) -> None:
        nonlocal read
        read += 1
        ahead.append(read - written / 2)
        check(self, frame)

    def counted_write(self: Any, *arguments: Any) -> Any:
        nonlocal written
        written += 1
        return write(self, *arguments)

    monkeypatch.setattr(video_file.VideoSource, "_check", counted_check)
    monkeypatch.setattr(video_writer.Encoder, "encode", counted_write)
    interpolate_video(clips / "carphone_pristine.mp4", tmp_path / "o.mp4", linear, settings=FAST)
    assert (read, written) == (120, 239)
    assert max(ahead) <= REACH + smoothing.DECODED + smoothing.PREDICTED + 7


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_video_lasts_as_long_as_its_source(
    times: int, suffix: str, bikes: Frame, tmp_path: Path
) -> None:
    source = encode(tmp_path / "in.mkv", list(bikes[:5, :64, :96]))
    target = tmp_path / f"out.{suffix}"
    interpolate_video(source, target, linear, times, FAST)
    with av.open(target) as container:
        assert container.duration == pytest.approx(5 * 40_000, abs=1000)
    assert [frame.time for frame in decode(target)] == pytest.approx(
        [0.04 * index / times for index in range(4 * times + 1)], abs=0.0006
    )


def test_three_times_asks_for_thirds(tmp_path: Path) -> None:
    greys = [np.full((64, 64, 3), level, np.uint8) for level in (40, 190)]
    source = encode(tmp_path / "in.mp4", greys, bit_rate=10_000_000)
    settings = VideoSettings.model_validate({"cut_method": None, "crf": 1})
    interpolate_video(source, tmp_path / "out.mp4", linear, 3, settings)
    levels = [to_rgb(frame).mean() for frame in decode(tmp_path / "out.mp4")]
    assert levels == pytest.approx([40, 90, 140, 190], abs=2)
