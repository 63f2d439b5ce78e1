"""Settings of the network, of training and of evaluation: the only source of their defaults.

Nothing here imports torch, so that reading settings costs nothing.
"""

from collections.abc import Iterable
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from model.network_shape import PAPER, Initialisation, ModuleOrder, NetworkForm
from pipeline.settings import DEFAULT_FLOW_CUT_THRESHOLD, CutMethod, OnBadFrame, Settings

STATE_MINUTES = 10.0  # between two states of a training; no setting, as it changes no result
CACHE_GIGABYTES = 20.0  # of each patch store in object storage, likewise

LINEAR = "linear"
FLOW_METHODS = ("flow", "flow-fast")
WITHOUT_WEIGHTS = (LINEAR, *FLOW_METHODS)
"""Models that are named instead of trained, wherever a model is asked for."""

Precision = Literal["auto", "fp32", "bf16"]
LossName = Literal["l1", "l2", "ssim", "vgg", "combined"]


def check_names(triplets: Iterable[str], key: str) -> None:
    """Raise `ValueError` unless all are names of triplets, ``sequence:first_frame``."""
    for triplet in triplets:
        name, _, frame = triplet.rpartition(":")
        if not name or not frame.isdecimal():
            raise ValueError(f"{key}: must be 'sequence:first_frame', not '{triplet}'")


class NetworkSettings(Settings):
    """The SepConv network; the defaults are the paper's."""

    kernel_length: int = Field(PAPER.kernel_length, ge=1)
    """Taps of each of the four kernels of a pixel; odd, so that a kernel has a centre."""
    width: float = Field(PAPER.width, gt=0, le=4)
    """Factor on the channels of every hidden layer (1.0: 32 to 512)."""
    module_order: ModuleOrder = PAPER.module_order
    """Which of a module's three convolutions changes the number of channels: the first (Niklaus)
    or the last (Kartasev)."""
    initialisation: Initialisation = PAPER.initialisation
    """`orthogonal`: as Kartasev's, with the gain of ReLU. `linear`: the same, except that the
    untrained network is exactly the mean of the two frames, biases are zero, and the first layer
    starts with the differences between and within the frames; for demonstrations."""
    normalise: bool = PAPER.normalise
    """Divide the output by the sum of its kernels, so that brightness is kept; for
    demonstrations, the published networks do not."""

    @model_validator(mode="after")
    def _kernels_have_a_centre(self) -> Self:
        if self.kernel_length % 2 == 0:
            raise ValueError(
                "kernel_length: must be odd, because an even kernel has no centre and would shift "
                f"the picture by half a pixel, not {self.kernel_length}"
            )
        return self

    @classmethod
    def of(cls, form: NetworkForm) -> Self:
        """The settings that rebuild a network of this form."""
        return cls(**{name: getattr(form, name) for name in cls.model_fields})


