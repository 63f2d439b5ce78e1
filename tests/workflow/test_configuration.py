"""The two configurations that come with the project, and what a wrong one is told."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from pipeline.errors import MidframeError
from pipeline.extras import EXTRAS
from pipeline.settings import validate
from tests.workflow.conftest import ROOT, Experiment, Outcome
from workflow.experiment import Experiment as Settings
from workflow.experiment import reference, schema
from workflow.house import imported
from workflow.packages import entries, version


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The dry run of the paper's experiment, from nothing."""
    experiment = Experiment(tmp_path_factory.mktemp("paper"), read("config.yaml"))
    return experiment.run("--dry-run", "all")


def test_the_schema_is_that_of_the_settings_classes() -> None:
    kept = (ROOT / "workflow/schemas/config.schema.json").read_text()
    assert kept == schema(), "run `make schema`"


@pytest.mark.parametrize("name", ["config.yaml", "config.demo.yaml"])
def test_a_configuration_names_the_schema_that_editors_check_it_by(name: str) -> None:
    first, *_ = (ROOT / name).read_text().splitlines()
    prefix, _, path = first.partition("$schema=")
    assert prefix == "# yaml-language-server: "
    assert (ROOT / path).is_file()


def test_the_reference_of_settings_is_that_of_the_settings_classes() -> None:
    assert (ROOT / "docs/settings.md").read_text() == reference(), "run `make schema`"


@pytest.mark.parametrize("name", ["config.yaml", "config.demo.yaml"])
def test_the_configurations_are_valid(name: str) -> None:
    validate(Settings, read(name), name)


def test_the_papers_experiment_leaves_the_demonstrations_two_changes_off() -> None:
    for stage in validate(Settings, read("config.yaml"), "config.yaml").stages.values():
        assert stage.network is None


def jobs(outcome: Outcome, rule: str) -> list[str]:
    """First outputs of a rule's jobs."""
    return re.findall(
        rf"^rule {rule}:\n(?:    input: .*\n)?    output: ([^,\n]*)", outcome.output, re.MULTILINE
    )


def test_the_papers_graph_is_complete(paper: Outcome) -> None:
    assert paper.status == 0, paper.output
    place = "results/paper"
    davis = ["davis-2016", "davis-2017", "davis-2017-test-dev"]
    fetched = re.findall(rf"output: {place}/datasets/(\S+)", paper.output)
    assert sorted(fetched) == sorted([*davis, "davis-2016-1080p", "see-you-again"])
    assert sorted(jobs(paper, "score")) == [f"{place}/motion/{name}" for name in davis]
    assert sorted(jobs(paper, "cuts")) == [f"{place}/cuts/{name}" for name in davis]
    assert sorted(jobs(paper, "sample")) == [
        f"{place}/patches/{name}" for name in ("davis-2016", "davis-2017", "validation")
    ]
    benchmarks = ["middlebury", "ucf101", "vimeo-90k"]
    benchmarks += [f"snu-film-{subset}" for subset in ("easy", "medium", "hard", "extreme")]
    assert sorted(jobs(paper, "tabulate")) == sorted(
        f"{place}/tables/{name}/table.md" for name in ("table-1", "table-2", *benchmarks)
    )
    skipped = re.findall(
        r"^skipped: (\S+): data/\S+: no such folder; .*https?://", paper.output, re.M
    )
    assert sorted(skipped) == sorted(benchmarks)
    assert sorted(jobs(paper, "draw")) == [
        f"{place}/figures/figure-{number}" for number in (2, 3, 4, 5)
    ]


