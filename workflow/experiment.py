"""The whole configuration: what `config.yaml` may hold, and whether its parts fit together.

``make schema`` writes its JSON schema (``workflow/schemas/config.schema.json``) and the reference
of all settings (``docs/settings.md``).
"""

import json
import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from model.settings import (
    WITHOUT_WEIGHTS,
    EvaluationSettings,
    FigureSettings,
    NetworkSettings,
    StageSettings,
    Start,
    TableRow,
    TableSettings,
    VideoSettings,
)
from pipeline.settings import (
    CutSettings,
    DatasetSettings,
    MotionSettings,
    PatchSettings,
    Settings,
)

# Names become names of files.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

MEANING = {
    "linear": "this name stands for linear interpolation",
    "flow": "this name stands for interpolation by optical flow",
    "flow-fast": "this name stands for interpolation by optical flow",
}


class ModelSource(Settings):
    """A trained network, the weights of a stage or a file; or the predictions of a program."""

    stage: str | None = None
    """Training stage that it comes from."""
    epoch: int | None = Field(None, ge=1)
    """Epoch of that stage; null: the last."""
    weights: str | None = None
    """A weights file instead, such as `midframe import-weights` writes."""
    predictions: str | None = None
    """A folder or video of predictions that another program made (docs/protocols.md)."""
    command: str | None = None
    """Another program to call for each triplet: `prog {first} {third} {out}`."""

    @property
    def is_program(self) -> bool:
        """Whether another program makes the predictions, so that there are no weights."""
        return self.predictions is not None or self.command is not None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (self.stage, self.weights, self.predictions, self.command)
        if sum(source is not None for source in sources) != 1:
            raise ValueError(
                "a model needs one of stage, weights (a file), predictions (of another program) "
                "and command"
            )
        return self


class EvaluationSet(EvaluationSettings):
    """Triplets that models are measured on."""

    dataset: str | None = None
    """Name of the dataset that they come from."""
    folder: str | None = None
    """The folder of a published benchmark instead, in the `layout` of that benchmark."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.dataset is None) == (self.folder is None):
            raise ValueError("an evaluation needs either a dataset or a folder")
        return self


class ExperimentTableRow(TableRow):
    """One row of a table."""

    model: str
    """Name of the model, or `linear`, `flow` or `flow-fast`, which need no weights."""


class ExperimentTable(TableSettings):
    """A table over the models measured on one evaluation set."""

    evaluation: str
    """Name of the evaluation set."""
    rows: list[ExperimentTableRow]  # type: ignore[assignment]
    """The models, in the order of the rows."""


class ExperimentFigure(FigureSettings):
    """A figure: losses of stages, predictions beside the truth, or one frame at two sizes."""

    stages: list[str] = []
    """Stages whose losses are drawn."""
    evaluation: str | None = None
    """Evaluation set whose kept pictures are shown beside the predictions of `models`."""
    models: list[str] = []
    """Models to show; `linear`, `flow` and `flow-fast` too, which need no weights."""
    resolutions: list[str] = []
    """Evaluation sets with the same triplets at several resolutions, shown for one model."""


class Video(VideoSettings):
    """A video to write at a higher frame rate."""

    dataset: str
    """Name of the dataset that holds it."""
    file: str
    """The file inside the dataset's directory."""
    model: str
    """Name of the model, or `linear`, `flow` or `flow-fast`, which need no weights."""
    times: int = Field(2, ge=2)
    """Frames to make from one; for other numbers than 2, 4 and 8, a trained network gives the
    nearest of the positions that halving makes."""


