"""What ``interpolate`` does with its arguments: one video or several, folders, or two images."""

import argparse
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, get_args

from model.settings import WITHOUT_WEIGHTS, VideoCodec, VideoSettings
from model.video.codecs import CONTAINERS
from model.video.interpolation import interpolate_images, load_predictor
from model.video.smoothing import check_paths, interpolate_video
from pipeline.errors import MidframeError
from pipeline.frames.decoding import IMAGE_SUFFIXES
from pipeline.progress import notice
from pipeline.provenance import file_digest
from pipeline.settings import load

# Names that people give to rates that are fractions.
FRACTIONS = {
    "23.976": Fraction(24000, 1001),
    "23.98": Fraction(24000, 1001),
    "29.97": Fraction(30000, 1001),
    "47.952": Fraction(48000, 1001),
    "59.94": Fraction(60000, 1001),
    "119.88": Fraction(120000, 1001),
}


def parse_rate(text: str) -> Fraction:
    """Frames a second: ``60``, ``60000/1001``, or ``59.94``, which means that fraction.

    Raises
    ------
    MidframeError
        if it is no number above 0.
    """
    try:
        rate = FRACTIONS.get(text) or Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise MidframeError(f"{text}: no rate; give 60, 60000/1001 or 59.94") from None
    if rate <= 0:
        raise MidframeError(f"{text}: a rate is above 0")
    return rate


def interpolate(arguments: argparse.Namespace) -> None:
    """Run the command.

    Raises
    ------
    MidframeError
        if arguments do not fit together, or an input cannot be done; of several inputs, the others
        are done first.
    """
    settings: VideoSettings = load(VideoSettings, arguments.settings)
    if arguments.codec is not None:
        if arguments.codec not in (known := get_args(VideoCodec)):
            raise MidframeError(f"--codec {arguments.codec}: there are {', '.join(known)}")
        settings = VideoSettings.model_validate({**settings.model_dump(), "codec": arguments.codec})
    rate = None if arguments.rate is None else parse_rate(arguments.rate)
    if rate is not None and arguments.times is not None:
        raise MidframeError("--times, --rate: give one of them")
    if arguments.between == "flow" and arguments.model in WITHOUT_WEIGHTS:
        raise MidframeError(f"--between: for weights only; {arguments.model} knows any time")
    pairs = _pairs(arguments.paths, arguments.out)
    if pairs is None:
        first, third, target = arguments.paths
        if rate is not None or arguments.times not in (None, 2):
            option = "--times" if rate is None else "--rate"
            raise MidframeError(f"{option}: for videos only; two images give one between them")
        predictor = load_predictor(
            arguments.model, arguments.device, settings.tile_pixels, precision=settings.precision
        )
        interpolate_images(first, third, target, predictor)
        return
    for source, target in pairs:
        check_paths(source, target, settings)
    predictor = load_predictor(
        arguments.model,
        arguments.device,
        settings.tile_pixels,
        arguments.between,
        settings.precision,
    )
    make = partial(
        interpolate_video,
        predictor=predictor,
        times=arguments.times or 2,
        settings=settings,
        rate=rate,
        image_rate=parse_rate(arguments.image_rate),
        identity=_identity(arguments.model, arguments.between, arguments.device),
    )
    _each(pairs, make)


def _each(pairs: list[tuple[Path, Path]], make: Callable[..., str]) -> None:
    """Do each input, then say one line of each; an input that fails does not stop the others."""
    if len(pairs) == 1:
        notice(make(*pairs[0]))
        return
    lines, failed = [], 0
    for source, target in pairs:
        try:
            lines.append(make(source, target))
        except MidframeError as error:
            failed += 1
            lines.append(f"not done: {error}")
    for line in lines:
        notice(line)
    if failed:
        raise MidframeError(f"{failed} of {len(pairs)} inputs are not done; the reasons are above")


def _pairs(paths: list[Path], out: Path | None) -> list[tuple[Path, Path]] | None:
    """Each input with its output; ``None`` for two images and the image between them."""
    if out is not None:
        if out.suffix.lower() in CONTAINERS:
            raise MidframeError(
                f"--out {out}: is the folder for what is made of each input; for one video give "
                f"IN {out} without --out"
            )
        targets = [out / (path.name if path.is_dir() else _named(path)) for path in paths]
        for target in targets:
            if targets.count(target) > 1:
                raise MidframeError(f"{target}: two inputs would be written there; rename one")
        return list(zip(paths, targets, strict=True))
    if len(paths) == 2:
        return [(paths[0], paths[1])]
    if len(paths) == 3 and all(path.suffix.lower() in IMAGE_SUFFIXES for path in paths[:2]):
        return None
    raise MidframeError(
        "interpolate: give IN and OUT, or two images and OUT, or any number of inputs and --out"
    )


def _named(path: Path) -> str:
    return path.name if path.suffix.lower() in CONTAINERS else f"{path.stem}.mkv"


def _identity(model: str, between: str, device: str) -> Any:
    return [model if model in WITHOUT_WEIGHTS else file_digest(Path(model)), between, device]
