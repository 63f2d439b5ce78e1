"""Pictures between a codec's planes and RGB, exactly.

The usual converters work in fixed point and round down here and there, so that a predicted frame
would differ in brightness from its neighbours, by up to 0.75 of 255. Here the matrix arithmetic is
in float32, from codes to RGB in 0..1 and back, and rounding has no bias.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from model.video import conversion

Plane = NDArray[np.uint8] | NDArray[np.uint16]
FloatPlane = NDArray[np.float32]

FULL_RANGE = 2
# The shares of red and blue in luma, by the number of a matrix in ITU-T H.273. A file that does
# not say is taken as BT.601. So are matrices that are no weighted sum: a prediction goes there
# and comes back by the same, so that this choice is not seen.
LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
BT601 = (0.299, 0.114)
_YUV = re.compile(r"yuvj?(a?)(4[0-4][0-4])p(\d*)(?:le|be)?")
_SHIFTS = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}


@dataclass(frozen=True)
class Layout:
    """How planes hold a picture.

    Attributes
    ----------
    family : ``gray`` has no chroma; planes of ``rgb`` are green, blue, red, as FFmpeg orders them.
    bits : of a value, 8 to 16.
    across, down : chroma has one value for ``2 ** across`` by ``2 ** down`` pixels.
    alpha : whether a plane of opacity follows.
    full : whether all codes are used, as in JPEG; otherwise black is 16 and white 235 of 255.
    matrix : number of the YUV matrix in ITU-T H.273.
    """

    family: Literal["yuv", "rgb", "gray"]
    bits: int = 8
    across: int = 0
    down: int = 0
    alpha: bool = False
    full: bool = False
    matrix: int = 2

    @property
    def name(self) -> str:
        """FFmpeg's name of the pixel format with these planes."""
        depth = "" if self.bits == 8 else f"{self.bits}le"
        if self.family == "gray":
            return f"gray{depth}"
        if self.family == "rgb":
            return f"gbr{'a' * self.alpha}p{depth}"
        chroma = next(name for name, shifts in _SHIFTS.items() if shifts == self.shifts)
        return f"yuv{'a' * self.alpha}{chroma}p{depth}"

    @property
    def shifts(self) -> tuple[int, int]:
        return self.across, self.down

    @property
    def chroma(self) -> str:
        """What people call it: ``4:2:0``, ``RGB``."""
        if self.family != "yuv":
            return {"rgb": "RGB", "gray": "grey"}[self.family]
        return ":".join(next(name for name, shifts in _SHIFTS.items() if shifts == self.shifts))

    @property
    def peak(self) -> int:
        return int(2**self.bits - 1)

    @property
    def scales(self) -> tuple[float, float, float, float]:
        """Offset and factor of luma, offset and factor of chroma: code = offset + factor * value,
        luma in 0..1 and chroma in -0.5..0.5."""
        step = 2.0 ** (self.bits - 8)
        if self.family == "rgb" or self.full:
            return 0.0, float(self.peak), 128 * step, float(self.peak)
        return 16 * step, 219 * step, 128 * step, 224 * step

    def size(self, plane: int, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of a plane."""
        if self.family == "yuv" and plane in (1, 2):
            return -(-height >> self.down), -(-width >> self.across)
        return height, width


def layout_of(format: av.VideoFormat, color_range: int = 0, matrix: int = 2) -> Layout:
    """The planes that hold all that a pixel format holds.

    Formats that interleave their values have the same layout as those that do not.
    """
    alpha = any(part.is_alpha for part in format.components)
    bits = max([8, *(part.bits for part in format.components)])
    found = _YUV.fullmatch(format.name)
    if format.is_rgb or format.has_palette:
        return Layout("rgb", bits, alpha=alpha, full=True, matrix=matrix)
    if len(format.components) - alpha == 1:
        # Without a word in the file, FFmpeg takes grey to use all codes.
        full = color_range in (0, FULL_RANGE)
        return Layout("gray", bits, alpha=alpha, full=full, matrix=matrix)
    full = color_range == FULL_RANGE or format.name.startswith("yuvj")
    if found:
        across, down = _SHIFTS[found[2]]
    else:
        across = int(format.chroma_width(16) < 16) + int(format.chroma_width(16) < 8)
        down = int(format.chroma_height(16) < 16) + int(format.chroma_height(16) < 8)
    return Layout("yuv", bits, across, down, alpha, full, matrix)


def planes_of(frame: av.VideoFrame, layout: Layout) -> list[Plane]:
    """The planes of a frame, as a layout of `layout_of` names them, not copied if possible."""
    wanted = layout.name
    if layout.family == "gray" and layout.alpha:
        wanted = Layout("rgb", layout.bits, alpha=True).name
    name = frame.format.name.replace("yuvj", "yuv")
    if name != wanted:
        frame = frame.reformat(format=wanted)
    dtype = np.dtype(np.uint8 if layout.bits == 8 else "<u2")
    planes = []
    for index, plane in enumerate(frame.planes):
        codes = np.frombuffer(plane, dtype).reshape(plane.height, -1)  # type: ignore[call-overload]
        height, width = layout.size(index, frame.height, frame.width)
        planes.append(codes[:height, :width])
    if layout.family == "gray" and layout.alpha:
        return [planes[0], planes[3]]
    return planes


def frame_of(planes: Sequence[Plane], layout: Layout) -> av.VideoFrame:
    """A frame with these planes."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, layout.name)
    for codes, plane in zip(planes, frame.planes, strict=True):
        into = np.frombuffer(plane, codes.dtype).reshape(plane.height, -1)  # type: ignore[call-overload]
        into[: codes.shape[0], : codes.shape[1]] = codes
    return frame


def to_rgb(planes: Sequence[Plane | FloatPlane], layout: Layout) -> tuple[FloatPlane, bool]:
    """RGB float32 ``[H, W, 3]`` in 0..1, and whether values beyond 0..1 were clipped.

    Chroma is repeated, not interpolated, so that `from_rgb` gives it back as it was.
    """
    height, width = planes[0].shape
    out = np.empty((height, width, 3), np.float32)
    if layout.family == "rgb":
        for channel, plane in zip((1, 2, 0), planes, strict=False):
            np.multiply(plane, np.float32(1 / layout.peak), out=out[..., channel])
        return out, False
    luma_zero, luma_scale, chroma_zero, chroma_scale = layout.scales
    if layout.family == "gray":
        grey = (planes[0] - np.float32(luma_zero)) * np.float32(1 / luma_scale)
        clipped = bool(grey.min() < 0 or grey.max() > 1)
        out[...] = np.clip(grey, 0, 1)[..., None]
        return out, clipped
    red, blue = LUMA.get(layout.matrix, BT601)
    green = 1 - red - blue
    factors = np.array(
        [
            1 / luma_scale,
            2 * (1 - red) / chroma_scale,
            2 * (1 - blue) / chroma_scale,
            -2 * blue * (1 - blue) / green / chroma_scale,
            -2 * red * (1 - red) / green / chroma_scale,
        ],
        np.float32,
    )
    zeros = np.float32(luma_zero), np.float32(chroma_zero)
    luma, u_plane, v_plane = planes[:3]
    across, down = layout.shifts
    return out, bool(
        conversion.yuv_to_rgb(luma, u_plane, v_plane, across, down, *zeros, factors, out)
    )


def from_rgb(rgb: FloatPlane, layout: Layout) -> list[FloatPlane]:
    """Codes of a layout, not rounded, of RGB ``[H, W, 3]`` in 0..1; chroma is averaged."""
    height, width = rgb.shape[:2]
    luma_zero, luma_scale, chroma_zero, chroma_scale = layout.scales
    if layout.family == "rgb":
        return [rgb[..., channel] * np.float32(luma_scale) for channel in (1, 2, 0)]
    red, blue = LUMA.get(layout.matrix, BT601)
    planes = [np.zeros(layout.size(plane, height, width), np.float32) for plane in range(3)]
    factors = np.array(
        [
            red * luma_scale,
            (1 - red - blue) * luma_scale,
            blue * luma_scale,
            0.5 / (1 - blue) * chroma_scale / luma_scale,
            0.5 / (1 - red) * chroma_scale / luma_scale,
        ],
        np.float32,
    )
    zeros = np.float32(luma_zero), np.float32(chroma_zero)
    conversion.rgb_to_yuv(rgb, *layout.shifts, *zeros, np.float32(luma_scale), factors, *planes)
    return planes[:1] if layout.family == "gray" else planes


def converted(
    planes: Sequence[Plane | FloatPlane], source: Layout, target: Layout
) -> list[FloatPlane]:
    """Codes of one layout, rounded or not, in another's, not rounded; without alpha."""
    if source.family == "rgb" or target.family == "rgb":
        fine = replace(source, across=0, down=0)
        if source.family == "yuv":
            height, width = planes[0].shape
            chroma = [
                _resampled(np.asarray(plane, np.float32), source.shifts, (0, 0))[:height, :width]
                for plane in planes[1:3]
            ]
            planes = [planes[0].astype(np.float32), *map(np.ascontiguousarray, chroma)]
        return from_rgb(to_rgb(planes, fine)[0], target)
    out = []
    for index in range(1 if target.family == "gray" else 3):
        zero, scale = target.scales[2 * (index > 0) :][:2]
        shape = target.size(index, *planes[0].shape)
        if index and source.family == "gray":
            out.append(np.full(shape, zero, np.float32))
            continue
        before, step = source.scales[2 * (index > 0) :][:2]
        codes = (planes[index] - np.float32(before)) * np.float32(scale / step) + np.float32(zero)
        if index:
            codes = _resampled(codes, source.shifts, target.shifts)
            codes = np.ascontiguousarray(codes[: shape[0], : shape[1]])
        out.append(codes)
    return out


def _resampled(plane: FloatPlane, before: tuple[int, int], after: tuple[int, int]) -> FloatPlane:
    """Chroma at another resolution: averaged where it is coarser, linear where it is finer."""
    for axis, (old, new) in ((1, (before[0], after[0])), (0, (before[1], after[1]))):
        plane = np.moveaxis(plane, axis, 0)
        for _ in range(new - old):
            if len(plane) % 2:
                plane = np.concatenate([plane, plane[-1:]])
            plane = (plane[::2] + plane[1::2]) * np.float32(0.5)
        for _ in range(old - new):
            ends = np.concatenate([plane[:1], plane, plane[-1:]])
            finer = np.empty((2 * len(plane), *plane.shape[1:]), np.float32)
            finer[::2] = np.float32(0.75) * plane + np.float32(0.25) * ends[:-2]
            finer[1::2] = np.float32(0.75) * plane + np.float32(0.25) * ends[2:]
            plane = finer
        plane = np.moveaxis(plane, 0, axis)
    return plane


def rounded(plane: FloatPlane, bits: int) -> Plane:
    """Codes of so many bits, without a bias: halves go up and down in turn, like a chessboard."""
    out = np.empty(plane.shape, np.uint8 if bits == 8 else np.uint16)
    conversion.to_whole(np.ascontiguousarray(plane), np.float32(2**bits - 1), out)
    return out


def padded(plane: Plane, shape: tuple[int, int]) -> Plane:
    """A plane that is made larger by repeating its last row and column."""
    more = [(0, new - old) for new, old in zip(shape, plane.shape, strict=True)]
    if not any(after for _, after in more):
        return plane
    wider: Plane = np.pad(plane, more, mode="edge")  # type: ignore[assignment]
    return wider
