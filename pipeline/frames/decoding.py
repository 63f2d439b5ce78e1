"""What a frame is, and reading images from files.

Frames are uint8 RGB arrays ``[H, W, 3]``. Videos are read by `pipeline.frames.video`.
"""

import io
import re
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import MidframeError

Frame = NDArray[np.uint8]
Look = tuple[int, int, str]  # height and width in pixels, colour mode of an image

# Exact conversion between a video's YUV and RGB: without these flags the conversion rounds down,
# which darkens a picture by about one level.
COLOUR_CONVERSION = int(
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
# Names that FFmpeg's demuxers know, of the containers and bare streams that people keep video in.
VIDEO_SUFFIXES = frozenset(
    # fmt: off
    {
        ".264",
        ".265",
        ".3g2",
        ".3gp",
        ".asf",
        ".avi",
        ".dv",
        ".f4v",
        ".flv",
        ".gif",
        ".h264",
        ".h265",
        ".hevc",
        ".ivf",
        ".m1v",
        ".m2t",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".nut",
        ".obu",
        ".ogg",
        ".ogv",
        ".qt",
        ".rm",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".y4m",
    }
    # fmt: on
)
# Grey images are read as RGB; palettes, alpha and 16 bits would need a choice that is the user's.
IMAGE_MODES = frozenset({"RGB", "L"})


class BadFrameError(MidframeError):
    """Frames that cannot be used, with the file and the reason."""


class LeftOutError(BadFrameError):
    """A file that the settings leave out, with the file and the reason."""


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names, numbers in them by value.

    Hidden files are skipped.
    """
    files = (
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )
    return sorted(files, key=_by_number)


def _by_number(file: Path) -> tuple[list[tuple[int, str]], str]:
    # Digits stand at every second place, so that numbers are compared with numbers alone.
    parts = re.split(r"([0-9]+)", file.stem)
    return [(int(part), "") if at % 2 else (0, part) for at, part in enumerate(parts)], file.name


def image_places(folder: Path) -> list[Path | str]:
    """The images of a folder, and, at each gap in their numbers, why there is none.

    Numbers leave a gap where two neighbours lie further apart than the nearest two do. Names that
    differ in more than one number leave none.
    """
    files = image_files(folder)
    parts = [re.split(r"([0-9]+)(?=[^0-9]*$)", file.stem) for file in files]
    if len(files) < 3 or len({(tuple(part[:1]), tuple(part[2:])) for part in parts}) > 1:
        return list(files)
    if len(parts[0]) < 3:
        return list(files)
    numbers = [int(part[1]) for part in parts]
    steps = [after - before for before, after in pairwise(numbers)]
    if min(steps) < 1:
        return list(files)
    places: list[Path | str] = [files[0]]
    for step, before, file in zip(steps, files, files[1:], strict=False):
        if step > min(steps):
            places.append(f"no image between {before.name} and {file.name}")
        places.append(file)
    return places


def read_image(file: Path, checksum: int | None = None) -> Frame:
    """An image as a frame.

    Parameters
    ----------
    checksum : CRC-32 of the file, if it has to have the one that it had.

    Raises
    ------
    BadFrameError
        if it cannot be read or has changed, or its colour mode is none of `IMAGE_MODES`.
    """
    data = _content(file)
    if checksum is not None and zlib.crc32(data) != checksum:
        raise BadFrameError(f"{file}: has changed since the dataset was made")
    return _open_image(file, data)[0]


def look_at_images(
    places: Sequence[Path | str], show: Callable[[Frame], None] | None = None
) -> tuple[list[Look | str], list[int]]:
    """Read the images of a folder: what each looks like, or why it cannot be used; its CRC-32.

    Parameters
    ----------
    places : see `image_places`.
    show : called with each frame, in order.
    """
    looks: list[Look | str] = []
    checksums: list[int] = []
    for file in places:
        checksums.append(0)
        if isinstance(file, str):
            looks.append(file)
            continue
        try:
            data = _content(file)
            frame, mode = _open_image(file, data)
        except BadFrameError as error:
            looks.append(str(error).removeprefix(f"{file}: "))
            continue
        checksums[-1] = zlib.crc32(data)
        looks.append((frame.shape[0], frame.shape[1], mode))
        if show is not None:
            show(frame)
    return looks, checksums


def _content(file: Path) -> bytes:
    reason = None
    try:
        return file.read_bytes()
    except FileNotFoundError:
        reason = "is gone"
    except OSError as error:
        reason = f"not a readable image ({error_reason(error, file)})"
    # Raised out here, as below.
    raise BadFrameError(f"{file}: {reason}")


def _open_image(file: Path, data: bytes) -> tuple[Frame, str]:
    reason = None
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            if mode in IMAGE_MODES:
                return np.asarray(image.convert("RGB")), mode
            image.load()
    except Exception as error:  # Pillow's readers raise anything on damaged data
        reason = re.sub(r" ?<_io\.BytesIO object at \w+>", "", error_reason(error, file))
    # Raised out here: the decoder's exception, kept as context, may not survive the way from a
    # worker to this process.
    if reason is not None:
        raise BadFrameError(f"{file}: not a readable image ({reason})")
    raise BadFrameError(f"{file}: colour mode {mode}; 8-bit RGB or grey images are needed")


def error_reason(error: Exception, path: Path) -> str:
    """The first sentence of a library's message, without the path that we name ourselves."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.replace(repr(str(path)), "").replace(str(path), "").strip(" :")
