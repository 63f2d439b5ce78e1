"""Videos at twice their frame rate, decoded again."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from model.interpolation import FloatFrame, linear
from model.settings import VideoSettings
from model.video import interpolate_video
from model.video_file import to_rgb
from pipeline.errors import MidframeError

Frame = NDArray[np.uint8]
FAST = VideoSettings.model_validate({"preset": "ultrafast", "crf": 12})


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    difference = a.astype(float) - b
    return float(10 * np.log10(255**2 / max((difference**2).mean(), 1e-9)))


def encode(
    path: Path,
    frames: list[Frame],
    times: list[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    **attributes: Any,
) -> Path:
    """Write a video of RGB frames; ``times`` in units of 1 / 1000 s."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in attributes.items():
            if name == "rotation":
                stream.set_display_rotation(value)
            else:
                setattr(stream.codec_context, name, value)
        for index, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if times is not None:
                frame.time_base, frame.pts = Fraction(1, 1000), times[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def start_of_bunny(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 17 frames of bigbuckbunny.mp4 with their sound, not encoded again."""
    path = tmp_path_factory.mktemp("bunny") / "bunny.mp4"
    with av.open(clips / "bigbuckbunny.mp4") as source, av.open(path, "w") as target:
        copies: dict[int, Any] = {
            s.index: target.add_stream_from_template(s, opaque=True) for s in source.streams
        }
        for packet in source.demux():
            if packet.dts is not None and packet.pts * packet.time_base < Fraction(17, 25):
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    return path


@pytest.fixture(scope="module")
def doubled(start_of_bunny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("doubled") / "bunny.mp4"
    interpolate_video(start_of_bunny, path, linear, settings=FAST)
    return path


def test_n_frames_become_2n_minus_1_at_twice_the_rate(start_of_bunny: Path, doubled: Path) -> None:
    before, after = decode(start_of_bunny), decode(doubled)
    assert len(after) == 2 * len(before) - 1
    with av.open(doubled) as container:
        assert container.streams.video[0].average_rate == 50
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
        assert after.streams.video[0].average_rate == 50
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
    settings = VideoSettings.model_validate({"cut_threshold": None, "crf": 1})
    interpolate_video(source, tmp_path / "out.mp4", linear, 8, settings)
    levels = [to_rgb(frame).mean() for frame in decode(tmp_path / "out.mp4")]
    assert levels == pytest.approx(list(np.linspace(40, 200, 9)), abs=2)


def test_a_variable_frame_rate_keeps_its_times(bikes: Frame, tmp_path: Path) -> None:
    times = [0, 40, 140, 160, 400]
    source = encode(tmp_path / "in.mkv", list(bikes[:5, :64, :96]), times)
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    found = [frame.time for frame in decode(tmp_path / "out.mp4")]
    assert found == pytest.approx([0, 0.02, 0.04, 0.09, 0.14, 0.15, 0.16, 0.28, 0.4], abs=1e-3)


@pytest.mark.parametrize("times", [2, 4])
def test_nothing_is_blended_across_a_jump_cut(times: int, bikes: Frame, tmp_path: Path) -> None:
    frames = [frame[:128, :192] for frame in bikes[28:32]]
    source = encode(tmp_path / "in.mp4", frames)
    predicted = []

    def counted(first: Frame, third: Frame) -> FloatFrame:
        predicted.append((first, third))
        return linear(first, third)

    interpolate_video(source, tmp_path / "out.mp4", counted, times, FAST)
    assert len(predicted) == 2 * (times - 1)
    found = [to_rgb(frame) for frame in decode(tmp_path / "out.mp4")]
    assert len(found) == 3 * times + 1
    for k in range(1, times):
        repeated, nearer = found[times + k], found[times if 2 * k <= times else 2 * times]
        assert psnr(repeated, nearer) > 35


def test_with_no_threshold_no_cut_is_looked_for(bikes: Frame, tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mp4", [frame[:128, :192] for frame in bikes[29:31]])
    settings = VideoSettings.model_validate({"cut_threshold": None, "preset": "ultrafast"})
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


@pytest.mark.parametrize("shape", [(63, 95), (63, 96), (64, 95)])
def test_odd_sizes_repeat_the_last_row_or_column(
    shape: tuple[int, int], bikes: Frame, tmp_path: Path
) -> None:
    frames = [
        np.ascontiguousarray(f[100 : 100 + shape[0], 200 : 200 + shape[1]]) for f in bikes[:3]
    ]
    source = encode(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    found = decode(tmp_path / "out.mp4")
    assert len(found) == 5
    assert (found[0].height, found[0].width) == (64, 96)
    assert psnr(to_rgb(found[0])[: shape[0], : shape[1]], frames[0]) > 28


@pytest.mark.parametrize(
    ("matrix", "color_range", "primaries", "transfer"), [(1, 1, 1, 1), (6, 2, 6, 6), (9, 1, 9, 14)]
)
def test_colour_properties_are_carried_over(
    matrix: int, color_range: int, primaries: int, transfer: int, bikes: Frame, tmp_path: Path
) -> None:
    source = encode(
        tmp_path / "in.mp4",
        list(bikes[:3, :64, :96]),
        colorspace=matrix,
        color_range=color_range,
        color_primaries=primaries,
        color_trc=transfer,
    )
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    for frame in decode(tmp_path / "out.mp4"):
        found = frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc
        assert found == (matrix, color_range, primaries, transfer)
    luma = [frame.to_ndarray(format="gray").mean() for frame in decode(tmp_path / "out.mp4")]
    assert luma[1] == pytest.approx((luma[0] + luma[2]) / 2, abs=0.5)


def test_rotation_is_carried_over(bikes: Frame, tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mp4", list(bikes[:3, :64, :96]), rotation=90)
    assert decode(source)[0].rotation == 90
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    found = decode(tmp_path / "out.mp4")
    assert [frame.rotation for frame in found] == [90] * 5
    assert (found[0].width, found[0].height) == (96, 64)


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv422p10le", "gray"])
def test_other_pixel_formats_become_yuv420p(pix_fmt: str, bikes: Frame, tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mkv", list(bikes[:3, :64, :96]), codec="ffv1", pix_fmt=pix_fmt)
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    found = decode(tmp_path / "out.mp4")
    assert {frame.format.name for frame in found} == {"yuv420p"}
    assert psnr(to_rgb(found[0]), to_rgb(decode(source)[0])) > 25


def test_a_text_file_named_mp4_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_text("hello")
    with pytest.raises(MidframeError, match=r"in\.mp4: not a readable video \(Invalid data"):
        interpolate_video(tmp_path / "in.mp4", tmp_path / "out.mp4", linear)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4"}


def test_a_video_of_one_frame_is_one_clear_line(bikes: Frame, tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mp4", [bikes[0, :64, :96]])
    with pytest.raises(MidframeError, match="has one frame, but two are needed"):
        interpolate_video(source, tmp_path / "out.mp4", linear)
    assert list(tmp_path.iterdir()) == [source]


def test_a_sound_file_is_no_video(start_of_bunny: Path, tmp_path: Path) -> None:
    source = tmp_path / "sound.mp4"
    with av.open(start_of_bunny) as container, av.open(source, "w") as target:
        copy = target.add_stream_from_template(container.streams.audio[0])
        for packet in container.demux(audio=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    with pytest.raises(MidframeError, match=r"sound\.mp4: has no video stream"):
        interpolate_video(source, tmp_path / "out.mp4", linear)


def test_sound_that_the_container_cannot_hold_is_one_clear_line(
    start_of_bunny: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.mkv"
    with av.open(start_of_bunny) as container, av.open(source, "w") as target:
        picture = target.add_stream_from_template(container.streams.video[0], opaque=True)
        sound: Any = target.add_stream("pcm_s16le", rate=48000, layout="5.1")
        resampler = av.AudioResampler("s16", "5.1", 48000)
        for packet in container.demux():
            if packet.stream.type == "audio":
                for frame in packet.decode():
                    for converted in resampler.resample(frame):
                        target.mux(sound.encode(converted))
            elif packet.dts is not None:
                packet.stream = picture
                target.mux(packet)
    with pytest.raises(MidframeError, match=r"\.mp4 file cannot hold this sound \(pcm_s16le\)"):
        interpolate_video(source, tmp_path / "out.mp4", linear, settings=FAST)
    assert list(tmp_path.iterdir()) == [source]
    interpolate_video(source, tmp_path / "out.mkv", linear, settings=FAST)
    with av.open(tmp_path / "out.mkv") as container:
        assert container.streams.audio[0].codec_context.name == "pcm_s16le"


def test_a_missing_video_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match=r"none\.mp4: no such video file"):
        interpolate_video(tmp_path / "none.mp4", tmp_path / "out.mp4", linear)


def test_the_input_is_not_overwritten_under_any_name(start_of_bunny: Path, tmp_path: Path) -> None:
    before = start_of_bunny.read_bytes()
    (tmp_path / "link.mp4").symlink_to(start_of_bunny)
    for target in (start_of_bunny, tmp_path / "link.mp4"):
        with pytest.raises(MidframeError, match="is the input"):
            interpolate_video(start_of_bunny, target, linear)
    assert start_of_bunny.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file/out.mp4", "cannot write here"),
        ("out.webm", r"a video is written as \.mp4, \.m4v, \.mov, \.mkv"),
        ("folder.mp4", "is a folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_clear_line(
    name: str, message: str, start_of_bunny: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(MidframeError, match=message):
        interpolate_video(start_of_bunny, tmp_path / name, linear)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.mp4"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_video_leaves_what_was_there(
    error: type[BaseException], bikes: Frame, tmp_path: Path
) -> None:
    source = encode(tmp_path / "in.mp4", list(bikes[:6, :64, :96]))
    (tmp_path / "out.mp4").write_bytes(b"before")
    asked: Iterator[int] = iter(range(10))

    def broken(first: Frame, third: Frame) -> FloatFrame:
        if next(asked) == 3:
            raise error
        return linear(first, third)

    with pytest.raises(error):
        interpolate_video(source, tmp_path / "out.mp4", broken, settings=FAST)
    assert (tmp_path / "out.mp4").read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "out.mp4"}


def test_frames_are_written_while_later_ones_are_not_read_yet(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The video is never held whole: at most a few source frames are between reader and writer."""
    from model import video_file, video_writer

    read, written, ahead = 0, 0, []
    check, write = video_file.VideoSource._check, video_writer.VideoTarget._write

    def counted_check(self: Any, frame: av.VideoFrame) -> None:
        nonlocal read
        read += 1
        ahead.append(read - written / 2)
        check(self, frame)

    def counted_write(self: Any, *arguments: Any) -> None:
        nonlocal written
        written += 1
        write(self, *arguments)

    monkeypatch.setattr(video_file.VideoSource, "_check", counted_check)
    monkeypatch.setattr(video_writer.VideoTarget, "_write", counted_write)
    interpolate_video(clips / "carphone_pristine.mp4", tmp_path / "o.mp4", linear, settings=FAST)
    assert (read, written) == (120, 239)
    assert max(ahead) <= 2
