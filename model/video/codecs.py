"""Which encoder writes a video, with which pixels, into which files."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import av

from model.settings import HARDWARE, VideoSettings
from model.video.planes import Layout, layout_of
from pipeline.errors import MidframeError
from pipeline.processor import has_avx512

# The names that a file may have, and FFmpeg's name of what it is then.
CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
BT709 = 1


@dataclass(frozen=True)
class Codec:
    """How one codec is written.

    Attributes
    ----------
    encoder : FFmpeg's name of the encoder.
    suffixes : of the files that hold it.
    crf : the quality that is used if none is asked for.
    alpha : the files in which it keeps opacity, which an encoder's pixel formats do not tell.
    exact : whether RGB is kept as RGB.
    options : of a quality and a preset of the settings.
    """

    encoder: str
    suffixes: tuple[str, ...]
    crf: int
    options: Callable[[int, str], dict[str, str]]
    alpha: tuple[str, ...] = ()
    exact: bool = False


SPEEDS = {"ultrafast": 0, "veryfast": 1, "fast": 2, "medium": 3, "slow": 4, "veryslow": 5}
MOST = (".mp4", ".m4v", ".mov", ".mkv")


def _x264(crf: int, preset: str) -> dict[str, str]:
    # Its macroblock tree in AVX-512 does not always give the same bytes twice; in AVX2 it does.
    exact = {"x264-params": "asm=avx2"} if has_avx512() else {}
    return {"crf": str(crf), "preset": preset, **exact}


def _x265(crf: int, preset: str) -> dict[str, str]:
    # A fixed number of frames at once: what is written does not depend on the machine's cores.
    return {"crf": str(crf), "preset": preset, "x265-params": "log-level=error:frame-threads=2"}


def _av1(crf: int, preset: str) -> dict[str, str]:
    return {"crf": str(crf), "preset": str(12 - 2 * SPEEDS[preset])}


def _vp9(crf: int, preset: str) -> dict[str, str]:
    speed = str(5 - SPEEDS[preset])
    # Frames out of order, which libvpx makes by default, cannot have opacity.
    return {"crf": str(crf), "b": "0", "cpu-used": speed, "row-mt": "1", "auto-alt-ref": "0"}


def _prores(crf: int, preset: str) -> dict[str, str]:
    return {"vendor": "apl0"}


def _ffv1(crf: int, preset: str) -> dict[str, str]:
    return {"level": "3", "slicecrc": "1", "g": "1"}


CODECS = {
    "h264": Codec("libx264", MOST, 18, _x264),
    "hevc": Codec("libx265", MOST, 20, _x265),
    "av1": Codec("libsvtav1", (".mp4", ".m4v", ".mkv", ".webm"), 24, _av1),
    "vp9": Codec("libvpx-vp9", (".webm", ".mkv", ".mp4", ".m4v"), 24, _vp9, (".webm", ".mkv")),
    "prores": Codec("prores_ks", (".mov", ".mkv"), 0, _prores, (".mov", ".mkv")),
    "ffv1": Codec("ffv1", (".mkv",), 0, _ffv1, (".mkv",), exact=True),
}


def _by_hardware(name: str) -> Codec:
    family, _, maker = name.partition("_")
    quality = {"nvenc": "cq", "qsv": "global_quality", "amf": "qp_i", "videotoolbox": "q:v"}[maker]

    def options(crf: int, preset: str) -> dict[str, str]:
        return {quality: str(100 - 2 * crf if maker == "videotoolbox" else crf)}

    known = CODECS[family]
    return Codec(name, known.suffixes, 20, options)


def codec_named(name: str) -> Codec:
    """A codec of the settings."""
    return _by_hardware(name) if name in HARDWARE else CODECS[name]


@dataclass(frozen=True)
class OutputFormat:
    """What is written: the one description that the encoder and the container are set by.

    Attributes
    ----------
    encoder, options : FFmpeg's.
    layout : of the planes that predictions are turned into.
    pix_fmt : the encoder's own name for it, which may interleave them.
    width, height : in pixels, one more than the source's where the codec needs even sides.
    changes : what is not as in the source, each half a sentence.
    """

    encoder: str
    options: dict[str, str]
    layout: Layout
    pix_fmt: str
    width: int
    height: int
    changes: tuple[str, ...]


def check_container(codec: str, suffix: str) -> None:
    """Raise `MidframeError` unless a file of this name can hold the codec."""
    if suffix not in codec_named(codec).suffixes:
        fitting = [name for name, one in CODECS.items() if suffix in one.suffixes]
        names = ", ".join(codec_named(codec).suffixes)
        raise MidframeError(
            f"a {suffix} file cannot hold {codec}; choose --codec {' or '.join(fitting)}, or a "
            f"name in {names}"
        )


def choose_format(
    settings: VideoSettings,
    suffix: str,
    source: Layout,
    width: int,
    height: int,
    coarse: bool = False,
) -> OutputFormat:
    """What the codec of the settings keeps of a source's pixels.

    Parameters
    ----------
    suffix : of the file to write.
    source : the layout of its pictures.
    coarse : whether RGB is written as 4:2:0 all the same, because the source has a palette.

    Raises
    ------
    MidframeError
        if this FFmpeg has no such encoder.
    """
    codec = codec_named(settings.codec)
    wanted = source
    if source.family == "rgb" and not codec.exact:
        wanted = replace(source, family="yuv", full=False, matrix=BT709)
        if coarse:
            wanted = replace(wanted, across=1, down=1)
    if source.family == "gray" and not codec.exact:
        wanted = replace(source, family="yuv", across=1, down=1)
    if suffix not in codec.alpha:
        wanted = replace(wanted, alpha=False)
    offered = [one for one in offers(codec.encoder) if one[1].family == wanted.family]
    if not offered:
        raise MidframeError(f"--codec {settings.codec}: this FFmpeg has no encoder {codec.encoder}")
    pix_fmt, found = min(offered, key=lambda one: _loss(wanted, one[1]))
    layout = replace(found, full=wanted.full, matrix=wanted.matrix)
    crf = codec.crf if settings.crf is None else settings.crf
    options = codec.options(crf, settings.preset)
    if settings.codec == "prores":
        options["profile"] = "4" if layout.across == 0 else "3"
    wide, high = width, height
    if codec.encoder != "ffv1" and layout.family == "yuv":
        wide += -width % (1 << layout.across)
        high += -height % (1 << layout.down)
    changes = []
    if source.family == "rgb" and layout.family == "yuv":
        changes.append(f"RGB becomes YUV {layout.chroma} (BT.709)")
    elif source.family == "yuv" and layout.shifts != source.shifts:
        changes.append(f"chroma {source.chroma} becomes {layout.chroma}")
    if layout.bits < source.bits:
        changes.append(f"{source.bits} bits become {layout.bits}")
    if source.alpha and not layout.alpha:
        changes.append("opacity is dropped")
    if (wide, high) != (width, height):
        changes.append(f"{width}x{height} becomes {wide}x{high}, its last pixels repeated")
    return OutputFormat(codec.encoder, options, layout, pix_fmt, wide, high, tuple(changes))


@lru_cache
def offers(encoder: str) -> tuple[tuple[str, Layout], ...]:
    """The pixel formats that an encoder takes, with what they hold; none if it is not there."""
    try:
        formats = av.codec.Codec(encoder, "w").video_formats or []
    except av.codec.codec.UnknownCodecError:
        return ()
    # Of ranges, floats and orders that we do not make; and what libvpx lists but does not take.
    skipped = ["yuvj", "msb", "f16", "f32", "x2"]
    if encoder == "libvpx-vp9":
        skipped += ["yuva422p", "yuva444p"]
    return tuple(
        (one.name, layout_of(one))
        for one in formats
        if not any(part in one.name for part in skipped) and len(one.components)
    )


def _loss(wanted: Layout, offered: Layout) -> tuple[float, ...]:
    """What an encoder's pixel format loses, worst first, and then what it has too much."""
    coarser = max(offered.across - wanted.across, 0) + max(offered.down - wanted.down, 0)
    finer = max(wanted.across - offered.across, 0) + max(wanted.down - offered.down, 0)
    bits = wanted.bits - offered.bits
    return (
        int(wanted.alpha and not offered.alpha),
        # Chroma at half the resolution is seen less than the steps of 8 bits.
        max(bits, 0) + 1.5 * coarser,
        int(offered.alpha and not wanted.alpha),
        finer,
        max(-bits, 0),
    )
