"""Settings of the data stages: the only source of their defaults, types, units and ranges.

`Settings` is the base of every settings class of the project. An unknown key is an error that
names the nearest known one, and every error gives the path of the key and what is allowed.
"""

import difflib
import json
import os
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from pipeline.errors import MidframeError
from pipeline.reading import explain

# Chosen on made footage: seeds 0 and 1 of benchmarks/bench_jump_cuts.py.
DEFAULT_FLOW_CUT_THRESHOLD = 1.8

CutMethod = Literal["histogram", "flow"]

SettingsType = TypeVar("SettingsType", bound="Settings")


# How a wrong value is quoted: a few lines of YAML can stand for more than fits into memory.
_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = _QUOTE.maxlong = 200


class Settings(BaseModel):
    """Base of all settings: frozen, documented by their fields, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = list(cls.model_fields)
            for key in data:
                if key not in known:
                    shown = _shown(key)
                    nearest = difflib.get_close_matches(shown, known, n=1, cutoff=0.5)
                    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key '{key}'; {hint}known keys: {known}",
                        {"key": shown, "hint": hint, "known": ", ".join(known)},
                    )
        return data


def validate(cls: type[SettingsType], data: Any, source: str) -> SettingsType:
    """Make settings of class ``cls`` from plain data.

    Raises
    ------
    MidframeError
        with one line for each wrong key: ``source``, the key's path, what is allowed, what was
        given.
    """
    try:
        settings = cls.model_validate(data)
        # Texts become names and contents of files, where half a surrogate pair (JSON's "\\ud800")
        # has no place. Names that are not UTF-8 are let through as Python spells them.
        os.fsencode(json.dumps(settings.model_dump(), ensure_ascii=False))
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
    except UnicodeEncodeError as error:  # from above, or from a message of pydantic's
        wrong = error.object[error.start : error.end]
        before = error.object[max(error.start - 60, 0) : error.start]
        place = f"'{_shown(wrong)}' behind '{_shown(before)}'"
        problems = [f"{place} is no character; write what belongs there in UTF-8"]
    else:
        return settings
    raise MidframeError("\n".join(f"{source}: {problem}" for problem in problems))


def _shown(key: Any) -> str:
    """A key in a message, which is short, on one line and UTF-8, as not every key of JSON is."""
    return _QUOTE.repr(str(key))[1:-1]


def _describe(problem: Any) -> str:
    path = ".".join(map(_shown, problem["loc"]))
    if problem["type"] == "unknown_key":
        path = ".".join(filter(None, [path, problem["ctx"]["key"]]))
        return f"{path}: {problem['msg']}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("missing", "value_error"):
        return f"{path}: {message}" if path else message
    return f"{path}: {message}, not {_QUOTE.repr(problem['input'])}"


def load(cls: type[SettingsType], text_or_path: str | None, **given: Any) -> SettingsType:
    """Settings from JSON text, from a YAML or JSON file, or (``None``) the defaults.

    ``given`` are values from elsewhere on the command line; they take precedence over the text.

    Raises
    ------
    MidframeError
        if the file cannot be read, is no mapping, or a setting is wrong.
    """
    if text_or_path is None:
        return validate(cls, given, "settings")
    if text_or_path.lstrip().startswith("{"):
        source, text = "--settings", text_or_path
    else:
        source = text_or_path
        try:
            text = Path(text_or_path).read_text(encoding="utf-8")
        except OSError as error:
            raise MidframeError(f"{source}: cannot read settings ({error.strerror})") from None
        except UnicodeDecodeError:
            raise MidframeError(f"{source}: not a text file; settings are YAML or JSON") from None
    # JSON first: YAML reads 1e-3 as text, and pydantic then takes it as the number it is.
    data = plain_data(text, source, json.loads if source == "--settings" else yaml.safe_load)
    if not isinstance(data, Mapping):
        raise MidframeError(f"{source}: settings must be a mapping of keys to values")
    return validate(cls, {**data, **given}, source)


def plain_data(text: str, source: str, parser: Callable[[str], Any] = yaml.safe_load) -> Any:
    """Plain data of YAML or JSON.

    Raises
    ------
    MidframeError
        if it is neither. PyYAML raises nearly anything on a wrong tag, date or number.
    """
    try:
        return parser(text)
    except Exception as error:
        raise MidframeError(f"{source}: not valid YAML or JSON ({explain(error)})") from None


DatasetSource = Literal[
    "davis-2016",
    "davis-2017-trainval",
    "davis-2017-test-dev",
    "sample-clips",
    "folder",
    "list",
    "youtube",
]
OnBadFrame = Literal["error", "skip"]


class DatasetSettings(Settings):
    """What a dataset is and where it comes from."""

    source: DatasetSource
    """Which dataset; `folder` takes the user's own videos and folders of images, `list` those that
    a file names."""
    path: str | None = None
    """`folder`: the folder. `list`: a `.txt`, `.csv` or `.parquet` file of paths, with a start and
    an end in seconds where only a part is wanted (docs/files.md). DAVIS and `youtube`: an archive
    or a video that is already on disk, used instead of the download."""
    address: str | None = None
    """`youtube` only: address of the video, in a form that yt-dlp takes."""
    resolution: Literal["480p", "full"] = "480p"
    """DAVIS only: 854x480 frames, or the originals (`1080p` in 2016)."""
    stream: int | None = Field(None, ge=0)
    """Number of the stream of every video file that is used, as `ffprobe` counts them; null: the
    one that FFmpeg finds best, and never a cover picture."""
    interlaced: Literal["refuse", "leave_out", "deinterlace"] = "refuse"
    """What to do with interlaced video, whose pictures mix two moments: refuse it as a file that
    cannot be used, leave it out and list it, or make one whole picture of each (FFmpeg's bwdif)."""
    measure: Literal["nothing", "histogram", "flow"] = "histogram"
    """What is measured while the frames are checked, so that `cuts` does not decode them again:
    what its method `histogram` needs, what `flow` needs too (two small flows a frame), or
    nothing."""
    on_bad_frame: OnBadFrame = "error"
    """What to do with frames that cannot be used (unreadable, or of another size or colour mode
    than the rest): stop and name the file and the fix, or skip them with every triplet that holds
    one, and list them with the reason. A sequence without a triplet is skipped as a whole. It holds
    in every later stage too, for files that have changed or gone since."""

    @model_validator(mode="after")
    def _path_fits_source(self) -> Self:
        if self.source == "folder" and self.path is None:
            raise ValueError("path: source 'folder' needs the path of the folder")
        if self.source == "list" and self.path is None:
            raise ValueError("path: source 'list' needs the path of a list of files")
        if self.source == "sample-clips" and self.path is not None:
            raise ValueError("path: source 'sample-clips' is installed with pip and takes no path")
        if self.source == "youtube" and self.path is None and self.address is None:
            raise ValueError("address: source 'youtube' needs an address, or a path")
        if self.source != "youtube" and self.address is not None:
            raise ValueError(f"address: source '{self.source}' takes none")
        return self


class MotionSettings(Settings):
    """Optical flow between the first and the third frame of every triplet."""

    stride: int = Field(3, ge=1)
    """Frames between the first frames of neighbouring triplets; 3: no frame in two triplets."""
    method: Literal["simpleflow", "simpleflow-opencv", "dis", "farneback"] = "simpleflow"
    """Method of the flow (see `pipeline.flow.optical_flow`); they rank windows differently."""
    layers: int = Field(3, ge=1, le=10)
    """SimpleFlow: levels of the image pyramid."""
    averaging_block_size: int = Field(2, ge=1)
    """SimpleFlow: radius in pixels of the block over which the matching cost is summed."""
    max_flow: int = Field(4, ge=1)
    """SimpleFlow: largest displacement searched at each level, in pixels of that level."""

    def parameters(self) -> dict[str, int]:
        """The parameters that the method takes."""
        if not self.method.startswith("simpleflow"):
            return {}
        return self.model_dump(include={"layers", "averaging_block_size", "max_flow"})


class CutSettings(Settings):
    """What is measured between neighbouring frames, and which measure names the jump cuts."""

    method: CutMethod = "histogram"
    """How jump cuts are found: by the distance of colour histograms, as in the paper; or by how
    well one frame can be made from the other after flow, against what the pairs around it allow,
    which also finds jumps inside a shot and is not misled by pans, fades and flashes. Histograms,
    changes and black bars are measured in either case, fits after flow only for `flow`."""

    bins: int = Field(8, ge=2, le=256)
    """Bins of each channel's histogram."""


class PatchSettings(Settings):
    """A set of patches: which triplets of which datasets, and which windows of them."""

    datasets: list[str] = Field(["frames"], min_length=1)
    """Names of the datasets; a sequence that several of them hold is taken from the first."""
    sequences: list[str] = ["*"]
    """Patterns (`*`, `?`) of the sequences to take."""
    part: tuple[float, float] = (0.0, 1.0)
    """The fraction of each sequence's frames to use, from and to (0..1)."""
    split: Literal["train", "validation", "test"] = "train"
    """What the patches are for; written beside every sample."""
    count: int | None = Field(None, ge=1)
    """Take this many triplets only, drawn by the seed; null: all."""
    window: Literal["random", "centre"] = "random"
    """Windows at random places, accepted by motion; or the one in the centre, always accepted."""
    patch_size: int = Field(150, ge=8)
    """Height and width of a patch in pixels."""
    tries: int = Field(30, ge=1)
    """Random windows tried in each triplet."""
    patch_stride: int = Field(1, ge=1)
    """Windows start at multiples of this many pixels; 1: anywhere."""
    max_taken: int = Field(20, ge=1)
    """Most windows taken from one triplet: the first ones accepted."""
    max_overlap: float = Field(1.0, ge=0, le=1)
    """Largest fraction of a window's area (0..1) that it may share with another one taken from
    the same triplet; 1: any."""
    max_per_sequence: int | None = Field(None, ge=1)
    """Most windows taken from one sequence, drawn among its accepted ones; null: all."""
    statistic: Literal["mean_magnitude", "norm_of_mean"] = "mean_magnitude"
    """Motion of a window: mean length of its flow vectors, or length of the mean vector (in which
    opposite motions cancel), in pixels."""
    motion_scale: float = Field(25.0, gt=0)
    """Motion in pixels at which a window is always accepted; below, with probability
    motion / scale."""
    cut_threshold: float = Field(8e-3, gt=0)
    """Histogram distance above which two neighbouring frames count as a jump cut, if cuts were
    measured with the method `histogram`."""
    flow_cut_threshold: float = Field(DEFAULT_FLOW_CUT_THRESHOLD, gt=0)
    """How many times worse than the pairs around it a pair of frames must fit, with flow and
    without, to count as a jump cut, if cuts were measured with the method `flow`."""
    repeat_threshold: float | None = Field(0.2, gt=0, le=1)
    """A triplet is refused as holding a repeated frame if one of its pairs of frames changes less
    than this fraction of what the other does (0: copies, 1: even motion); null: never."""
    max_brightness_change: float | None = Field(None, ge=0)
    """Largest change of the mean luma (levels, 0..255) between neighbouring frames of a triplet, as
    fades and flashes have it; null: any."""
    max_black_share: float | None = Field(None, ge=0, lt=1)
    """Largest fraction of a window's area (0..1) that black bars may cover; null: any."""
    max_misfit: float | None = Field(None, gt=0)
    """Largest mean error (levels, 0..255) of a triplet's middle frame made from the outer two after
    flow, which is high in dissolves and where motion cannot be followed; needs cuts that were
    measured with the method `flow`; null: any."""
    on_bad_frame: OnBadFrame = "error"
    """What to do with a sequence of frames smaller than a patch: stop, or skip and list it."""
    seed: int = Field(0, ge=0)
    """Seed of every random choice; each (seed, sequence, triplet) has its own stream."""
    shard_samples: int = Field(256, ge=1)
    """Samples in one shard (one file) of the store."""
    codec: Literal["uncompressed", "lz4", "zstd"] = "zstd"
    """Compression of the store, all without loss; docs/patches.md compares speed and size."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        first, last = self.part
        if not 0.0 <= first < last <= 1.0:
            raise ValueError("part: needs two fractions, 0 <= from < to <= 1")
        if self.window == "random" and self.max_taken > self.tries:
            raise ValueError(
                f"max_taken: at most tries ({self.tries}) windows can be taken, "
                f"not {self.max_taken}"
            )
        return self
