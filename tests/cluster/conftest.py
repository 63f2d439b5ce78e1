"""Skip what needs a cluster, with the reason, and one SLURM for all tests that have it."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.selection import motion
from pipeline.selection.motion import score
from pipeline.settings import MotionSettings
from tests.cluster.slurm import missing, slurm, wait_for

DENSE = MotionSettings(stride=1)
ASKED = "MIDFRAME_CLUSTER_TESTS"  # set by `make test-cluster`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and skip it where it cannot run or was not asked for."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if not here:
        return
    why = None if os.environ.get(ASKED) else "takes minutes; `make test-cluster` runs it"
    if why is None and find_spec("snakemake_executor_plugin_slurm") is None:
        why = "snakemake-executor-plugin-slurm is not installed: `make test-cluster` installs it"
    why = why or missing()
    for item in here:
        item.add_marker(pytest.mark.cluster)
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=why))


@dataclass(frozen=True)
class Slurm:
    """A running cluster, asked and told through its own commands."""

    environment: dict[str, str]

    def ask(self, *command: str) -> str:
        """What a command of the cluster prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self, rule: str, *states: str) -> list[str]:
        """Numbers of a rule's jobs, oldest first; with ``states`` given, those in one of them."""
        listed = self.ask("squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%k")
        rows = [line.split("|") for line in listed.splitlines()]
        return [
            number
            for number, state, comment in rows
            if comment.startswith(f"rule_{rule}") and (not states or state in states)
        ]

    def field(self, job: str, name: str) -> str:
        """A field of a job, as ``scontrol`` names it."""
        for word in self.ask("scontrol", "show", "job", job).split():
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
        return ""

    def state(self, job: str) -> str:
        """State of a job, such as ``TIMEOUT``."""
        return self.field(job, "JobState")

    def running(self, rule: str, timeout: float = 300.0) -> str:
        """Wait for a job of a rule to run; returns its number."""
        return wait_for(lambda: self.jobs(rule, "RUNNING"), f"no job of {rule} runs", timeout)[0]

    def ended(self, job: str, timeout: float = 120.0) -> str:
        """Wait for a job to end; returns its state."""
        over: Callable[[], str] = lambda: (  # noqa: E731
            state if (state := self.state(job)) not in ("RUNNING", "COMPLETING", "PENDING") else ""
        )
        return wait_for(over, f"job {job} does not end", timeout)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Slurm]:
    """A SLURM of two nodes with a GPU each, for all tests."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm(Path(folder)) as environment:
        yield Slurm(environment)


@pytest.fixture
def undisturbed(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Motion, one triplet a task, computed in this process."""
    monkeypatch.setattr(motion, "PARTITION_PIXELS", 1)
    score(dataset, tmp_path / "undisturbed", DENSE, workers=0)
    return tmp_path / "undisturbed"