class Experiment(Settings):
    """An experiment: every stage of the graph, by name."""

    results: str = "results/experiment"
    """Folder that everything is written to."""
    environment: Literal["cpu", "cuda"] = "cpu"
    """Which conda environment the networks run in, with `snakemake --sdm conda`."""
    archives: str = "data"
    """Folder for downloads; experiments may share it."""
    vgg: str | None = None
    """torchvision's VGG-19 weights that are already on disk, used instead of the download; the
    losses `vgg` and `combined` need them."""
    lpips: str | None = None
    """Folder of the weights of LPIPS that is already on disk, used instead of the download."""
    datasets: dict[Name, DatasetSettings] = Field(min_length=1)
    """Where frames come from."""
    motion: MotionSettings = MotionSettings()
    """Optical flow of all datasets that patches are taken from."""
    cuts: CutSettings = CutSettings()
    """Histogram distances of all datasets that patches are taken from."""
    patches: dict[Name, PatchSettings] = {}
    """Patch stores."""
    stages: dict[Name, StageSettings] = {}
    """Training stages; each is one job."""
    models: dict[Name, ModelSource] = {}
    """Networks that are evaluated."""
    evaluations: dict[Name, EvaluationSet] = {}
    """What they are evaluated on."""
    tables: dict[Name, ExperimentTable] = {}
    """Tables of scores."""
    figures: dict[Name, ExperimentFigure] = {}
    """Figures."""
    videos: dict[Name, Video] = {}
    """Videos at a higher frame rate."""

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        models = {*self.models, *WITHOUT_WEIGHTS}
        for name, patches in self.patches.items():
            _check(patches.datasets, self.datasets, f"patches.{name}.datasets")
        for name, stage in self.stages.items():
            for key in ("patches", "validation"):
                _check([getattr(stage, key)], self.patches, f"stages.{name}.{key}")
            if stage.frames is not None:
                _check([stage.frames], self.datasets, f"stages.{name}.frames")
            self._check_split(name)
            if stage.start is not None:
                place = f"stages.{name}.start"
                _check([stage.start.stage], self.stages, f"{place}.stage")
                self._check_epoch(stage.start.stage, stage.start.epoch, f"{place}.epoch")
            self._check_descent(name)
        for name, model in self.models.items():
            if name in WITHOUT_WEIGHTS:
                raise ValueError(f"models.{name}: {MEANING[name]}")
            if model.stage is not None:
                _check([model.stage], self.stages, f"models.{name}.stage")
                if model.epoch is not None:
                    self._check_epoch(model.stage, model.epoch, f"models.{name}.epoch")
        for name, evaluation in self.evaluations.items():
            if evaluation.dataset is not None:
                _check([evaluation.dataset], self.datasets, f"evaluations.{name}.dataset")
        for name, table in self.tables.items():
            _check([table.evaluation], self.evaluations, f"tables.{name}.evaluation")
            _check([row.model for row in table.rows], models, f"tables.{name}.rows")
        for name, figure in self.figures.items():
            _check(figure.stages, self.stages, f"figures.{name}.stages")
            _check(figure.models, models, f"figures.{name}.models")
            sets = [*figure.resolutions, *filter(None, [figure.evaluation])]
            _check(sets, self.evaluations, f"figures.{name}")
            if not (figure.stages or sets):
                raise ValueError(f"figures.{name}: needs stages, an evaluation or resolutions")
            if sets and not figure.models:
                raise ValueError(f"figures.{name}.models: name the models to show")
        for name, video in self.videos.items():
            _check([video.dataset], self.datasets, f"videos.{name}.dataset")
            _check([video.model], models, f"videos.{name}.model")
            if video.model in self.models and self.models[video.model].is_program:
                raise ValueError(f"videos.{name}.model: '{video.model}' is no network")
        return self

    def _check_split(self, stage: str) -> None:
        """Refuse a stage whose training and validation patches are sure to share a sequence.

        If that depends on the names in a dataset, ``midframe sample`` checks it.
        """
        settings = self.stages[stage]
        training, validation = self.patches[settings.patches], self.patches[settings.validation]
        if not set(training.datasets) & set(validation.datasets):
            return
        (first, last), (other_first, other_last) = training.part, validation.part
        if min(last, other_last) <= max(first, other_first):
            return
        for one in training.sequences:
            for other in validation.sequences:
                # A pattern that the other one matches: every pattern has to match something.
                if fnmatchcase(one, other) or fnmatchcase(other, one):
                    shared = one if fnmatchcase(one, other) else other
                    raise ValueError(
                        f"stages.{stage}: sequences '{shared}' are both in patches "
                        f"'{settings.patches}' and in validation '{settings.validation}'; choose "
                        "other sequences, or parts that do not overlap"
                    )

    def apart_from(self, patches: str) -> list[str]:
        """Patch sets that must share no frame with ``patches``: its partners in a stage.

        Of each pair the one that is declared later waits for the other, and is checked.
        """
        earlier = list(self.patches)[: list(self.patches).index(patches)]
        pairs = [{stage.patches, stage.validation} for stage in self.stages.values()]
        return [name for name in earlier if {name, patches} in pairs]

    def _check_epoch(self, stage: str, epoch: int, place: str) -> None:
        settings = self.stages[stage]
        if epoch > settings.epochs:
            raise ValueError(f"{place}: stage '{stage}' has {settings.epochs} epochs, not {epoch}")
        if epoch % settings.save_every and epoch != settings.epochs:
            raise ValueError(
                f"{place}: stage '{stage}' saves every {settings.save_every} epochs, so there are "
                f"no weights of epoch {epoch}"
            )

    def _check_descent(self, stage: str) -> None:
        seen = [stage]
        while (start := self.stages[seen[-1]].start) is not None:
            _check([start.stage], self.stages, f"stages.{seen[-1]}.start.stage")
            if start.stage in seen:
                raise ValueError(f"stages: {' starts from '.join([*seen, start.stage])}")
            seen.append(start.stage)

    def model_epoch(self, name: str) -> int:
        """Epoch of a model that comes from a stage."""
        model = self.models[name]
        return model.epoch or self.stages[str(model.stage)].epochs

    def datasets_of_patches(self) -> list[str]:
        """Datasets that patches are taken from, in the order of their declaration."""
        used = {name for patches in self.patches.values() for name in patches.datasets}
        return [name for name in self.datasets if name in used]


