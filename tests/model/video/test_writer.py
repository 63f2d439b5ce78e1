"""What a doubled video keeps of the first, and where it may be written."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.video.files import to_rgb
from model.video.interpolation import FloatFrame, linear
from model.video.smoothing import interpolate_video
from pipeline.errors import MidframeError
from tests.model.videos import FAST, Frame, decode, encode, psnr


@pytest.mark.parametrize("shape", [(63, 95), (63, 96), (64, 95)])
def test_odd_sizes_repeat_the_last_row_or_column(
    shape: tuple[int, int], bikes: Frame, tmp_path: Path
) -> None:
    frames = [
        np.ascontiguousarray(f[100 : 100 + shape[0], 200 : 200 + shape[1]]) for f in bikes[:3]
    ]
    source = encode(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="yuv420p")
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    found = decode(tmp_path / "out.mp4")
    assert len(found) == 5
    assert (found[0].height, found[0].width) == (64, 96)
    assert psnr(to_rgb(found[0])[: shape[0], : shape[1]], to_rgb(decode(source)[0])) > 28


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
        ("out.avi", r"a video is written as \.mp4, \.m4v, \.mov, \.mkv, \.webm; choose one"),
        ("out.webm", r"a \.webm file cannot hold h264; choose --codec av1 or vp9"),
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