class TrainingSettings(Settings):
    """One stage of training, as the command `train` takes it; the defaults are the paper's."""

    network: NetworkSettings | None = None
    """The network to train. Default: that of the weights the stage starts from, or, when it
    starts from scratch, the paper's."""
    epochs: int = Field(50, ge=1)
    """Passes over the training patches."""
    loss: LossName = "l1"
    """`l1`: mean absolute difference. `l2`: mean square. `ssim`: -SSIM. `vgg`: distance of VGG-19
    features. `combined`: l1 + perceptual_weight * vgg."""
    loss_form: Literal["as_published", "usual"] = "as_published"
    """Form of `ssim` and `vgg`. `as_published`: SSIM zero-padded at the borders; VGG the
    un-averaged L2 norm without ImageNet normalisation. `usual`: SSIM of whole windows only; VGG
    the mean square of ImageNet-normalised features."""
    perceptual_weight: float = Field(5e-5, gt=0)
    """Weight of the VGG distance in `combined`; the paper uses 5e-5 and 1e-5."""
    optimizer: Literal["adamax", "adam", "adamw", "sgd"] = "adamax"
    """Optimiser, each with the usual parameters of PyTorch (`sgd` with a momentum of 0.9)."""
    learning_rate: float = Field(1e-3, gt=0)
    """Step size after the warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate grows linearly to its full size."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant as in the paper, or half a cosine down to zero at
    the last step."""
    batch_size: int = Field(16, ge=1)
    """Samples in one step, over all processes together."""
    crop: int = Field(128, ge=1)
    """Height and width in pixels of what the network sees of a patch."""
    crop_position: Literal["random", "centre"] = "random"
    """Where the crop is taken; validation always takes the centre."""
    augment: bool = True
    """Transform each sample by one of: nothing, vertical flip, horizontal flip, a quarter turn
    either way; with equal probability."""
    temporal_swap: bool = True
    """Exchange the first and the third frame with probability 1/2."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the network; weights and losses are always kept in float32."""
    save_every: int = Field(1, ge=1)
    """Epochs between two saved weights; those of the last epoch are always saved."""
    visual_tests: list[str] = []
    """Triplets, each `sequence:first_frame` of the dataset `frames`, that are predicted whole
    after each epoch, to look at; ten validation patches always are."""
    seed: int = Field(0, ge=0)
    """Seed of the initial weights, of the order of the samples and of their augmentation."""

    @model_validator(mode="after")
    def _visual_tests_are_triplets(self) -> Self:
        check_names(self.visual_tests, "visual_tests")
        return self


class Start(Settings):
    """The weights that a stage starts from."""

    stage: str
    """Name of the parent stage."""
    epoch: int = Field(ge=1)
    """Epoch of the parent stage, counted from 1."""


class StageSettings(TrainingSettings):
    """One stage of training, as the configuration declares it: what it uses, and how it trains."""

    patches: str
    """Name of the patch set to train on."""
    validation: str
    """Name of the patch set to validate on."""
    frames: str | None = None
    """Name of the dataset that the triplets of `visual_tests` are in."""
    start: Start | None = None
    """The parent's weights to start from; null: from scratch."""

    @model_validator(mode="after")
    def _visual_tests_have_frames(self) -> Self:
        if bool(self.visual_tests) != (self.frames is not None):
            raise ValueError("visual_tests, frames: one needs the other")
        return self

    def training(self) -> TrainingSettings:
        """The part that the command `train` takes; the rest are its arguments."""
        return TrainingSettings(
            **{name: getattr(self, name) for name in TrainingSettings.model_fields}
        )


ProtocolName = Literal[
    "as_published",
    "niklaus",
    "standard",
    "matlab_grey",
    "softsplat",
    "rife",
    "ema_vfi",
    "cain",
    "flavr",
    "middlebury",
    "middlebury_other",
    "lpips",
    "xpsnr",
    "vmaf",
]
PerceptualName = Literal["lpips", "xpsnr", "vmaf"]