def _check(names: Iterable[str], known: Iterable[str], place: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{place}: no '{name}'; there are: {', '.join(known)}")


def schema() -> str:
    """JSON schema of `Experiment`, as kept in ``workflow/schemas/config.schema.json``."""
    return json.dumps(Experiment.model_json_schema(), indent=1) + "\n"


SECTIONS: tuple[tuple[str, type[Settings]], ...] = (
    ("The experiment", Experiment),
    ("`datasets.NAME` (`midframe fetch`)", DatasetSettings),
    ("`motion` (`midframe score`)", MotionSettings),
    ("`cuts` (`midframe cuts`)", CutSettings),
    ("`patches.NAME` (`midframe sample`)", PatchSettings),
    ("`stages.NAME` (`midframe train`)", StageSettings),
    ("`stages.NAME.network`", NetworkSettings),
    ("`stages.NAME.start`", Start),
    ("`models.NAME`", ModelSource),
    ("`evaluations.NAME` (`midframe evaluate`)", EvaluationSet),
    ("`tables.NAME` (`midframe tables`)", ExperimentTable),
    ("`tables.NAME.rows`", ExperimentTableRow),
    ("`figures.NAME` (`midframe figures`)", ExperimentFigure),
    ("`videos.NAME` (`midframe interpolate`)", Video),
)


def reference() -> str:
    """The reference of all settings in Markdown, as kept in ``docs/settings.md``."""
    lines = [
        "# Settings",
        "",
        "Every key of `config.yaml`, made from the settings classes by `make schema`. A command",
        "takes the keys of its own section through `--settings`. An unknown key, a wrong type or a",
        "value out of range stops before anything runs.",
    ]
    for title, section in SECTIONS:
        lines += ["", f"## {title}", "", " ".join(str(section.__doc__).split()), ""]
        lines += ["| key | type and range | default | meaning |", "|---|---|---|---|"]
        for name, described in section.model_json_schema()["properties"].items():
            field = section.model_fields[name]
            default = "required" if field.is_required() else f"`{_default(described)}`"
            meaning = " ".join(str(field.description).split()).replace("|", "\\|")
            lines.append(f"| `{name}` | {_type(described)} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(described: dict[str, Any]) -> str:
    value = described.get("default")
    return "see its section" if isinstance(value, dict) and value else json.dumps(value)


RANGES = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}


def _type(described: dict[str, Any]) -> str:
    """A JSON schema of one key in words."""
    if "anyOf" in described:
        return " or ".join(_type(choice) for choice in described["anyOf"])
    if "enum" in described:
        return ", ".join(f"`{choice}`" for choice in described["enum"])
    if "$ref" in described:
        return "a section"
    if "prefixItems" in described:
        return f"list of {len(described['prefixItems'])}: {_type(described['prefixItems'][0])}"
    if described["type"] == "array":
        return f"list of {_type(described['items'])}"
    if described["type"] == "object":
        return "sections by name"
    ranges = [f"{sign} {described[key]:g}" for key, sign in RANGES.items() if key in described]
    return " ".join([described["type"], ", ".join(ranges)]).strip()


if __name__ == "__main__":
    print({"schema": schema, "reference": reference}[sys.argv[1]](), end="")
