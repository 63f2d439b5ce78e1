"""Folders of images as a source and as what is written."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from model.video.codecs import OutputFormat
from model.video.files import is_opaque
from model.video.planes import Layout, layout_of, planes_of
from model.video.properties import VideoProperties
from pipeline.errors import MidframeError
from pipeline.frames.decoding import image_files, image_places

PNG_DEPTHS = (8, 16)


class ImageSource:
    """The images of a folder in the order of their names, at a rate that is told.

    Raises
    ------
    MidframeError
        if the folder holds no image, or, here or later, one cannot be read or differs in size.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self.notes = path, list[str]()
        self._files = image_files(path)
        if not self._files:
            raise MidframeError(f"{path}: holds no images")
        self.notes += [one for one in image_places(path) if isinstance(one, str)]
        first = _decoded(self._files[0])
        layout = layout_of(first.format, first.color_range, first.colorspace)
        if layout.alpha and layout.family == "rgb" and is_opaque(first):
            layout = layout_of(av.VideoFormat("rgb24" if layout.bits == 8 else "rgb48le"))
        self.properties = VideoProperties(
            width=first.width,
            height=first.height,
            time_base=1 / rate,
            rate=rate,
            layout=layout,
            frame_count=len(self._files),
            color_range=0 if layout.family == "rgb" else first.color_range,
            codec="images",
        )

    def close(self) -> None:
        """Nothing is open."""

    def read(self) -> Iterator[av.VideoFrame]:
        """Yield the images as frames, numbered by ``pts``."""
        expected = self.properties.width, self.properties.height
        for number, file in enumerate(self._files):
            frame = _decoded(file)
            if (frame.width, frame.height) != expected:
                raise MidframeError(
                    f"{file}: is {frame.width}x{frame.height}, but the first image of the folder "
                    f"is {expected[0]}x{expected[1]}"
                )
            frame.pts, frame.duration = number, 1
            yield frame


def _decoded(file: Path) -> av.VideoFrame:
    try:
        with av.open(file) as container:
            for frame in container.decode(video=0):
                return frame
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise MidframeError(f"{file}: not a readable image ({error})") from None
    raise MidframeError(f"{file}: not a readable image")


def png_format(properties: VideoProperties) -> OutputFormat:
    """What PNG files keep of a source: all but bits beyond 16, and HDR metadata."""
    source = properties.layout
    bits = PNG_DEPTHS[source.bits > PNG_DEPTHS[0]]
    layout = Layout("rgb", bits, alpha=source.alpha, full=True, matrix=source.matrix)
    changes = []
    if source.family == "yuv":
        changes.append(f"YUV {source.chroma} becomes RGB")
    if properties.display_matrix is not None:
        changes.append("the images are as they are stored: the file's rotation is left out")
    return OutputFormat(
        "png", {}, layout, layout.name, properties.width, properties.height, tuple(changes)
    )


def write_png(path: Path, frame: av.VideoFrame, layout: Layout) -> None:
    """Write a frame of `png_format` as an image of 8 or 16 bits.

    Raises
    ------
    OSError
        if it cannot be written.
    """
    green, blue, red, *alpha = planes_of(frame, layout)
    done, data = cv2.imencode(".png", np.dstack([blue, green, red, *alpha]))
    if not done:
        raise MidframeError(f"{path}: cannot be encoded")
    path.write_bytes(data.tobytes())