class EvaluationSettings(Settings):
    """Which triplets a model is measured on, how their frames are prepared, and what is kept."""

    layout: Literal["sequences", "middlebury", "vimeo-90k", "ucf101", "snu-film", "triplets"] = (
        "sequences"
    )
    """`sequences`: neighbouring frames of videos or folders of images. The others: benchmarks in
    the layout in which they are published; `triplets`: any folders of three images each."""
    subset: Literal["easy", "medium", "hard", "extreme"] | None = None
    """`snu-film`: which of its four lists."""
    sequences: list[str] = ["*"]
    """Patterns (`*`, `?`) of the sequences to take."""
    part: tuple[float, float] = (0.0, 1.0)
    """The fraction of each sequence's frames to use, from and to (0..1)."""
    stride: int = Field(3, ge=1)
    """Frames between the first frames of neighbouring triplets."""
    count: int | None = Field(None, ge=1)
    """Take this many triplets only, drawn by the seed
    (`pipeline.selection.sampling.draw_triplets`); null: all."""
    seed: int = Field(42, ge=0)
    """Seed of that draw."""
    triplets: list[str] | None = None
    """Take exactly these triplets, each `sequence:first_frame`; null: as chosen above."""
    size: tuple[int, int] | None = None
    """Width and height in pixels that frames are scaled to; null: as they are."""
    scaler: Literal["area", "bicubic", "lanczos"] = "area"
    """How frames are scaled: OpenCV's INTER_AREA, INTER_CUBIC or INTER_LANCZOS4."""
    crop: int | None = Field(None, ge=11)
    """Height and width in pixels of the centre that is cut out after scaling, before the model
    sees the frames; null: whole frames."""
    cut_method: CutMethod = "histogram"
    """How jump cuts are found; the same as `method` of the stage `cuts`. Triplets that hold one
    are flagged and scored; means are given with and without them."""
    cut_bins: int = Field(8, ge=2, le=256)
    """Bins of each channel's histogram; for `histogram`."""
    cut_threshold: float = Field(8e-3, gt=0)
    """Histogram distance above which two neighbouring frames count as a jump cut; for
    `histogram`."""
    flow_cut_threshold: float = Field(DEFAULT_FLOW_CUT_THRESHOLD, gt=0)
    """How many times worse than the pairs around it a pair of frames must fit to count as a jump
    cut; for `flow`."""
    pictures: list[str] = []
    """Patterns of triplets, `sequence:first_frame`, whose true and predicted frame are kept as
    PNG for the figures; `*` keeps all."""

    keep: Literal["nothing", "float", "png16"] = "nothing"
    """Form in which all predictions are kept, so that a later protocol needs no new ones: `float`,
    exactly as they are, 12 bytes a pixel; `png16`, within 1/131,070, up to 6 bytes a pixel."""
    perceptual: list[PerceptualName] = []
    """Measures beside the protocols that need more: `lpips` the weights of two networks
    (`midframe fetch-lpips`), `xpsnr` and `vmaf` an FFmpeg with these filters; without them they
    are left out, with the reason in the tables."""

    @property
    def chosen_cut_threshold(self) -> float:
        """The threshold of `cut_method`."""
        return self.flow_cut_threshold if self.cut_method == "flow" else self.cut_threshold

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        first, last = self.part
        if not 0.0 <= first < last <= 1.0:
            raise ValueError("part: needs two fractions, 0 <= from < to <= 1")
        if self.size is not None and min(self.size) < 11:
            raise ValueError("size: width and height must be at least 11, the window of the SSIM")
        sides = [*(self.size or ()), *([self.crop] if self.crop else [])]
        if "lpips" in self.perceptual and min(sides, default=35) < 35:
            raise ValueError("size, crop: LPIPS needs at least 35 pixels a side")
        if (self.subset is not None) != (self.layout == "snu-film"):
            raise ValueError("subset: the layout 'snu-film' needs it, and no other takes it")
        if self.layout != "sequences" and (self.stride != 3 or self.part != (0.0, 1.0)):
            raise ValueError("stride, part: a benchmark names its triplets; omit them")
        check_names(self.triplets or (), "triplets")
        return self


class TableRow(Settings):
    """One row of a table: an evaluation, and what it is called."""

    label: str
    """Name of the model in the table."""
    published: str | None = None
    """The row of the published table to compare with; null: none."""


class TableSettings(Settings):
    """A table over several evaluations of the same triplets."""

    title: str = "Evaluation"
    """Heading of the table."""
    protocols: list[ProtocolName] = Field(["as_published", "niklaus", "standard"], min_length=1)
    """Protocols to show, in this order."""
    rows: list[TableRow] | None = None
    """One row for each evaluation, in the given order; null: their own labels."""
    published: Literal["table-1", "table-2", "middlebury"] | None = None
    """The published table whose numbers appear beside ours."""
    literature: (
        Literal[
            "middlebury-other",
            "vimeo-90k",
            "ucf101",
            "snu-film-easy",
            "snu-film-medium",
            "snu-film-hard",
            "snu-film-extreme",
            "xiph-2k",
            "xiph-4k",
        ]
        | None
    ) = None
    """The benchmark whose published numbers of other methods follow the table, in one of their own:
    they were not measured here."""
    baseline: str = "linear"
    """Label of the row that the others are compared with, triplet by triplet."""
    seeds: dict[str, list[str]] = {}
    """Rows of one stage trained with several seeds, by their common label: the table adds their
    mean and their spread over the training runs."""
    resamples: int = Field(2000, ge=100)
    """Bootstrap samples behind each 95 % interval."""
    seed: int = Field(0, ge=0)
    """Seed of the bootstrap."""

    @model_validator(mode="after")
    def _runs_are_several(self) -> Self:
        for label, runs in self.seeds.items():
            if len(set(runs)) < 2:
                raise ValueError(f"seeds: {label}: at least two different rows are needed")
        return self