def dry_run(folder: Path, snakefile: Path) -> Outcome:
    """What a graph would run in a folder, with the configuration that the graph names."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "-s", str(snakefile)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout)


def test_a_workflow_that_snakedeploy_deploys_has_the_same_graph(tmp_path: Path) -> None:
    # What `snakedeploy deploy-workflow` makes: a copy of config/, and a module.
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/Snakefile").write_text(
        'configfile: "config/config.yaml"\n'
        "module midframe:\n"
        f"    snakefile: {str(ROOT / 'workflow/Snakefile')!r}\n"
        "    config: config\n"
        "use rule * from midframe\n"
    )
    deployed, here = (
        dry_run(tmp_path, file) for file in (tmp_path / "workflow/Snakefile", ROOT / "Snakefile")
    )
    assert deployed.status == here.status == 0, deployed.output + here.output
    assert deployed.rules == here.rules >= {"fetch", "sample", "train_stage", "report_page"}


def test_validation_patches_are_held_apart_from_the_training_patches(paper: Outcome) -> None:
    rules = r"input: (.*)\n    output: results/paper/patches/(\S+)"
    inputs = {output: found for found, output in re.findall(rules, paper.output)}
    for training in ("davis-2016", "davis-2017"):
        assert f"results/paper/patches/{training}" in inputs["validation"]
        assert "results/paper/patches" not in inputs[training]


def test_the_seven_stages_have_their_parents() -> None:
    stages = validate(Settings, read("config.yaml"), "config.yaml").stages
    parents = {
        name: stage.start and (stage.start.stage, stage.start.epoch)
        for name, stage in stages.items()
    }
    assert parents == {
        "l1-2016": None,
        "l1": ("l1-2016", 37),
        **dict.fromkeys(["l1-longer", "ssim", "vgg", "combined-5e-5", "combined-1e-5"], ("l1", 50)),
    }
    assert {stage.loss for stage in stages.values()} == {"l1", "ssim", "vgg", "combined"}
    assert [name for name, stage in stages.items() if not stage.temporal_swap] == ["l1-2016"]
    assert {stage.batch_size for stage in stages.values()} == {16}
    assert {stage.learning_rate for stage in stages.values()} == {1e-3}


def test_every_stage_is_a_job_that_waits_for_its_parent(paper: Outcome) -> None:
    stages = read("config.yaml")["stages"]
    assert len(jobs(paper, "train_stage")) == len(stages) == 7
    for name, stage in stages.items():
        if "start" in stage:
            block = re.search(
                rf"input: (.*)\n    output: results/paper/models/{name}\n", paper.output
            )
            assert block is not None
            assert f"results/paper/models/{stage['start']['stage']}" in block[1]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["pathces"], {}, "pathces: unknown key 'pathces'; did you mean 'patches'?"),
        (["stages", "l1", "epocs"], 3, "stages.l1.epocs: unknown key 'epocs'; did you mean"),
        (["stages", "l1", "epochs"], 0, "stages.l1.epochs: Input should be greater than or equal"),
        (["stages", "l1", "epochs"], "x", "stages.l1.epochs: Input should be a valid integer"),
        (["stages", "l1", "patches"], "x", "stages.l1.patches: no 'x'; there are: train"),
        (["stages", "ssim", "start", "epoch"], 99, "stages.ssim.start.epoch: stage 'l1' has"),
        (["stages", "l1", "start"], {"stage": "ssim", "epoch": 1}, "l1 starts from ssim starts"),
        (
            ["patches", "validation", "part"],
            [0.7, 0.9],
            "stages.l1: sequences 'bikes' are both in patches 'train' and in validation",
        ),
        (
            ["patches", "validation"],
            {"datasets": ["clips"], "sequences": ["b*"]},
            "stages.l1: sequences 'bikes' are both in patches 'train' and in validation",
        ),
        (["models", "l1"], {}, "models.l1: a model needs one of stage, weights"),
        (["models", "linear"], {"stage": "l1"}, "models.linear: this name stands for linear"),
        (["evaluations", "held-out", "dataset"], "x", "evaluations.held-out.dataset: no 'x'"),
        (["datasets", "a/b"], {"source": "sample-clips"}, "datasets.a/b"),
        (["figures", "losses"], {}, "figures.losses: needs stages, an evaluation or resolutions"),
        (["models", "l1"], {"stage": "l1", "command": "p {first}"}, "needs one of stage, weights"),
        (
            ["videos", "bigbuckbunny-50fps", "times"],
            1,
            "times: Input should be greater than or equal to 2",
        ),
    ],
)
def test_a_wrong_configuration_is_told_by_path_and_what_is_allowed(
    path: list[str], value: Any, said: str
) -> None:
    config = read("config.demo.yaml")
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(MidframeError, match=re.escape(said)):
        validate(Settings, config, "config.yaml")


def test_of_two_patch_sets_in_a_stage_the_later_one_is_held_apart_from_the_other() -> None:
    experiment = validate(Settings, read("config.yaml"), "config.yaml")
    apart = {name: experiment.apart_from(name) for name in experiment.patches}
    assert apart == {"davis-2016": [], "davis-2017": [], "validation": ["davis-2016", "davis-2017"]}


def test_a_typo_stops_snakemake_before_anything_runs(tmp_path: Path) -> None:
    config = read("config.demo.yaml")
    config["patches"]["train"]["sead"] = 3
    outcome = Experiment(tmp_path, config).run("all")
    assert outcome.status != 0
    assert "patches.train.sead: unknown key 'sead'; did you mean 'seed'?" in outcome.output
    assert not (tmp_path / "results").exists()


def test_a_configuration_of_ones_own_is_not_mixed_with_the_papers(tmp_path: Path) -> None:
    outcome = Experiment(tmp_path, read("config.demo.yaml")).run("--dry-run", "all")
    assert outcome.status == 0, outcome.output
    assert "davis" not in outcome.output


def pins(requirements: list[str]) -> dict[str, str]:
    lines = [line.lower().replace("_", "-") for line in requirements]
    return dict(line.split("==") for line in lines if "==" in line)


def declared() -> dict[str, dict[str, Requirement]]:
    """What pyproject.toml asks for: the core (under ``""``) and each extra, by package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        group: {
            requirement.name.lower().replace("_", "-"): requirement
            for requirement in map(Requirement, lines)
            if requirement.name != "midframe"
        }
        for group, lines in groups.items()
    }


