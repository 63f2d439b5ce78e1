"""Workers in SLURM jobs, lost workers, and a scheduler that is started again."""

import threading
from pathlib import Path

import pytest

from pipeline.errors import MidframeError
from pipeline.selection.motion import score
from tests.cluster.conftest import DENSE, Slurm
from tests.cluster.slurm import wait_for
from tests.conftest import directory_bytes
from tests.pipeline.conftest import dask_cluster


def test_slurm_jobs_compute_the_same_bytes_though_one_of_them_is_cancelled(
    cluster: Slurm,
    dataset: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.chdir(tmp_path)
    jobs: list[str] = []

    def workers() -> list[str]:
        listed = cluster.ask("squeue", "--noheader", "--states=R", "--name=dask-worker", "-o", "%i")
        return listed.split()

    def cancel() -> None:
        jobs.extend(wait_for(workers, "no worker runs", 120))
        cluster.ask("scancel", jobs[0])

    canceller = threading.Thread(target=cancel)
    canceller.start()
    score(dataset, tmp_path / "motion", DENSE, scheduler="slurm:2")
    canceller.join(120)
    assert cluster.state(jobs[0]) == "CANCELLED"
    assert directory_bytes(tmp_path / "motion") == directory_bytes(undisturbed)
    wait_for(lambda: not workers(), "the jobs do not end with the command", 60)


def test_after_a_restart_of_the_scheduler_the_same_command_goes_on(
    dataset: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "motion"
    (tmp_path / "first").mkdir()
    with dask_cluster(tmp_path / "first", 1) as (address, scheduler):

        def kill() -> None:
            wait_for(lambda: list(tmp_path.glob(".motion.progress-*/*")), "nothing is done", 120)
            scheduler.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(MidframeError, match="scheduler"):
            score(dataset, out, DENSE, scheduler=address)
        killer.join(120)
    assert not out.exists()
    (tmp_path / "second").mkdir()
    with dask_cluster(tmp_path / "second", 1) as (address, _):
        score(dataset, out, DENSE, scheduler=address)
    assert directory_bytes(out) == directory_bytes(undisturbed)