class FigureSettings(Settings):
    """Figures of an experiment."""

    triplets: list[str] = []
    """Triplets, `sequence:first_frame`, to show side by side; each must be kept by the
    evaluations. Default: every triplet that all of them kept."""
    error_peak: int = Field(64, ge=1, le=255)
    """Difference in levels (0..255) that the error map shows as its brightest colour."""
    note: str = ""
    """A remark beside the name of every triplet, such as `seen in training`."""
    dpi: int = Field(200, ge=50, le=600)
    """Resolution of the PNG files in dots an inch."""


VideoCodec = Literal[
    "h264",
    "hevc",
    "av1",
    "vp9",
    "prores",
    "ffv1",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_qsv",
    "hevc_qsv",
    "av1_qsv",
    "vp9_qsv",
    "h264_amf",
    "hevc_amf",
    "av1_amf",
    "h264_videotoolbox",
    "hevc_videotoolbox",
]
HARDWARE = tuple(name for name in get_args(VideoCodec) if "_" in name)
"""Codecs that an encoder in a graphics card or processor makes."""


class VideoSettings(Settings):
    """How a video of a higher frame rate is written."""

    codec: VideoCodec = "h264"
    """Codec of the new video. Names with a maker are encoders of a graphics card or processor,
    which need one. docs/video.md tells what each keeps, and which files hold it."""
    crf: int | None = Field(None, ge=0, le=63)
    """Quality: 0 is best, higher makes smaller files; `prores` and `ffv1` have none. null: what
    hardly differs from the source, that is 18 for `h264`, 20 for `hevc`, 24 for `av1` and `vp9`."""
    preset: Literal["ultrafast", "veryfast", "fast", "medium", "slow", "veryslow"] = "medium"
    """Speed of encoding: slower makes smaller files."""
    cut_method: CutMethod | None = "flow"
    """How jump cuts are found, as `method` of the stage `cuts`; across one, the nearer frame is
    repeated. null: no search for cuts."""
    cut_threshold: float = Field(8e-3, gt=0)
    """Histogram distance above which two frames count as a jump cut; for `histogram`."""
    flow_cut_threshold: float = Field(DEFAULT_FLOW_CUT_THRESHOLD, gt=0)
    """How many times worse than the pairs around it a pair of frames must fit to count as a jump
    cut; for `flow`."""
    duplicates: Literal["keep", "replace"] = "keep"
    """Repeated frames of the source (animation "on twos", telecined film, dropped frames): `keep`
    them, or `replace` them, so that motion goes on evenly across them."""
    interlaced: Literal["deinterlace", "fields", "refuse"] = "deinterlace"
    """A source whose pictures mix two moments: `deinterlace` makes one picture of each (FFmpeg's
    bwdif), `fields` two, which are at twice the rate then; or it is refused."""
    on_bad_frame: OnBadFrame = "error"
    """What happens to a source that is cut short, or holds frames that cannot be decoded: `error`
    stops, `skip` names them and goes on with the others."""
    segment_minutes: float = Field(2, gt=0)
    """Minutes of the source after which what is made is safe from an interruption."""
    precision: Precision = "auto"
    """Arithmetic of the network on a CPU. `auto`: bfloat16 where the processor computes in it
    (AVX512-BF16, AMX) and the network is wide (`width` 0.25 or more), which takes half the time;
    else float32. Evaluations always take float32."""
    tile_pixels: int = Field(2048 * 1280, ge=32 * 32)
    """Pixels of the largest piece of a frame that the network sees at once; bounds the memory."""

    @property
    def chosen_cut_threshold(self) -> float:
        """The threshold of `cut_method`."""
        return self.flow_cut_threshold if self.cut_method == "flow" else self.cut_threshold
