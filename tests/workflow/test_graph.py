"""What runs again after a change, and what does not."""

import html
import json
import os
import shutil
import socket
from copy import deepcopy
from pathlib import Path

import pytest

from model.network.checkpoints import read_description
from model.reporting.loss_curve import TRAINING_FORMAT_VERSION
from pipeline.provenance import read_manifest
from tests.conftest import directory_bytes
from tests.model.network.test_vgg import made_up_state, save
from tests.workflow.conftest import ROOT, Experiment
from tests.workflow.test_configuration import read

TABLES = {"tabulate", "report_page"}
EVALUATION = {"evaluate_model", "draw", *TABLES}
TRAINING = {"train_stage", "double_frame_rate", *EVALUATION}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_whole_graph_leaves_what_it_promises(finished: Experiment) -> None:
    results = finished.folder / "results"
    for name in (
        "patches/train/patches.zarr",
        "patches/train/candidates.parquet",
        "inspection/train/index.html",
        "inspection/train/contact_sheet.png",
        "models/second/weights/epoch-0001.safetensors",
        "models/second/metrics.csv",
        "evaluations/held-out/linear/scores.csv",
        "tables/scores/table.md",
        "figures/losses/loss_curve.png",
        "videos/smooth.mp4",
        "report.html",
        "logs/train/first.log",
        "benchmarks/train/first.tsv",
    ):
        assert (results / name).exists(), name


def test_a_second_run_has_nothing_to_do(finished: Experiment) -> None:
    assert finished.would_run() == set()


def test_a_touch_of_the_code_runs_nothing(experiment: Experiment) -> None:
    files = [*ROOT.glob("pipeline/*.py"), *ROOT.glob("model/*.py")]
    times = {file: file.stat() for file in files}
    try:
        for file in files:
            os.utime(file)
        assert experiment.would_run() == set()
    finally:
        for file, stat in times.items():
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(("key", "value"), [("seed", 1), ("patch_size", 40), ("tries", 3)])
def test_another_sampling_samples_again_and_computes_no_flow(
    experiment: Experiment, key: str, value: int
) -> None:
    changed = experiment.changed("patches", "train", key, to=value)
    assert experiment.would_run(changed) == {"sample", "inspect_patches", *TRAINING}


def test_another_flow_scores_again_and_keeps_the_cuts(experiment: Experiment) -> None:
    changed = {**experiment.config, "motion": {"max_flow": 3}}
    assert experiment.would_run(changed) == {"score", "sample", "inspect_patches", *TRAINING}


def test_another_learning_rate_trains_that_stage_and_what_follows(
    experiment: Experiment,
) -> None:
    changed = experiment.changed("stages", "second", "learning_rate", to=1e-4)
    outcome = experiment.run("--dry-run", config=changed)
    assert outcome.rules == {"train_stage", *EVALUATION}
    assert "output: results/models/second" in outcome.output
    assert "output: results/models/first" not in outcome.output
    changed = experiment.changed("stages", "first", "learning_rate", to=1e-4)
    outcome = experiment.run("--dry-run", config=changed)
    assert outcome.rules == TRAINING
    assert "output: results/models/second" in outcome.output


def test_another_protocol_makes_the_table_again_and_no_prediction(experiment: Experiment) -> None:
    changed = experiment.changed("tables", "scores", "protocols", to=["niklaus"])
    assert experiment.would_run(changed) == TABLES


def test_a_measure_added_to_kept_predictions_makes_no_prediction(experiment: Experiment) -> None:
    kept = experiment.changed("evaluations", "held-out", "keep", to="float")
    target = "results/evaluations/held-out/linear"
    outcome = experiment.run(target, config=kept)
    assert outcome.status == 0, outcome.output
    assert outcome.rules == {"predict_model", "evaluate_model"}
    assert experiment.would_run(kept, target) == set()
    more = deepcopy(kept)
    more["evaluations"]["held-out"]["perceptual"] = ["vmaf"]
    assert experiment.would_run(more, target) == {"evaluate_model"}


def test_another_evaluation_trains_nothing(experiment: Experiment) -> None:
    changed = experiment.changed("evaluations", "held-out", "crop", to=64)
    assert experiment.would_run(changed) == EVALUATION


