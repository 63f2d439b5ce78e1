"""Sources that are interlaced, cut short, damaged, or folders of images."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from model.settings import VideoSettings
from model.video.interpolation import linear
from model.video.smoothing import interpolate_video
from pipeline.errors import MidframeError
from tests.model.videos import FAST, FASTEST, Frame, decode, encode, encode_planes, moving, planes

RATE = Fraction(25)


def interlaced(path: Path) -> tuple[Path, list[list[Any]]]:
    """MPEG-2 whose frames weave two moments each, upper field first; the moments."""
    moments = moving("yuv420p", 16, (64, 64))
    woven = []
    for first, second in zip(moments[::2], moments[1::2], strict=True):
        frame = [plane.copy() for plane in first]
        for plane, other in zip(frame, second, strict=True):
            plane[1::2] = other[1::2]
        woven.append(frame)
    with av.open(path, "w") as container:
        options = {"flags": "+ildct+ilme", "qscale": "2", "top": "1", "threads": "1"}
        stream: Any = container.add_stream("mpeg2video", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        # The encoder weaves what its frames say is woven, and PyAV cannot say it; FFmpeg can.
        graph = av.filter.Graph()
        picture = av.VideoFormat("yuv420p")
        nodes = [
            graph.add_buffer(width=64, height=64, format=picture, time_base=RATE**-1),
            graph.add("setfield", "tff"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        for number, codes in enumerate(woven):
            frame = av.VideoFrame(64, 64, "yuv420p")
            for plane, values in zip(frame.planes, codes, strict=True):
                into = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)  # type: ignore
                into[:, : values.shape[1]] = values
            frame.pts, frame.time_base = number, RATE**-1
            graph.vpush(frame)
            container.mux(stream.encode(graph.vpull()))
        container.mux(stream.encode(None))
    return path, moments


def test_interlaced_video_is_deinterlaced_first_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, moments = interlaced(tmp_path / "in.mpg")
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, FASTEST["ffv1"])
    assert "in.mpg: is interlaced: deinterlaced by bwdif" in capsys.readouterr().err
    frames = decode(tmp_path / "out.mkv")
    assert len(frames) == 15
    times = [frame.time - frames[0].time for frame in frames]
    assert times == pytest.approx([0.02 * n for n in range(15)], abs=2e-3)
    assert not any(frame.interlaced_frame for frame in frames)

    # Neighbouring rows belong to one moment: they differ no more than in the moments.
    def combing(luma: Any) -> float:
        rows = luma[8:-8, 8:-8].astype(float)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    assert combing(planes(frames[6])[0]) < 1.3 * combing(moments[6][0])


def test_both_fields_become_pictures_if_that_is_asked_for(tmp_path: Path) -> None:
    source, moments = interlaced(tmp_path / "in.mpg")
    settings = FASTEST["ffv1"].model_copy(update={"interlaced": "fields"})
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, settings)
    frames = decode(tmp_path / "out.mkv")
    assert len(frames) == 31
    times = [frame.time - frames[0].time for frame in frames]
    assert times == pytest.approx([0.01 * n for n in range(31)], abs=2e-3)
    for number in range(4, 12):
        luma = planes(frames[2 * number])[0].astype(float)
        error = np.abs(luma - moments[number][0])[8:-8, 8:-8].mean()
        assert error < np.abs(luma - moments[number + 1][0])[8:-8, 8:-8].mean()


def test_interlaced_video_is_refused_if_that_is_asked_for(tmp_path: Path) -> None:
    source, _ = interlaced(tmp_path / "in.mpg")
    settings = VideoSettings.model_validate({"interlaced": "refuse"})
    with pytest.raises(MidframeError, match="is interlaced, so every picture mixes two moments"):
        interpolate_video(source, tmp_path / "out.mkv", linear, 2, settings)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_file_that_is_cut_short_is_named_and_not_doubled(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole.{suffix}"
    with av.open(
        whole, "w", options={"movflags": "faststart"} if suffix == "mp4" else {}
    ) as container:
        stream: Any = container.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "crf": "1", "g": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for rgb in np.random.default_rng(0).integers(0, 255, (12, 48, 64, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    source = tmp_path / f"in.{suffix}"
    content = whole.read_bytes()
    source.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(MidframeError, match="is cut short: .*set on_bad_frame: skip"):
        interpolate_video(source, tmp_path / "out.mkv", linear, 2, FAST)
    assert not (tmp_path / "out.mkv").exists()


def test_with_skip_what_is_there_of_a_cut_file_is_done_and_the_rest_named(
    bikes: Frame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = encode(tmp_path / "whole.mkv", list(bikes[:12, :48, :64]), codec="ffv1", pix_fmt="bgr0")
    source = tmp_path / "in.mkv"
    content = whole.read_bytes()
    source.write_bytes(content[: len(content) * 6 // 10])
    settings = FAST.model_copy(update={"on_bad_frame": "skip"})
    said = interpolate_video(source, tmp_path / "out.mkv", linear, 2, settings)
    assert "in.mkv: is cut short" in capsys.readouterr().err
    count = len(decode(tmp_path / "out.mkv"))
    assert 7 <= count < 23
    assert f"{count} frames from the {(count + 1) // 2} of" in said


def write_images(folder: Path, images: list[Any], name: str = "{:03}.png") -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        assert cv2.imwrite(str(folder / name.format(number)), image)
    return folder


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_images_of_8_and_16_bits_become_images_of_the_same(
    channels: int, dtype: Any, tmp_path: Path
) -> None:
    peak = np.iinfo(dtype).max
    images = [
        np.random.default_rng(n).integers(0, peak, (24, 33, channels)).astype(dtype)
        for n in range(3)
    ]
    source = write_images(tmp_path / "in", images)
    settings = VideoSettings.model_validate({"cut_method": None})
    interpolate_video(source, tmp_path / "out", linear, 2, settings)
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{n:08}.png" for n in range(5)]
    made: list[Any] = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
    assert {image.dtype for image in made} == {np.dtype(dtype)}
    for before, after in zip(images, made[::2], strict=True):
        np.testing.assert_array_equal(before, after)
    middle = (images[0].astype(float) + images[1]) / 2
    np.testing.assert_allclose(made[1], middle, atol=0.6 if dtype == np.uint8 else 2)


def test_a_folder_of_images_becomes_a_video_and_back(bikes: Frame, tmp_path: Path) -> None:
    images = [np.ascontiguousarray(frame[:48, :64, ::-1]) for frame in bikes[:4]]
    source = write_images(tmp_path / "in", images, "frame{}.png")
    interpolate_video(
        source, tmp_path / "out.mkv", linear, 2, FASTEST["ffv1"], image_rate=Fraction(10)
    )
    frames = decode(tmp_path / "out.mkv")
    assert [frame.time for frame in frames] == pytest.approx([0.05 * n for n in range(7)])
    interpolate_video(tmp_path / "out.mkv", tmp_path / "back", linear, 2, FAST)
    files = sorted((tmp_path / "back").iterdir())
    assert len(files) == 13
    for image, file in zip(images, files[::4], strict=True):
        np.testing.assert_array_equal(cv2.imread(str(file)), image)


def test_images_of_another_size_and_taken_folders_are_one_clear_line(tmp_path: Path) -> None:
    images = [np.zeros((rows, 32, 3), np.uint8) for rows in (24, 24, 25)]
    source = write_images(tmp_path / "in", images)
    with pytest.raises(MidframeError, match=r"002\.png: is 32x25, but the first image .* 32x24"):
        interpolate_video(source, tmp_path / "out", linear)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    with pytest.raises(MidframeError, match="in: is there already; name a new folder"):
        interpolate_video(source, source, linear)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MidframeError, match="empty: holds no images"):
        interpolate_video(tmp_path / "empty", tmp_path / "out", linear)


def test_ten_bit_video_becomes_images_of_16_bits(tmp_path: Path) -> None:
    source = encode_planes(
        tmp_path / "in.mkv", moving("yuv420p10le", 2), "yuv420p10le", colorspace=1, color_range=1
    )
    interpolate_video(source, tmp_path / "out", linear, 2, FAST)
    images: list[Any] = [
        cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted((tmp_path / "out").iterdir())
    ]
    assert [image.dtype for image in images] == [np.dtype(np.uint16)] * 3
    np.testing.assert_allclose(
        images[1].mean(), (images[0].mean() + images[2].mean()) / 2, atol=0.1 * 257
    )


def test_avi_that_repeats_pictures_by_empty_places_is_not_cut_short(
    bikes: Frame, tmp_path: Path
) -> None:
    times = [0, 2, 3, 6, 8, 9]
    source = encode(tmp_path / "in.avi", list(bikes[:6, :48, :64]), times, codec="mpeg4")
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, FAST)
    assert len(decode(tmp_path / "out.mkv")) == 11


def test_tags_in_any_encoding_stop_nothing(bikes: Frame, tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mkv", list(bikes[:3, :48, :64]))
    content = source.read_bytes()
    source.write_bytes(content.replace(b"DURATION", b"DUR\xc9E DE"))  # ISO 8859-1
    with pytest.raises(UnicodeDecodeError):
        decode(source)
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, FAST)
    assert len(decode(tmp_path / "out.mkv")) == 5
