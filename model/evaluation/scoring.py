"""All that is measured of a prediction, as columns of a table of scores.

Protocols that need nothing are always measured; the perceptual ones where settings name them.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from model.evaluation import ffmpeg
from model.evaluation.interpolation_error import ERRORS, Middlebury, MiddleburyOther
from model.evaluation.metrics import PROTOCOLS, Pair, Protocol
from model.pixels import Image
from model.settings import EvaluationSettings
from pipeline.errors import MidframeError
from pipeline.progress import notice

if TYPE_CHECKING:  # torch takes seconds to import
    from model.network.lpips import LPIPS

ALWAYS: dict[str, Protocol | Middlebury | MiddleburyOther] = {**PROTOCOLS, **ERRORS}
PERCEPTUAL = {
    "lpips": "lpips: version 0.1, AlexNet, prediction rounded to 8 bits; mean per image "
    "(Zhang et al. 2018)",
    "xpsnr": "xpsnr: FFmpeg's filter, luma, frame by frame, prediction rounded to 8 bits; mean per "
    "image (Helmrich et al. 2020)",
    "vmaf": "vmaf: FFmpeg's filter libvmaf with its default model, frame by frame, prediction "
    "rounded to 8 bits; mean per image (Netflix)",
}


def measures_of(protocol: str) -> tuple[str, ...]:
    """Names of the measures (`model.evaluation.measures.MEASURES`) that a protocol gives."""
    return ALWAYS[protocol].measures if protocol in ALWAYS else (protocol,)


def describe(protocol: str) -> str:
    """A protocol in a sentence that begins with its name."""
    return str(ALWAYS[protocol]) if protocol in ALWAYS else PERCEPTUAL[protocol]


class Scoring:
    """What settings ask to measure.

    Attributes
    ----------
    protocols : names, in the order of the columns.
    columns : names of the columns, ``PROTOCOL_MEASURE``.
    skipped : perceptual measures that this machine cannot take, and why; they have no columns.

    Raises
    ------
    MidframeError
        if the weights of LPIPS are missing or damaged.
    """

    def __init__(self, settings: EvaluationSettings, lpips: Path | None = None) -> None:
        self.skipped: dict[str, str] = {}
        asked: list[str] = []
        for name in dict.fromkeys(settings.perceptual):
            if name != "lpips" and (why := ffmpeg.absence(name)) is not None:
                notice(f"{name} is not measured: {why}")
                self.skipped[name] = why
            else:
                asked.append(name)
        self._lpips = _load_lpips(lpips) if "lpips" in asked else None
        self.protocols = [*ALWAYS, *asked]
        self.columns = [
            f"{name}_{measure}" for name in self.protocols for measure in measures_of(name)
        ]

    def score(self, prediction: Image, target: Image) -> list[float]:
        """The numbers of one image, in the order of `columns`."""
        pair = Pair(prediction, target)
        row: list[float] = []
        for name in self.protocols:
            if name in ALWAYS:
                row += ALWAYS[name].score_pair(pair)
            elif name == "lpips" and self._lpips is not None:
                row.append(self._lpips.score(prediction, target))
            else:
                row.append(ffmpeg.score(name, prediction, target))
        return row

    def nothing(self) -> list[float]:
        """The numbers of an image that has no prediction."""
        return [math.nan] * len(self.columns)


def _load_lpips(folder: Path | None) -> "LPIPS":
    if folder is None:
        raise MidframeError(
            "lpips: name the folder of its weights with --lpips; `midframe fetch-lpips --out DIR` "
            "downloads them"
        )
    from model.network.lpips import LPIPS

    return LPIPS(folder)
