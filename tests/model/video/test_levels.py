"""New frames are as bright, and as coloured, as those of the source beside them."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.settings import VideoSettings
from model.video.interpolation import linear, load_predictor
from model.video.planes import Layout, converted, from_rgb, layout_of, rounded, to_rgb
from model.video.smoothing import interpolate_video
from tests.model.videos import decode, encode_planes, moving, planes

LOSSLESS = VideoSettings.model_validate({"codec": "ffv1", "cut_method": None})
# Matrix, range: full-range BT.601, limited 601, 709 and 2020, and a file that does not say.
COLOURS = [(5, 2), (6, 1), (1, 1), (9, 1), (2, 0)]
FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]


def means(frame: av.VideoFrame) -> list[float]:
    """Means of red, green and blue, in levels of 255, without a converter's rounding."""
    layout = layout_of(frame.format, frame.color_range, frame.colorspace)
    zero, scale, middle, range_ = layout.scales
    # The means of a sum are the sum of the means, since no clipping comes between.
    luma, u, v = (float(plane.mean()) for plane in planes(frame)[:3])
    luma, u, v = (luma - zero) / scale, (u - middle) / range_, (v - middle) / range_
    red, blue = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(layout.matrix, (0.299, 0.114))
    r, b = luma + 2 * (1 - red) * v, luma + 2 * (1 - blue) * u
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return [255 * r, 255 * g, 255 * b]


@pytest.mark.parametrize("pix_fmt", FORMATS)
@pytest.mark.parametrize(("matrix", "color_range"), COLOURS)
def test_means_of_new_frames_lie_between_those_of_their_neighbours(
    matrix: int, color_range: int, pix_fmt: str, tmp_path: Path
) -> None:
    pictures = moving(pix_fmt, count=3, full=color_range == 2)
    source = encode_planes(
        tmp_path / "in.mkv", pictures, pix_fmt, colorspace=matrix, color_range=color_range
    )
    interpolate_video(source, tmp_path / "out.mkv", linear, 4, LOSSLESS)
    found = decode(tmp_path / "out.mkv")
    assert (found[1].colorspace, found[1].color_range) == (matrix, color_range)
    assert len(found) == 9
    for at in (0, 4):
        first, third = means(found[at]), means(found[at + 4])
        for k in (1, 2, 3):
            expected = [(1 - k / 4) * a + k / 4 * b for a, b in zip(first, third, strict=True)]
            assert means(found[at + k]) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le"])
@pytest.mark.parametrize("model", ["flow-fast", "linear"])
def test_a_picture_that_stands_still_is_the_same_in_new_frames(
    model: str, pix_fmt: str, tmp_path: Path
) -> None:
    """Almost still: the last pixel differs, so that the frames are not merely repeated."""
    one = moving(pix_fmt, count=1)[0]
    other = [plane.copy() for plane in one]
    other[0][-1, -1] += 3
    source = encode_planes(tmp_path / "in.mkv", [one, other], pix_fmt, color_range=1)
    interpolate_video(source, tmp_path / "out.mkv", load_predictor(model), 2, LOSSLESS)
    first, middle, _ = (planes(frame) for frame in decode(tmp_path / "out.mkv"))
    for before, after in zip(first, middle, strict=True):
        assert np.abs(before.astype(int) - after)[:-9, :-9].max() <= 1
        assert abs(before.mean() - after.mean()) < 0.05


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le"])
def test_flow_keeps_the_level_of_a_moving_picture(pix_fmt: str, tmp_path: Path) -> None:
    pictures = moving(pix_fmt, count=4)
    source = encode_planes(tmp_path / "in.mkv", pictures, pix_fmt, colorspace=1, color_range=1)
    interpolate_video(source, tmp_path / "out.mkv", load_predictor("flow-fast"), 2, LOSSLESS)
    frames = decode(tmp_path / "out.mkv")
    inside = [[plane[8:-8, 8:-8] for plane in planes(frame)] for frame in frames]
    step = 2 ** (layout_of(frames[0].format).bits - 8)
    for at in (1, 3, 5):
        for plane in range(3):
            # What enters and leaves the picture differs, so only what lies in the middle counts.
            around = (inside[at - 1][plane].mean() + inside[at + 1][plane].mean()) / 2
            assert inside[at][plane].mean() / step == pytest.approx(around / step, abs=0.6)


def test_the_frames_of_the_source_are_untouched(tmp_path: Path) -> None:
    pictures = moving("yuv422p10le", count=3)
    source = encode_planes(tmp_path / "in.mkv", pictures, "yuv422p10le")
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, LOSSLESS)
    for before, frame in zip(pictures, decode(tmp_path / "out.mkv")[::2], strict=True):
        for plane, kept in zip(before, planes(frame), strict=True):
            np.testing.assert_array_equal(kept, plane)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 2, 9])
def test_codes_come_back_from_rgb_exactly(matrix: int, full: bool) -> None:
    for name in ("yuv420p", "yuv422p10le", "yuv444p12le"):
        layout = layout_of(av.VideoFormat(name), 2 if full else 1, matrix)
        seeds, step = np.random.default_rng(0), 2 ** (layout.bits - 8)
        codes: list[Any] = [
            seeds.integers(100 * step, 150 * step, layout.size(plane, 33, 45)).astype(
                np.uint8 if step == 1 else np.uint16
            )
            for plane in range(3)
        ]
        rgb, clipped = to_rgb(codes, layout)
        assert rgb.min() > 0
        assert not clipped
        for plane, back in zip(codes, from_rgb(rgb, layout), strict=True):
            np.testing.assert_array_equal(rounded(back, layout.bits), plane)


def test_halves_are_rounded_up_as_often_as_down() -> None:
    plane = np.full((64, 64), 100.5, np.float32)
    noise = np.random.default_rng(0).normal(0, 1e-4, plane.shape).astype(np.float32)
    assert rounded(plane + noise, 8).mean() == pytest.approx(100.5, abs=0.01)
    assert rounded(np.full((4, 4), 300, np.float32), 8).max() == 255


def test_ranges_and_depths_are_converted_by_their_definition() -> None:
    grey = [np.full((4, 4), 235, np.uint8)] + [np.full((2, 2), 128, np.uint8)] * 2
    limited = Layout("yuv", 8, 1, 1)
    for target, white in (
        (Layout("yuv", 10, 1, 1), 940),
        (Layout("yuv", 8, 0, 0, full=True), 255),
        (Layout("rgb", 16, full=True), 65535),
    ):
        made = converted(grey, limited, target)
        assert made[0] == pytest.approx(np.full((4, 4), white), rel=1e-5)
        assert {plane.shape for plane in made} <= {(4, 4), (2, 2)}