def test_an_edit_of_a_stages_code_runs_that_stage(experiment: Experiment, tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    for name in ("Snakefile", "workflow", "pipeline", "model", "envs"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy2(source, copy / name)
    original = experiment.command("--dry-run", "all")
    snakefile = str(ROOT / "Snakefile")
    moved = [str(copy / "Snakefile") if part == snakefile else part for part in original]
    with (copy / "model" / "reporting" / "tables.py").open("a") as file:
        file.write("\n# a comment\n")
    assert experiment.run_command(moved).rules == TABLES


def test_new_files_in_the_users_folder_are_noticed(
    experiment: Experiment, small_frames: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(small_frames, tmp_path / "frames"))
    config = experiment.changed("datasets", "frames", "path", to=str(folder))
    assert "fetch" in experiment.would_run(config)
    outcome = experiment.run("results/datasets/frames", config=config)
    assert outcome.status == 0, outcome.output
    assert experiment.would_run(config, "results/datasets/frames") == set()
    shutil.copytree(folder / "ride", folder / "another")
    assert experiment.would_run(config, "results/datasets/frames") == {"fetch"}


def test_targets_run_their_part_of_the_graph_only(finished: Experiment, tmp_path: Path) -> None:
    fresh = Experiment(tmp_path, finished.config)
    assert fresh.would_run(None, "dataset") == {"fetch", "score", "cuts", "sample"}
    assert fresh.would_run(None, "inspect") == {
        *("fetch", "score", "cuts", "sample", "inspect_patches")
    }
    assert fresh.would_run(None, "train") == {"fetch", "score", "cuts", "sample", "train_stage"}


def test_finished_weights_are_evaluated_without_dataset_or_training_jobs(
    finished: Experiment, tmp_path: Path
) -> None:
    weights = finished.folder / "results/models/second/weights/epoch-0001.safetensors"
    config = {
        **finished.config,
        "patches": {},
        "stages": {},
        "models": {"second": {"weights": str(weights)}},
        "figures": {},
        "videos": {},
    }
    config["tables"] = {
        "scores": {
            "evaluation": "held-out",
            "rows": [{"model": name, "label": name} for name in ("second", "linear")],
        }
    }
    fresh = Experiment(tmp_path, config)
    assert fresh.would_run(None, "evaluate") == {"fetch", "evaluate_model", "tabulate"}


def test_finished_networks_are_evaluated_again_without_dataset_or_training_jobs(
    experiment: Experiment,
) -> None:
    for part in ("evaluations", "tables", "figures"):
        shutil.rmtree(experiment.folder / "results" / part)
    assert experiment.would_run(None, "evaluate") == {"evaluate_model", "tabulate", "draw"}


def test_predictions_are_scored_under_every_protocol_once(experiment: Experiment) -> None:
    evaluations = experiment.folder / "results/evaluations"
    before = directory_bytes(evaluations)
    changed = experiment.changed("tables", "scores", "protocols", to=["standard", "niklaus"])
    outcome = experiment.run("evaluate", config=changed)
    assert outcome.status == 0, outcome.output
    assert outcome.rules == {"tabulate"}
    table = (experiment.folder / "results/tables/scores/table.md").read_text()
    assert "`standard` | L1" in table
    assert "as_published" not in table
    assert directory_bytes(evaluations) == before


def test_an_absent_benchmark_is_skipped_with_where_to_get_it(
    experiment: Experiment, small_frames: Path
) -> None:
    config = deepcopy(experiment.config)
    config["evaluations"]["middlebury"] = {"folder": "middlebury", "layout": "middlebury"}
    config["tables"]["middlebury"] = {
        "evaluation": "middlebury",
        "title": "Middlebury",
        "rows": [{"model": name, "label": name} for name in ("second", "linear")],
    }
    config["figures"]["middlebury"] = {"evaluation": "middlebury", "models": ["linear"]}
    outcome = experiment.run("all", config=config)
    assert outcome.status == 0, outcome.output
    assert outcome.rules == TABLES
    why = "middlebury: no such folder; Middlebury's other-color-allframes.zip"
    assert f"skipped: middlebury: {why}" in outcome.output
    table = experiment.folder / "results/tables/middlebury"
    assert f"Skipped: {why}" in (table / "table.md").read_text()
    assert len((table / "table.csv").read_text().splitlines()) == 1
    page = html.unescape((experiment.folder / "results/report.html").read_text())
    assert f"<li>middlebury: {why}" in page

    images = sorted((small_frames / "ride").iterdir())
    names = ("frame10.png", "frame10i11.png", "frame11.png")
    (experiment.folder / "middlebury/Walking").mkdir(parents=True)
    for image, name in zip(images, names, strict=False):
        shutil.copyfile(image, experiment.folder / "middlebury/Walking" / name)
    outcome = experiment.run("all", config=config)
    assert outcome.status == 0, outcome.output
    assert outcome.rules == {"evaluate_model", "tabulate", "draw", "report_page"}
    assert "1 triplets of 1 sequence" in (table / "table.md").read_text()
    assert "Skipped" not in (experiment.folder / "results/report.html").read_text()


def test_a_download_that_fails_stops_its_branch_alone_until_a_file_stands_in_its_place(
    experiment: Experiment, clips: Path
) -> None:
    config = deepcopy(experiment.config)
    with socket.socket() as closed:  # bound, but nobody listens: every connection is refused
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/video.mp4"
        config["datasets"]["download"] = {"source": "youtube", "address": address}
        config["evaluations"]["download"] = {"dataset": "download", "stride": 50}
        config["tables"]["download"] = {
            "evaluation": "download",
            "rows": [{"model": "linear", "label": "linear"}],
        }
        config["tables"]["another"] = {**config["tables"]["scores"], "title": "Another"}
        outcome = experiment.run("--keep-going", "all", config=config)
    tables = experiment.folder / "results/tables"
    assert outcome.status != 0
    assert f"midframe: error: {address}: cannot be downloaded" in outcome.output
    assert "name the file as the dataset's path" in outcome.output
    assert (tables / "another/table.md").is_file()
    assert not (tables / "download").exists()

    config["datasets"]["download"]["path"] = str(clips / "carphone_pristine.mp4")
    outcome = experiment.run("all", config=config)
    assert outcome.status == 0, outcome.output
    assert outcome.rules == {"fetch", "evaluate_model", "tabulate", "report_page"}
    assert (tables / "download/table.md").is_file()


def test_the_seven_stages_of_the_paper_train(experiment: Experiment, tmp_path: Path) -> None:
    first = experiment.config["stages"]["first"]
    stages = read("config.yaml")["stages"]
    for stage in stages.values():
        stage |= {key: first[key] for key in ("patches", "validation", "batch_size", "crop")}
        stage |= {"epochs": 2, "frames": "frames", "visual_tests": ["cut:0", "ride:3"]}
        if "start" in stage:
            stage["start"]["epoch"] = 2 if stage["start"]["stage"] == "l1" else 1
        else:
            stage["network"] = first["network"]
    config = {
        **{key: experiment.config[key] for key in ("results", "datasets", "patches")},
        "stages": stages,
        "vgg": str(save(made_up_state(), tmp_path)),
    }
    outcome = experiment.run("train", config=config)
    assert outcome.status == 0, outcome.output
    assert outcome.rules == {"train_stage"}
    for name, stage in stages.items():
        model = experiment.folder / "results/models" / name
        manifest = read_manifest(model, "model", TRAINING_FORMAT_VERSION)
        assert manifest["settings"]["loss"] == stage["loss"]
        assert manifest["last_epoch"]["epoch"] == 2
        assert ("vgg" in manifest["inputs"]) == (stage["loss"] in ("vgg", "combined"))
        parent = read_description(model / "weights/epoch-0002.safetensors").provenance["parent"]
        assert (parent and parent["epoch"]) == stage.get("start", {}).get("epoch")
        for place in ("seen-in-training/cut-00000", "held-out/ride-00003", "held-out"):
            assert (model / "visual" / place / "epoch-0002.png").is_file()


def test_a_stage_is_shared_by_as_many_processes_as_its_resource_says(
    experiment: Experiment,
) -> None:
    changed = experiment.changed("stages", "second", "learning_rate", to=1e-4)
    many = ["--resources", "gpu=2", "--set-resources", "train_stage:gpu=2"]
    target = "results/models/second"
    outcome = experiment.run(target, *many, config=changed)
    assert outcome.status == 0, outcome.output
    assert "training second: 2 processes share every batch" in outcome.output
    assert (experiment.folder / target / "weights/epoch-0001.safetensors").is_file()
    assert experiment.would_run(changed, target) == set()


def test_a_stage_that_was_killed_leaves_nothing_stale(experiment: Experiment) -> None:
    changed = experiment.changed("stages", "first", "seed", to=5)
    printed = experiment.kill_when(
        lambda text: "training first: epoch 0" in text, "all", config=changed
    )
    assert "training first: epoch 0" in printed
    assert not (experiment.folder / "results/models/first").exists()
    assert experiment.run("--unlock", config=changed).status == 0
    assert experiment.would_run(changed) == TRAINING
    before = (experiment.folder / "results/evaluations/held-out/second/scores.csv").read_text()
    outcome = experiment.run("--rerun-incomplete", "all", config=changed)
    assert outcome.status == 0, outcome.output
    assert outcome.rules == TRAINING
    after = (experiment.folder / "results/evaluations/held-out/second/scores.csv").read_text()
    assert after != before
    assert experiment.would_run(changed) == set()


def test_new_sampling_reaches_the_tables(experiment: Experiment) -> None:
    changed = experiment.changed("patches", "train", "seed", to=2)
    manifest = experiment.folder / "results/models/second/manifest.json"
    before = json.loads(manifest.read_text())["inputs"]
    outcome = experiment.run("all", config=changed)
    assert outcome.status == 0, outcome.output
    assert "score" not in outcome.rules
    assert json.loads(manifest.read_text())["inputs"] != before
    assert experiment.would_run(changed) == set()
