"""Paths, and the settings of each."""

import json
import shlex
from pathlib import Path

from model.evaluation.benchmarks import absence
from model.settings import WITHOUT_WEIGHTS
from pipeline.errors import MidframeError
from pipeline.frames.discovery import find_sequences
from pipeline.processor import thread_count
from pipeline.provenance import digest, file_digest
from pipeline.settings import validate
from pipeline.sources.lists import read_list
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from workflow.experiment import Experiment

try:
    EXPERIMENT = validate(Experiment, config, "configuration")
except MidframeError as error:
    raise WorkflowError(str(error)) from None

# Threads of a job that uses all cores, without those that a container's quota or a binding withholds.
# Snakemake is given no number of cores where jobs run on a cluster: its profile says how many each has.
CORES = min(workflow.resource_settings.cores or thread_count(), thread_count())
RESULTS = EXPERIMENT.results
ARCHIVES = EXPERIMENT.archives
FRAMES = f"{RESULTS}/datasets/{{dataset}}"
MOTION = f"{RESULTS}/motion/{{dataset}}"
CUTS = f"{RESULTS}/cuts/{{dataset}}"
PATCHES = f"{RESULTS}/patches/{{patches}}"
INSPECTION = f"{RESULTS}/inspection/{{patches}}"
MODEL = f"{RESULTS}/models/{{stage}}"
PREDICTIONS = f"{RESULTS}/predictions/{{evaluation}}/{{model}}"
EVALUATION = f"{RESULTS}/evaluations/{{evaluation}}/{{model}}"
TABLE = f"{RESULTS}/tables/{{table}}"
FIGURE = f"{RESULTS}/figures/{{figure}}"
VIDEO = f"{RESULTS}/videos/{{video}}.mp4"
LPIPS = f"{ARCHIVES}/lpips"
VGG = f"{ARCHIVES}/vgg19-dcbb9e9d.pth"
MODEL_ENVIRONMENT = f"../../envs/model-{EXPERIMENT.environment}.yaml"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"

# Benchmarks whose folder is missing, and why; they stop nothing else.
SKIPPED = {
    name: why
    for name, evaluation in EXPERIMENT.evaluations.items()
    if evaluation.folder is not None
    and (why := absence(Path(evaluation.folder), evaluation.layout)) is not None
}
for name, why in SKIPPED.items():
    logger.warning(f"skipped: {name}: {why}")
TABLES = [
    name for name, table in EXPERIMENT.tables.items() if table.evaluation not in SKIPPED
]
FIGURES = [
    name
    for name, figure in EXPERIMENT.figures.items()
    if SKIPPED.keys().isdisjoint([figure.evaluation, *figure.resolutions])
]


wildcard_constraints:
    dataset="[^/]+",
    patches="[^/]+",
    stage="[^/]+",
    evaluation="[^/]+",
    model="[^/]+",
    table="[^/]+",
    figure="[^/]+",
    video="[^/]+",


def source_digest(*names):
    """Digest of the code that decides what a stage computes: an edit runs the stage again.

    A parameter and not an input, so that neither a touch nor a move of the repository does.
    """
    return digest([file_digest(ROOT / name) for name in names])


def as_json(settings, *excluded):
    """One stage's settings, as its command takes them and as Snakemake remembers them."""
    return json.dumps(
        settings.model_dump(mode="json", exclude=set(excluded)), sort_keys=True
    )


def weights(name):
    """The weights of a model; of one that is trained, inside the directory of its stage."""
    model = EXPERIMENT.models[name]
    if model.stage is None:
        return model.weights
    epoch = EXPERIMENT.model_epoch(name)
    return f"{MODEL.format(stage=model.stage)}/weights/epoch-{epoch:04d}.safetensors"


def weights_input(name):
    """What a job that uses a model waits for."""
    if name in WITHOUT_WEIGHTS:
        return []
    model = EXPERIMENT.models[name]
    if model.is_program:
        return model.predictions or []
    return model.weights if model.stage is None else MODEL.format(stage=model.stage)


def model_argument(name):
    """A model as the commands take it."""
    return name if name in WITHOUT_WEIGHTS else weights(name)


def predictions_option(name):
    """The option that says where the predictions of a row come from."""
    model = EXPERIMENT.models.get(name)
    if model is None or not model.is_program:
        return f"--model {shlex.quote(model_argument(name))}"
    if model.command is not None:
        return f"--command {shlex.quote(model.command)}"
    return f"--predictions {shlex.quote(model.predictions)}"


def is_kept(wildcards):
    """Whether predictions are kept apart from their scores; files of others are there already."""
    model = EXPERIMENT.models.get(wildcards.model)
    of_others = model is not None and model.predictions is not None
    return (
        EXPERIMENT.evaluations[wildcards.evaluation].keep != "nothing" and not of_others
    )


