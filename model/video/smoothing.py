"""A video at a whole multiple of its frame rate.

Frames are decoded, interpolated and encoded one after another, so memory does not grow with the
length of the video.
"""

from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from model.pixels import quantise
from model.settings import VideoSettings
from model.video.files import VideoSource, to_rgb
from model.video.interpolation import Predictor, complete_or_nothing
from model.video.writer import CONTAINERS, VideoTarget
from pipeline.errors import MidframeError
from pipeline.frames.sequences import Frame
from pipeline.progress import notice, progress
from pipeline.selection.passing_cuts import with_cuts

HALVED = (2, 4, 8)


def interpolate_video(
    source: Path,
    target: Path,
    predictor: Predictor,
    times: int = 2,
    settings: VideoSettings | None = None,
) -> None:
    """Write ``source`` at ``times`` its frame rate to ``target``.

    Between two frames ``times - 1`` new ones are put at even distances in time, for 2, 4 and 8 by
    halving intervals, otherwise by asking the predictor for those times; of ``n`` frames
    ``times * (n - 1) + 1`` are made, and the last one stays for its full time. The source's own
    frames keep their times and pass to the encoder as they were decoded. Across a jump cut the
    nearer frame is repeated, and so are equal frames. Sound is copied without being decoded.

    Parameters
    ----------
    source : a video file.
    target : .mp4, .m4v, .mov or .mkv; what has that name is replaced when the new file is whole.
    predictor : see `model.video.interpolation.load_predictor`.
    times : 2 or more; a network makes other than 2, 4 and 8 times at the nearest halved positions.

    Raises
    ------
    MidframeError
        if the source is no video of at least two frames, or the target cannot be written.
    """
    settings = settings or VideoSettings()
    if times < 2:
        raise MidframeError(f"times: must be 2 or more, not {times}")
    check_paths(source, target)
    with complete_or_nothing(target) as partial, VideoSource(source) as video:
        properties = video.properties
        with VideoTarget(
            partial, target, properties, video.sounds, times, settings.crf, settings.preset
        ) as output:
            count = _interpolate(video, output, predictor, times, settings)
        if count < 2:
            raise MidframeError(f"{source}: has one frame, but two are needed")
    notice(f"{target}: {times * (count - 1) + 1} frames from the {count} of {source}")


def _interpolate(
    video: VideoSource,
    output: VideoTarget,
    predictor: Predictor,
    times: int,
    settings: VideoSettings,
) -> int:
    """Pass a video through; the number of frames read."""
    previous: Decoded | None = None
    count = gap = 0
    cut = False
    label, total = f"interpolate {video.path.name}", video.properties.frame_count
    decoded = _decode(progress(video.read(output.copy), total, label, "frames"))
    method, threshold = settings.cut_method, settings.chosen_cut_threshold
    for now, cut_follows in with_cuts(decoded, attrgetter("rgb"), method, threshold):
        if previous is not None:
            gap = now.pts - previous.pts
            start = previous.pts * times
            output.write_decoded(previous.frame, start, gap)
            if cut or np.array_equal(previous.rgb, now.rgb):
                for k in range(1, times):
                    nearer = previous if 2 * k <= times else now
                    output.write_decoded(nearer.frame, start + k * gap, gap)
            else:
                middles = _between(predictor, previous.rgb, now.rgb, times)
                for k, middle in enumerate(middles, start=1):
                    output.write_rgb(middle, start + k * gap, gap)
        previous, cut = now, cut_follows
        count += 1
    if previous is not None:
        # The file ends when the source does: its last frame stays as long as it did there.
        output.write_decoded(previous.frame, previous.pts * times, gap * times)
    return count


class Decoded(NamedTuple):
    """A decoded frame, its picture, and its time in units of the stream's time base.

    The time is kept apart from the frame, whose own is overwritten when it is written.
    """

    frame: av.VideoFrame
    rgb: Frame
    pts: int


def _decode(frames: Iterable[av.VideoFrame]) -> Iterator[Decoded]:
    for frame in frames:
        assert frame.pts is not None  # VideoSource gives every frame a time
        yield Decoded(frame, to_rgb(frame), frame.pts)


def _between(predictor: Predictor, first: Frame, third: Frame, times: int) -> Iterator[Frame]:
    """Yield ``times - 1`` frames between two, in order of time."""
    if times == 1:
        return
    if times not in HALVED:
        for k in range(1, times):
            yield quantise(predictor(first, third, k / times), "round")
        return
    middle = quantise(predictor(first, third), "round")
    yield from _between(predictor, first, middle, times // 2)
    yield middle
    yield from _between(predictor, middle, third, times // 2)


def check_paths(source: Path, target: Path) -> None:
    """Raise `MidframeError` if ``source`` is missing or ``target`` cannot be its output."""
    if not source.is_file():
        raise MidframeError(f"{source}: no such video file")
    if target.suffix.lower() not in CONTAINERS:
        raise MidframeError(
            f"{target}: a video is written as {', '.join(CONTAINERS)}; choose one of these names"
        )
    if target.is_dir():
        raise MidframeError(f"{target}: is a folder; the name of a video file is needed")
    if target.exists() and target.samefile(source):
        raise MidframeError(f"{target}: is the input; choose another name for the output")
