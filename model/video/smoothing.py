"""A video, or a folder of images, at a higher frame rate.

Frames are decoded, predicted and encoded side by side, and few are held at a time, so memory does
not grow with the length of the video.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import Any

import av

from model.settings import VideoSettings
from model.video.ahead import ahead
from model.video.codecs import CONTAINERS, check_container, choose_format
from model.video.files import VideoSource
from model.video.images import ImageSource, png_format, write_png
from model.video.interpolation import Predictor, complete_or_nothing
from model.video.parts import PacketFile, Part, Parts, parts_of, read_packets, source_identity
from model.video.pictures import Picture, between
from model.video.properties import DEFAULT_RATE, Source, VideoProperties
from model.video.schedule import Interval, Rate, Times, intervals
from model.video.streams import Companions, missing
from model.video.writer import Encoder, Writing, loses_mastering, write_file
from pipeline.errors import MidframeError
from pipeline.progress import notice, progress
from pipeline.selection.passing_cuts import with_cuts

# Frames that are decoded, and intervals that are predicted, before they are asked for.
DECODED, PREDICTED = 4, 2


@dataclass(frozen=True)
class Step:
    """What is made of one interval: frames, each with its time and duration in the new time base.

    ``index`` is the number of the source's frame that it begins with, ``read`` counts it and its
    repeats; ``last`` says that the source ends here.
    """

    index: int
    read: int
    frames: list[tuple[av.VideoFrame, int, int]]
    last: bool


def interpolate_video(
    source: Path,
    target: Path,
    predictor: Predictor,
    times: int = 2,
    settings: VideoSettings | None = None,
    *,
    rate: Fraction | None = None,
    image_rate: Fraction = DEFAULT_RATE,
    identity: Any | None = None,
) -> str:
    """Write ``source`` at a higher frame rate to ``target``.

    Between two frames ``times - 1`` new ones are put at even distances in time; of ``n`` frames
    ``times * (n - 1) + 1`` are made, and the last one stays for its full time. The source's own
    frames keep their times and their pixels. With ``rate``, the new video has so many frames a
    second instead, and only those of the source that fall on one of its times. Across a jump cut
    the nearer frame is repeated, and so are equal frames. Other streams are copied.

    Parameters
    ----------
    source : a video file, or a folder of images.
    target : .mp4, .m4v, .mov, .mkv or .webm; or a name without suffix, for a folder of PNG files.
        What has that name is replaced when the new file is whole; a folder must be new.
    predictor : see `model.video.interpolation.load_predictor`.
    times : 2 or more; a network makes other than 2, 4 and 8 times at the nearest halved positions.
    image_rate : frames a second of a folder of images.
    identity : JSON value that tells the predictor from others. With it, what a killed run has made
        stays beside ``target``, and the next one goes on.

    Returns
    -------
    One line that says what was made.

    Raises
    ------
    MidframeError
        if the source is no video of at least two frames, or the target cannot be written.
    """
    settings = settings or VideoSettings()
    check_paths(source, target, settings)
    if identity is not None:
        # What only says when to stop does not change what is made.
        asked = settings.model_dump(mode="json", exclude={"on_bad_frame"})
        identity = [identity, asked, times, str(rate), str(image_rate), source_identity(source)]
    video: Source
    is_folder = source.is_dir()
    video = ImageSource(source, image_rate) if is_folder else VideoSource(source, settings)
    with closing(video), parts_of(target, identity) as parts:
        properties = video.properties
        plan = (
            Times(times, properties.time_base, properties.rate)
            if rate is None
            else Rate(rate, properties.time_base)
        )
        writing = _writing(properties, plan, settings, target)
        start = video.start if isinstance(video, VideoSource) else Fraction(0)
        companions = Companions(None if is_folder else source, start, target)
        with closing(companions):
            said = _announce(video, target, writing, companions, parts)
            done = _make(video, parts, writing, plan, predictor, settings, is_images(target))
            for note in [*video.notes, *done[-1].notes]:
                if note not in said:
                    said.append(note)
                    notice(f"{source}: {note}")
            if sum(part.read for part in done) < 2:
                raise MidframeError(f"{source}: has one frame, but two are needed")
            if is_images(target):
                _join_images(parts, len(done), target)
            else:
                _join(parts, len(done), target, writing, companions)
    if not is_folder and not is_images(target):
        for one in missing(source, target):
            notice(f"{target}: not kept: {one}")
    made, read = sum(part.made for part in done), sum(part.read for part in done)
    return f"{target}: {made} frames from the {read} of {source}"


def _writing(
    properties: VideoProperties, plan: Times | Rate, settings: VideoSettings, target: Path
) -> Writing:
    made = (
        png_format(properties)
        if is_images(target)
        else choose_format(
            settings,
            target.suffix.lower(),
            properties.layout,
            properties.width,
            properties.height,
            coarse=properties.codec == "gif",
        )
    )
    return Writing(properties, made, plan.time_base, plan.rate)


def _announce(
    video: Source, target: Path, writing: Writing, companions: Companions, parts: Parts
) -> list[str]:
    """Say what will not be as in the source, before the work begins; the lines about the source.

    The new file's head is written for a trial, so that a stream that does not fit is known.
    """
    lost = [*video.properties.lost]
    if is_images(target):
        if not isinstance(video, ImageSource):
            lost.append("sound and all else beside the pictures")
    else:
        trial = parts.folder / f"trial{target.suffix}"
        write_file(trial, target, writing, companions, [])
        trial.unlink()
        lost += companions.lost
        if loses_mastering(writing.format, video.properties.mastering):
            lost.append("the mastering display's metadata, for which this encoder has no option")
    if video.properties.display_matrix is not None and not is_images(target):
        notice(f"{target}: turned by its player, as {video.path} is")
    for change in writing.format.changes:
        notice(f"{target}: {change}")
    for one in lost:
        notice(f"{target}: not kept: {one}")
    for note in video.notes:
        notice(f"{video.path}: {note}")
    return [*video.notes]


def _make(
    video: Source,
    parts: Parts,
    writing: Writing,
    plan: Times | Rate,
    predictor: Predictor,
    settings: VideoSettings,
    as_images: bool,
) -> list[Part]:
    """Make the parts that are not there yet; all of them."""
    done = parts.whole()
    if done and done[-1].last:
        return done
    length = max(round(video.properties.rate * Fraction(settings.segment_minutes) * 60), 1)
    begin = done[-1].following if done else 0
    if begin:
        notice(f"{video.path}: going on at frame {begin}, {len(done)} parts are there")
    pictures = (
        Picture(frame, index, writing)
        for index, frame in enumerate(ahead(video.read(), DECODED, "decode"))
    )
    ways = intervals(_marked(pictures, settings), settings.duplicates == "replace")
    steps = ahead(_steps(ways, begin, plan, predictor, writing, settings), PREDICTED, "predict")
    left = max(video.properties.frame_count - begin, 0)
    label = f"interpolate {video.path.name}"
    kind = _ImagePart if as_images else _VideoPart
    with closing(steps):
        shown = progress(steps, left, label, "frames", lambda step: step.read)
        upcoming = next(shown, None)
        while upcoming is not None:
            number = len(done)
            bound = (upcoming.index // length + 1) * length
            made = read = 0
            path = parts.path(number)
            with closing(kind(path, writing)) as part:
                while upcoming is not None and upcoming.index < bound:
                    for frame, pts, duration in upcoming.frames:
                        part.write(frame, pts, duration)
                    made, read = made + len(upcoming.frames), read + upcoming.read
                    following, last = upcoming.index + upcoming.read, upcoming.last
                    upcoming = next(shown, None)
                part.finish()
            notes = tuple(video.notes) if last else ()
            done.append(Part(made, read, following, last, notes))
            parts.publish(number, done[-1])
    if not done:
        raise MidframeError(f"{video.path}: holds no frame that can be decoded")
    return done


def _steps(
    ways: Iterable[Interval],
    begin: int,
    plan: Times | Rate,
    predictor: Predictor,
    writing: Writing,
    settings: VideoSettings,
) -> Iterator[Step]:
    """Make the frames of each interval from a frame of the source on."""
    for way in ways:
        if way.first.index < begin:
            continue
        instants = list(plan.instants(way))
        third = way.second
        moves = third is not None and any(0 < instant.time < 1 for instant in instants)
        if moves and third is not None:
            moves = not (way.cut or way.first.equals(third))
        frames = []
        for instant in instants:
            if third is not None and moves and 0 < instant.time < 1:
                frame = between(predictor, way.first, third, float(instant.time), writing)
            elif third is not None and 2 * instant.time > 1:
                frame = third.written()
            else:
                frame = way.first.written()
            frames.append((frame, instant.pts, instant.duration))
        yield Step(way.first.index, len(way.times) - 1, frames, third is None)


def _marked(pictures: Iterable[Picture], settings: VideoSettings) -> Iterator[Picture]:
    """The pictures, each told whether a jump cut follows it."""
    method, threshold = settings.cut_method, settings.chosen_cut_threshold
    for picture, cut in with_cuts(pictures, attrgetter("levels"), method, threshold):
        picture.cut_follows = cut
        yield picture


class _VideoPart:
    """A part of a video: its frames encoded, by an encoder of its own."""

    def __init__(self, path: Path, writing: Writing) -> None:
        self._file, self._encoder = PacketFile(path), Encoder(writing, path)

    def write(self, frame: av.VideoFrame, pts: int, duration: int) -> None:
        """Append a frame."""
        self._file.write(self._encoder.encode(frame, pts, duration))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._file.write(self._encoder.finish())

    def close(self) -> None:
        self._file.close()


class _ImagePart:
    """A part that is a folder of images, numbered by their times."""

    def __init__(self, path: Path, writing: Writing) -> None:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        self._path, self._layout = path, writing.format.layout

    def write(self, frame: av.VideoFrame, pts: int, duration: int) -> None:
        """Write an image."""
        write_png(self._path / f"{pts:012}.png", frame, self._layout)

    def finish(self) -> None:
        """Every image is whole already."""

    def close(self) -> None:
        """Nothing is open."""


def _join(parts: Parts, count: int, target: Path, writing: Writing, companions: Companions) -> None:
    packets = (one for number in range(count) for one in read_packets(parts.path(number)))
    with complete_or_nothing(target) as partial:
        write_file(partial, target, writing, companions, packets)


def _join_images(parts: Parts, count: int, target: Path) -> None:
    whole = parts.folder / "whole"
    whole.mkdir(exist_ok=True)
    number = len(list(whole.iterdir()))
    for part in range(count):
        for image in sorted(parts.path(part).iterdir()):
            os.replace(image, whole / f"{number:08}.png")
            number += 1
    if target.is_dir():
        target.rmdir()
    os.replace(whole, target)


def is_images(target: Path) -> bool:
    """Whether a name is that of a folder of images."""
    return not target.suffix


def check_paths(source: Path, target: Path, settings: VideoSettings | None = None) -> None:
    """Raise `MidframeError` if ``source`` is missing or ``target`` cannot be its output."""
    settings = settings or VideoSettings()
    if not source.exists():
        raise MidframeError(f"{source}: no such video file")
    if is_images(target):
        if target.is_file() or (target.is_dir() and any(target.iterdir())):
            raise MidframeError(f"{target}: is there already; name a new folder for the images")
        return
    if target.suffix.lower() not in CONTAINERS:
        raise MidframeError(
            f"{target}: a video is written as {', '.join(CONTAINERS)}; choose one of these names, "
            "or one without a dot for a folder of images"
        )
    try:
        check_container(settings.codec, target.suffix.lower())
    except MidframeError as error:
        raise MidframeError(f"{target}: {error}") from None
    if target.is_dir():
        raise MidframeError(f"{target}: is a folder; the name of a video file is needed")
    if target.exists() and target.samefile(source):
        raise MidframeError(f"{target}: is the input; choose another name for the output")
