"""A whole experiment at tiny size, run once through Snakemake, and copies of it to play with."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
Config = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a run of Snakemake printed, and how it ended."""

    status: int
    output: str

    @property
    def rules(self) -> set[str]:
        """Names of the rules that ran, or would have, without the targets that only collect."""
        lines = self.output.splitlines()
        if "Job stats:" not in lines:
            return set()
        names = set()
        for line in lines[lines.index("Job stats:") + 3 :]:
            if not line.strip() or line.startswith("total"):
                break
            names.add(line.split()[0])
        return names - {"default", "all", "dataset", "train", "evaluate", "inspect"}


@dataclass(frozen=True)
class Experiment:
    """A folder with a configuration, in which Snakemake runs the repository's Snakefile."""

    folder: Path
    config: Config

    def command(self, *arguments: str, config: Config | None = None) -> list[str]:
        """The command line of a run, with the configuration written down."""
        file = self.folder / "config.yaml"
        file.write_text(yaml.safe_dump(config or self.config))
        return [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
            *("--configfile", str(file), "--directory", str(self.folder)),
            *("--workflow-profile", "none", "--cores", "2", *arguments),
        ]

    def run(self, *arguments: str, config: Config | None = None) -> Outcome:
        """Run Snakemake to its end."""
        return self.run_command(self.command(*arguments, config=config))

    def run_command(self, command: list[str]) -> Outcome:
        """Run a command that `command` has made to its end."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Outcome(done.returncode, done.stdout)

    def would_run(self, config: Config | None = None, *targets: str) -> set[str]:
        """Names of the rules that a run would execute."""
        outcome = self.run("--dry-run", *targets, config=config)
        assert outcome.status == 0, outcome.output
        return outcome.rules

    def changed(self, *path: str, to: Any) -> Config:
        """The configuration with another value at one place."""
        config = deepcopy(self.config)
        place = config
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to
        return config

    def kill_when(self, happens: Callable[[str], bool], *arguments: str, config: Config) -> str:
        """Start a run and kill all its processes as soon as what it printed so far is enough."""
        process = subprocess.Popen(
            self.command(*arguments, config=config),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        printed = ""
        assert process.stdout is not None
        for line in process.stdout:
            printed += line
            if happens(printed):
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        process.wait()
        return printed


def tiny_experiment(folder: Path, small_frames: Path, clips: Path) -> Experiment:
    """The whole graph at a size of seconds, in a folder where nothing has run yet."""
    videos = folder / "videos"
    videos.mkdir()
    shutil.copyfile(clips / "carphone_pristine.mp4", videos / "carphone.mp4")
    network = {"kernel_length": 5, "width": 0.0625, "initialisation": "linear", "normalise": True}
    small = {"batch_size": 2, "crop": 32, "epochs": 1}
    config: Config = {
        "results": "results",
        "datasets": {
            "frames": {"source": "folder", "path": str(small_frames)},
            "video": {"source": "folder", "path": str(videos)},
        },
        "patches": {
            "train": {
                "datasets": ["frames"],
                "sequences": ["cut"],
                "patch_size": 48,
                "motion_scale": 1.0,
                "tries": 4,
                "max_taken": 2,
            },
            "validation": {
                "datasets": ["frames"],
                "sequences": ["ride"],
                "split": "validation",
                "patch_size": 48,
                "window": "centre",
                "cut_threshold": 1.0,
            },
        },
        "stages": {
            "first": {"patches": "train", "validation": "validation", "network": network, **small},
            "second": {
                "patches": "train",
                "validation": "validation",
                "start": {"stage": "first", "epoch": 1},
                "loss": "ssim",
                **small,
            },
        },
        "models": {"first": {"stage": "first"}, "second": {"stage": "second"}},
        "evaluations": {
            "held-out": {"dataset": "frames", "sequences": ["ride"], "pictures": ["ride:0"]}
        },
        "tables": {
            "scores": {
                "evaluation": "held-out",
                "rows": [
                    {"model": "first", "label": "L1"},
                    {"model": "second", "label": "SSIM"},
                    {"model": "linear", "label": "linear"},
                ],
            }
        },
        "figures": {
            "losses": {"stages": ["first", "second"]},
            "pictures": {"evaluation": "held-out", "models": ["linear", "second"]},
        },
        "videos": {"smooth": {"dataset": "video", "file": "source/carphone.mp4", "model": "first"}},
    }
    return Experiment(folder, config)


@pytest.fixture(scope="session")
def finished(
    small_frames: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory
) -> Experiment:
    """The tiny experiment after `snakemake all`."""
    experiment = tiny_experiment(tmp_path_factory.mktemp("experiment"), small_frames, clips)
    outcome = experiment.run("all")
    assert outcome.status == 0, outcome.output
    return experiment


@pytest.fixture
def experiment(finished: Experiment, tmp_path: Path) -> Experiment:
    """A copy of the finished experiment that a test may change."""
    shutil.copytree(finished.folder, tmp_path / "experiment", symlinks=True)
    return Experiment(tmp_path / "experiment", finished.config)
