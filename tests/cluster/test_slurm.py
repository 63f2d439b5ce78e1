"""The graph as batch jobs of a real SLURM: what they ask for, and that no fault loses anything."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.conftest import Slurm
from tests.cluster.slurm import wait_for
from tests.conftest import directory_bytes
from tests.workflow.conftest import ROOT, Experiment, tiny_experiment

pytestmark = pytest.mark.timeout(600)

# What two nodes of this machine have, instead of the profile's numbers for a real cluster; how they
# grow from attempt to attempt stays.
SMALL = {
    "default-resources": ["mem_mb=1500*attempt", "runtime=20*attempt"],
    "set-resources": [
        "score:runtime=20*attempt",
        "train_stage:runtime=30*attempt",
        "train_stage:mem_mb=2000*attempt",
    ],
    "set-threads": [
        f"{rule}=2"
        for rule in (
            *("fetch", "score", "cuts", "sample"),
            *("train_stage", "evaluate_model", "double_frame_rate"),
        )
    ],
}


def command(experiment: Experiment, *targets: str, **changed: list[str]) -> list[str]:
    """``snakemake --profile profiles/slurm``, with jobs of a size that fits."""
    made = experiment.command(*targets)
    del made[made.index("--cores") : made.index("--cores") + 2]
    made += ["--profile", str(ROOT / "profiles" / "slurm")]
    # Ask early and by squeue: a real cluster has a database of finished jobs.
    made += ["--slurm-init-seconds-before-status-checks", "1", "--slurm-status-command", "squeue"]
    made += ["--slurm-no-account", "--latency-wait", "10"]
    for option, values in SMALL.items():
        made += [f"--{option}", *values, *changed.get(option.replace("-", "_"), [])]
    return made


@pytest.fixture(scope="module")
def finished(
    cluster: Slurm, small_frames: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory
) -> Experiment:
    """The tiny experiment after its graph ran as batch jobs."""
    experiment = tiny_experiment(tmp_path_factory.mktemp("batch"), small_frames, clips)
    done = subprocess.run(
        command(experiment, "all"),
        env=cluster.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout
    return experiment


def test_the_whole_graph_runs_as_batch_jobs(finished: Experiment, cluster: Slurm) -> None:
    for name in ("report.html", "tables/scores/table.md", "videos/smooth.mp4"):
        assert (finished.folder / "results" / name).is_file(), name
    assert finished.would_run() == set()
    for rule in ("fetch", "score", "cuts", "sample", "train_stage", "report_page"):
        jobs = cluster.jobs(rule)
        assert jobs, rule
        assert {cluster.state(job) for job in jobs} == {"COMPLETED"}


def test_jobs_ask_for_a_gpu_memory_and_time_as_the_profile_says(
    finished: Experiment, cluster: Slurm
) -> None:
    for rule in ("train_stage", "evaluate_model", "double_frame_rate"):
        for job in cluster.jobs(rule):
            assert "gres:gpu:1" in cluster.field(job, "TresPerJob"), rule
    for rule in ("score", "sample", "tabulate"):
        for job in cluster.jobs(rule):
            assert cluster.field(job, "TresPerJob") == "", rule
            assert cluster.field(job, "MinMemoryNode") == "1500M"
            assert cluster.field(job, "TimeLimit") == "00:20:00"
    first = cluster.jobs("train_stage")[0]
    assert cluster.field(first, "MinMemoryNode") == "2000M"
    assert cluster.field(first, "TimeLimit") == "00:30:00"
    assert cluster.field(first, "NumCPUs") == "2"


@pytest.fixture
def disturbed(
    cluster: Slurm, finished: Experiment, small_frames: Path, clips: Path, tmp_path: Path
) -> Iterator[tuple[Experiment, "subprocess.Popen[str]"]]:
    """The same graph up to a network, while it runs; sampling has too little memory at first."""
    experiment = tiny_experiment(tmp_path, small_frames, clips)
    process = subprocess.Popen(
        command(
            experiment,
            *("results/models/first", "results/cuts/frames"),
            set_resources=["sample:mem_mb=60 if attempt == 1 else 1500"],
        ),
        env=cluster.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield experiment, process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def processes_of(command: str, folder: Path) -> list[psutil.Process]:
    """Processes that run a command of ours in a folder, wherever the cluster started them."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(folder)
        and process.info["cmdline"][1:4] == ["-m", *command.split()]
    ]


def test_jobs_that_are_cancelled_out_of_memory_or_out_of_time_lose_nothing(
    cluster: Slurm,
    finished: Experiment,
    disturbed: tuple[Experiment, "subprocess.Popen[str]"],
) -> None:
    experiment, snakemake = disturbed
    before = {rule: len(cluster.jobs(rule)) for rule in ("score", "sample", "train_stage")}

    cancelled = cluster.running("score")
    cluster.ask("scancel", cancelled)
    assert cluster.ended(cancelled) == "CANCELLED"

    wait_for(lambda: len(cluster.jobs("sample")) > before["sample"], "nothing is sampled", 300)
    starved = cluster.jobs("sample")[before["sample"]]
    assert cluster.ended(starved) in ("OUT_OF_MEMORY", "CANCELLED", "FAILED")

    late = cluster.running("train_stage")
    # It hangs, and SLURM is told that its time is over: no minutes of waiting.
    (training,) = wait_for(
        lambda: processes_of("model train", experiment.folder), "nothing is trained", 60
    )
    training.suspend()
    cluster.ask("scontrol", "update", f"JobId={late}", "EndTime=now+1")
    assert cluster.ended(late) == "TIMEOUT"

    printed, _ = snakemake.communicate(timeout=300)
    assert snakemake.returncode == 0, printed
    for rule, count in before.items():
        states = [cluster.state(job) for job in cluster.jobs(rule)[count:]]
        assert states[0] != "COMPLETED", (rule, states)
        assert states[-1] == "COMPLETED", (rule, states)
    # Twice the memory and the time at the second attempt.
    again = cluster.jobs("train_stage")[-1]
    assert cluster.field(again, "MinMemoryNode") == "4000M"
    assert cluster.field(again, "TimeLimit") == "01:00:00"

    for stage in ("motion/frames", "cuts/frames", "patches/train", "patches/validation"):
        whole = directory_bytes(finished.folder / "results" / stage)
        assert directory_bytes(experiment.folder / "results" / stage) == whole, stage
    weights = "models/first/weights/epoch-0001.safetensors"
    assert (experiment.folder / "results" / weights).read_bytes() == (
        finished.folder / "results" / weights
    ).read_bytes()
    left = {path.name for path in (experiment.folder / "results").rglob(".*")}
    assert left <= {".snakemake_timestamp"}
