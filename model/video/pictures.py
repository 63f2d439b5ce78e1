"""Frames of the new video: the source's own, and those predicted between them.

Both take the same way: planes of the source's layout, in codes, become planes of the new video's by
the same arithmetic. So a frame that nothing moves in looks like its neighbours, to the level.
"""

from functools import cached_property

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from model.video.interpolation import Predictor
from model.video.planes import FloatPlane, Plane, converted, from_rgb, planes_of, rounded, to_rgb
from model.video.writer import Writing, dressed


class Picture:
    """A frame of the source, and what is made of it when it is asked for.

    Attributes
    ----------
    frame : as it was decoded.
    index : its number in the source.
    pts, duration : in units of the source's time base; a duration of 0 is not known.
    cut_follows : whether a jump cut lies between it and the next one.
    """

    cut_follows = False

    def __init__(self, frame: av.VideoFrame, index: int, writing: Writing) -> None:
        assert frame.pts is not None  # a source gives every frame a time
        self.frame, self.index, self._writing = frame, index, writing
        self.pts, self.duration = frame.pts, frame.duration or 0

    @cached_property
    def planes(self) -> list[Plane]:
        """Its planes in the source's layout, alpha last."""
        return planes_of(self.frame, self._writing.properties.layout)

    @cached_property
    def _seen(self) -> tuple[FloatPlane, bool]:
        return to_rgb(self.planes, self._writing.properties.layout)

    @property
    def rgb(self) -> FloatPlane:
        """RGB float32 ``[H, W, 3]`` in 0..1, as predictors see it."""
        return self._seen[0]

    @cached_property
    def unseen(self) -> list[FloatPlane] | None:
        """What of its codes predictors do not see, since it lies beyond 0..1; ``None``: nothing."""
        if not self._seen[1]:
            return None
        back = from_rgb(self.rgb, self._writing.properties.layout)
        return [codes - plane for codes, plane in zip(self.planes, back, strict=False)]

    @cached_property
    def levels(self) -> NDArray[np.uint8]:
        """RGB uint8 ``[H, W, 3]``, to compare frames by."""
        # Not by way of `rgb`: pictures that wait to be compared shall not hold four times as much.
        rgb, _ = to_rgb(self.planes, self._writing.properties.layout)
        return np.asarray(cv2.convertScaleAbs(rgb, alpha=255), np.uint8)

    def equals(self, other: "Picture") -> bool:
        """Whether the two show the same, to the bit."""
        return all(
            np.array_equal(one, two) for one, two in zip(self.planes, other.planes, strict=True)
        )

    def written(self) -> av.VideoFrame:
        """The frame that the encoder gets: as it was decoded, where that is what it takes."""
        made = self._writing.format
        same = self.frame.format.name == made.pix_fmt
        if same and (self.frame.height, self.frame.width) == (made.height, made.width):
            for name, value in self._writing.colours.items():
                setattr(self.frame, name, value)
            return self.frame
        return _written(self.planes, self._writing)


def between(
    predictor: Predictor, first: Picture, third: Picture, time: float, writing: Writing
) -> av.VideoFrame:
    """The frame that the encoder gets for a ``time`` between two, 0 < time < 1.

    What predictors do not see, blacker than black and whiter than white, is blended.
    """
    layout = writing.properties.layout
    made = np.asarray(_ask(predictor, first.rgb, third.rgb, time), np.float32)
    planes: list[Plane | FloatPlane] = [*from_rgb(np.ascontiguousarray(made), layout)]
    for picture, weight in ((first, 1 - time), (third, time)):
        if picture.unseen is not None:
            planes = [
                plane + np.float32(weight) * rest
                for plane, rest in zip(planes, picture.unseen, strict=True)
            ]
    if layout.alpha:
        planes.append(_opacity(predictor, first.planes[-1], third.planes[-1], time, layout.peak))
    return _written(planes, writing)


def _opacity(
    predictor: Predictor, first: Plane, third: Plane, time: float, peak: int
) -> Plane | FloatPlane:
    """Opacity between two frames, predicted as a grey picture is."""
    if np.array_equal(first, third):
        return first
    greys = [
        np.repeat((plane * np.float32(1 / peak))[..., None], 3, axis=2) for plane in (first, third)
    ]
    return np.asarray(_ask(predictor, greys[0], greys[1], time)[..., 0] * np.float32(peak))


def _ask(predictor: Predictor, first: FloatPlane, third: FloatPlane, time: float) -> FloatPlane:
    return predictor(first, third) if time == 0.5 else predictor(first, third, time)


def _written(planes: "list[Plane | FloatPlane] | list[Plane]", writing: Writing) -> av.VideoFrame:
    source, target = writing.properties.layout, writing.format.layout
    colours = planes[: len(planes) - source.alpha]
    if source.name != target.name or source.full != target.full:
        codes: list[Plane | FloatPlane] = [*converted(colours, source, target)]
    else:
        codes = list(colours)
    if target.alpha:
        codes.append(planes[-1] * np.float32(target.peak / source.peak))
    return dressed([_whole(plane, target.bits) for plane in codes], writing)


def _whole(plane: Plane | FloatPlane, bits: int) -> Plane:
    if plane.dtype == np.float32:
        return rounded(np.asarray(plane, np.float32), bits)
    return plane  # type: ignore[return-value]