def scored(wildcards):
    """What a job that measures a model waits for."""
    if is_kept(wildcards):
        return PREDICTIONS.format(
            evaluation=wildcards.evaluation, model=wildcards.model
        )
    return weights_input(wildcards.model)


def scored_option(wildcards):
    if is_kept(wildcards):
        return f"--predictions {shlex.quote(scored(wildcards))}"
    return predictions_option(wildcards.model)


def lpips_weights(wildcards):
    """The folder of the weights of LPIPS, where an evaluation asks for it."""
    if "lpips" not in EXPERIMENT.evaluations[wildcards.evaluation].perceptual:
        return []
    return EXPERIMENT.lpips or LPIPS


def user_files(wildcards):
    """The user's own files that a dataset is made of, so that Snakemake notices a change."""
    settings = EXPERIMENT.datasets[wildcards.dataset]
    if settings.path is None:
        return []
    if settings.source not in ("folder", "list"):
        return settings.path
    listed = []
    try:
        if settings.source == "list":
            listed = [settings.path]
            files, _ = read_list(Path(settings.path))
            found = [listed_file.path for listed_file in files]
        else:
            root = Path(settings.path)
            found = [root / inside for _, inside in find_sequences(root)]
    except MidframeError as error:
        raise WorkflowError(str(error)) from None
    return listed + [
        str(file)
        for path in found
        for file in ([path] if path.is_file() else sorted(path.iterdir()))
    ]


def datasets_of(wildcards, place):
    """Paths of the datasets of a patch set."""
    return expand(place, dataset=EXPERIMENT.patches[wildcards.patches].datasets)


def apart_from(wildcards):
    """The patch sets that a patch set must share no frame with."""
    return expand(PATCHES, patches=EXPERIMENT.apart_from(wildcards.patches))


def parent(wildcards):
    """The directory of the stage whose weights a stage starts from."""
    start = EXPERIMENT.stages[wildcards.stage].start
    return [] if start is None else MODEL.format(stage=start.stage)


def init_argument(wildcards, input):
    start = EXPERIMENT.stages[wildcards.stage].start
    if start is None:
        return ""
    return f"--init {input.parent}/weights/epoch-{start.epoch:04d}.safetensors"


def needs_vgg(stage):
    return EXPERIMENT.stages[stage].loss in ("vgg", "combined")


def visual_frames(wildcards):
    """The dataset whose triplets a stage predicts after each epoch."""
    dataset = EXPERIMENT.stages[wildcards.stage].frames
    return [] if dataset is None else FRAMES.format(dataset=dataset)


def evaluation_frames(wildcards):
    """The dataset, or the benchmark's own folder, that models are measured on."""
    evaluation = EXPERIMENT.evaluations[wildcards.evaluation]
    if evaluation.dataset is None:
        return evaluation.folder
    return FRAMES.format(dataset=evaluation.dataset)


def evaluation_directories(evaluation, models):
    return expand(EVALUATION, evaluation=evaluation, model=models)


def table_rows(wildcards):
    table = EXPERIMENT.tables[wildcards.table]
    if table.evaluation in SKIPPED:
        return []
    return evaluation_directories(table.evaluation, [row.model for row in table.rows])


def table_settings(wildcards):
    table = EXPERIMENT.tables[wildcards.table].model_dump(
        mode="json", exclude={"evaluation"}
    )
    for row in table["rows"]:
        del row["model"]
    return json.dumps(table, sort_keys=True)


def table_skipped(wildcards):
    """The option that makes a table without rows, if what it measures is missing."""
    why = SKIPPED.get(EXPERIMENT.tables[wildcards.table].evaluation)
    return f"--skipped {shlex.quote(why)}" if why else ""


def figure_stages(wildcards):
    return expand(MODEL, stage=EXPERIMENT.figures[wildcards.figure].stages)


def figure_evaluations(wildcards):
    figure = EXPERIMENT.figures[wildcards.figure]
    return (
        evaluation_directories(figure.evaluation, figure.models)
        if figure.evaluation
        else []
    )


def figure_resolutions(wildcards):
    figure = EXPERIMENT.figures[wildcards.figure]
    return evaluation_directories(figure.resolutions, figure.models[:1])


def option(name, paths):
    """An option of a command with the paths it takes; nothing where there are none."""
    return f"--{name} {' '.join(paths)}" if paths else ""


def parents(paths):
    """The directories that files lie in."""
    return [str(Path(path).parent) for path in paths]


def reported_evaluations():
    """The evaluations behind all tables, each once."""
    tables = [EXPERIMENT.tables[name] for name in TABLES]
    found = [
        directory
        for table in tables
        for directory in evaluation_directories(
            table.evaluation, [row.model for row in table.rows]
        )
    ]
    return list(dict.fromkeys(found))