def test_the_lock_and_the_environments_are_within_the_ranges() -> None:
    groups = declared()
    packages = entries((ROOT / "requirements.lock").read_text())
    lock = {name: version(entry) for name, entry in packages.items()}
    asked = {name: range_ for group in groups.values() for name, range_ in group.items()}
    installed_elsewhere = {*groups["cuda"], *groups["slurm"]}
    for name in asked.keys() - installed_elsewhere:
        assert lock[name] in asked[name].specifier, f"{name}: {lock[name]} is not {asked[name]}"
    for file in sorted((ROOT / "envs").glob("*.yaml")):
        (requirements,) = [
            entry["pip"]
            for entry in yaml.safe_load(file.read_text())["dependencies"]
            if isinstance(entry, dict)
        ]
        for name, pinned in pins(requirements).items():
            if name in installed_elsewhere:
                assert pinned in asked[name].specifier, f"{file.name}: {name}"
            else:
                assert pinned == lock[name], f"{file.name}: {name}"


def test_ranges_have_a_lower_end_and_no_exact_version() -> None:
    groups = declared()
    for group in groups.keys() - {"lint"}:
        for name, requirement in groups[group].items():
            operators = {part.operator for part in requirement.specifier}
            assert ">=" in operators, name
            assert "==" not in operators, name


def test_each_extra_names_what_the_code_needs_it_for() -> None:
    providers = metadata.packages_distributions()
    for extra, packages in EXTRAS.items():
        names = {providers[package][0].lower().replace("_", "-") for package in packages}
        assert names == declared()[extra].keys()


def third_party(start: Iterable[Path]) -> set[str]:
    """Distributions that files import, directly or through modules of this repository."""
    providers = metadata.packages_distributions()
    names, seen, todo = set(), set(), list(start)
    while todo:
        file = todo.pop()
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        for module in imported(ast.parse(file.read_text())):
            package = module.split(".")[0]
            if package in ("midframe", "pipeline", "model", "workflow"):
                todo.append((ROOT / module.replace(".", "/")).with_suffix(".py"))
            elif package not in sys.stdlib_module_names:
                # These belong to extras that are not installed everywhere.
                optional = package in ("cupy", "dask_jobqueue")
                found = providers.get(package, []) if optional else providers[package]
                names |= {name.lower().replace("_", "-") for name in found}
    return names


@pytest.mark.parametrize(
    ("environment", "package"),
    [("data", "pipeline"), ("model-cpu", "model"), ("model-cuda", "model")],
)
def test_an_environment_holds_what_its_commands_import(environment: str, package: str) -> None:
    content = yaml.safe_load((ROOT / "envs" / f"{environment}.yaml").read_text())
    held = pins(next(e["pip"] for e in content["dependencies"] if isinstance(e, dict)))
    needed = third_party((ROOT / package).rglob("*.py"))
    needed -= {"cupy-cuda13x", "dask-jobqueue", "onnxscript"}
    assert needed <= set(held), f"{environment} lacks {needed - set(held)}"


def test_what_the_code_imports_is_declared() -> None:
    groups = declared()
    packages = ("midframe", "pipeline", "model", "workflow")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    extras = ("", "cuda", "onnx", "slurm", *EXTRAS)
    assert third_party(files) <= {name for group in extras for name in groups[group]}


def test_the_commands_of_the_rules_explain_themselves() -> None:
    for package in ("pipeline", "model"):
        done = subprocess.run(
            [sys.executable, "-m", package, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "COMMAND" in done.stdout
