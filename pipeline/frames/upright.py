"""From the pictures of a decoder to frames: RGB, turned as every player shows them."""

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from pipeline.frames.decoding import COLOUR_CONVERSION, Frame

# Layouts of which FFmpeg makes three planes of RGB with vector instructions, and whole pixels
# without. Of an even number of lines both are the same to the bit.
PLANAR = frozenset(
    f"{layout}{depth}"
    for layout in ("yuv420p", "yuv422p", "yuv444p")
    for depth in ("", "10le", "12le")
) | {"yuvj420p", "yuvj422p", "yuvj444p"}


class Upright:
    """Converts the decoded pictures of a video to frames; kept, since setting it up takes time."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> Frame:
        """A picture as uint8 RGB ``[H, W, 3]``, turned as every player shows it.

        Values of more than 8 bits are rounded, and the curve of brightness is kept: a picture of
        high dynamic range is not mapped to another one.
        """
        planar = picture.format.name in PLANAR and not picture.height % 2
        # One thread: the processes are the parallelism, and by default each conversion starts some.
        converted = self._reformatter.reformat(
            picture,
            format="gbrp" if planar else "rgb24",
            interpolation=COLOUR_CONVERSION,
            threads=1,
        )
        if planar:
            green, blue, red = map(_pixels, converted.planes)
            frame = cv2.merge([red, green, blue])
        else:
            frame = converted.to_ndarray()
        turned = np.rot90(np.asarray(frame, np.uint8), quarter_turns(picture))
        return np.ascontiguousarray(turned)


def _pixels(plane: av.video.plane.VideoPlane) -> Frame:
    """A plane of 8 bits a pixel, uint8 ``[H, W]``, without what pads its lines."""
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width]


def quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns, anticlockwise, that a player applies to the picture: 0 to 3."""
    return round(frame.rotation / 90) % 4
