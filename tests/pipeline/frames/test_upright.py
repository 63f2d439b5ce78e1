"""Pictures of a decoder as frames: the quick way gives what FFmpeg gives in one step."""

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.frames.colours import to_rgb
from pipeline.frames.decoding import COLOUR_CONVERSION
from pipeline.frames.upright import PLANAR, Upright

# Numbers of ITU-T H.273, and of FFmpeg for ranges.
BT709, UNKNOWN, FCC, BT601, SMPTE170M, SMPTE240M, BT2020 = 1, 2, 4, 5, 6, 7, 9
UNSAID, LIMITED, FULL = 0, 1, 2


def noise(layout: str, width: int, height: int, seed: int = 0) -> av.VideoFrame:
    """A picture of which every value is as likely as another."""
    picture = av.VideoFrame(width, height, layout)
    bits = picture.format.components[0].bits
    stream = np.random.default_rng(seed)
    for plane in picture.planes:
        count = plane.buffer_size // (1 if bits == 8 else 2)
        values = stream.integers(0, 2**bits, count, np.uint8 if bits == 8 else np.uint16)
        plane.update(values.tobytes())
    return picture


@pytest.mark.parametrize("layout", [*sorted(PLANAR), "yuv411p", "nv12", "gray", "bgra"])
def test_a_frame_is_the_picture_that_ffmpeg_converts_to_whole_pixels(layout: str) -> None:
    upright = Upright()
    for width, height in ((64, 48), (50, 2), (33, 34), (17, 90), (322, 181), (21, 7)):
        picture = noise(layout, width, height)
        for space in (BT709, BT601, BT2020):
            for levels in (LIMITED, FULL):
                picture.colorspace, picture.color_range = space, levels
                expected = picture.to_ndarray(format="rgb24", interpolation=COLOUR_CONVERSION)
                np.testing.assert_array_equal(upright(picture), expected)


@settings(max_examples=200)
@given(
    layout=st.sampled_from(["yuv420p", "yuvj420p"]),
    width=st.integers(2, 200),
    height=st.integers(2, 40),
    space=st.sampled_from([BT709, UNKNOWN, FCC, BT601, SMPTE170M, SMPTE240M, BT2020]),
    levels=st.sampled_from([UNSAID, LIMITED, FULL]),
    seed=st.integers(0, 1000),
)
def test_a_frame_of_any_size_and_matrix_is_the_picture_that_ffmpeg_converts(
    layout: str, width: int, height: int, space: int, levels: int, seed: int
) -> None:
    picture = noise(layout, width, height, seed)
    picture.colorspace, picture.color_range = space, levels
    expected = picture.to_ndarray(format="rgb24", interpolation=COLOUR_CONVERSION)
    np.testing.assert_array_equal(Upright()(picture), expected)


@pytest.mark.parametrize("levels", [LIMITED, FULL])
@pytest.mark.parametrize("space", [BT709, BT601, BT2020])
def test_every_chroma_becomes_the_colour_that_ffmpeg_makes_of_it(space: int, levels: int) -> None:
    every = np.arange(256, dtype=np.uint8)
    for luma in range(0, 256, 5):
        picture = av.VideoFrame(512, 512, "yuv420p")
        picture.colorspace, picture.color_range = space, levels
        picture.planes[0].update(bytes([luma]) * (512 * 512))
        picture.planes[1].update(np.repeat(every, 256).tobytes())
        picture.planes[2].update(np.tile(every, 256).tobytes())
        expected = picture.to_ndarray(format="rgb24", interpolation=COLOUR_CONVERSION)
        np.testing.assert_array_equal(Upright()(picture), expected)


def test_no_more_than_even_pictures_of_8_bits_go_past_ffmpeg() -> None:
    assert to_rgb(noise("yuv420p", 64, 48)) is not None
    for layout, width, height in (
        ("yuv420p", 63, 48),
        ("yuv420p", 64, 47),
        ("yuv422p", 64, 48),
        ("yuv420p10le", 64, 48),
    ):
        assert to_rgb(noise(layout, width, height)) is None
