"""Pictures of a decoder as frames: the quick way gives what FFmpeg gives in one step."""

import av
import numpy as np
import pytest

from pipeline.frames.decoding import COLOUR_CONVERSION
from pipeline.frames.upright import PLANAR, Upright

BT709, BT601, BT2020 = 1, 5, 9
LIMITED, FULL = 1, 2


def noise(layout: str, width: int, height: int) -> av.VideoFrame:
    """A picture of which every value is as likely as another."""
    picture = av.VideoFrame(width, height, layout)
    bits = picture.format.components[0].bits
    stream = np.random.default_rng(0)
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
