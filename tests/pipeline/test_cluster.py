"""Tasks run in this process, on local workers, or on a cluster that the user has started."""

import os
import platform
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster

from pipeline.cluster import TASKS_AHEAD, connect
from pipeline.errors import MidframeError
from tests.pipeline.conftest import dask_cluster


def square(number: int) -> tuple[int, int]:
    if number == 13:
        raise MidframeError("13: unlucky; choose another")
    return number * number, os.getpid()


def test_without_workers_tasks_run_here_in_order() -> None:
    with connect(workers=0) as cluster:
        results = list(cluster.map(square, range(5)))
    assert results == [(n, (n * n, os.getpid())) for n in range(5)]


def test_an_error_in_a_task_is_raised_as_it_is() -> None:
    with connect(workers=0) as cluster, pytest.raises(MidframeError, match="13: unlucky"):
        list(cluster.map(square, range(20)))


@pytest.mark.slow
def test_local_workers_share_the_tasks_and_hand_back_errors() -> None:
    with connect(workers=2) as cluster:
        results = dict(cluster.map(square, range(13)))
        assert {n: value for n, (value, _) in results.items()} == {n: n * n for n in range(13)}
        assert os.getpid() not in {process for _, process in results.values()}
        with pytest.raises(MidframeError, match="13: unlucky"):
            list(cluster.map(square, range(20)))


def count_page_faults(times: int) -> int:
    """How many a process takes that needs an array of 2 MiB again and again."""
    np.ones(2 << 20, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(2 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks for settings of glibc")
def test_local_workers_keep_the_memory_that_the_next_task_needs() -> None:
    with connect(workers=1) as cluster:
        ((_, faults),) = cluster.map(count_page_faults, [20])
    pages = (2 << 20) // resource.getpagesize()
    assert faults < 2 * pages


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_named_in_the_end() -> None:
    with (
        connect(workers=1) as cluster,
        pytest.raises(MidframeError, match=r"^7: 4 workers died while running it; is the memory"),
    ):
        list(cluster.map(die, [7]))


@pytest.mark.slow
def test_tasks_are_taken_from_a_long_list_only_as_they_are_needed() -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield 1

    with connect(workers=1) as cluster:
        results = cluster.map(square, endless())
        for _ in range(10):
            next(results)
        assert taken <= 10 + TASKS_AHEAD


def test_an_address_without_a_scheduler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.CONNECT_TIMEOUT", 1.0)
    with pytest.raises(MidframeError, match="tcp://127.0.0.1:9: no Dask scheduler answers"):  # noqa: SIM117
        with connect(scheduler="tcp://127.0.0.1:9"):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_cluster_started_by_hand_is_used_through_its_address(
    how: str, hand_started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "environment":
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", hand_started)
    with connect(scheduler=hand_started if how == "argument" else None) as cluster:
        results = dict(cluster.map(square, range(8)))
    assert {n: value for n, (value, _) in results.items()} == {n: n * n for n in range(8)}
    assert os.getpid() not in {process for _, process in results.values()}


@pytest.mark.slow
def test_a_scheduler_without_workers_is_told_from_a_slow_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.cluster.CONNECT_TIMEOUT", 1.0)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.raises(MidframeError, match=r"has no workers; start some with `dask worker tcp:"),
        connect(scheduler=empty.scheduler_address),
    ):
        pass


@pytest.mark.slow
def test_a_scheduler_that_is_killed_is_told_at_once(tmp_path: Path) -> None:
    with dask_cluster(tmp_path, 1) as (address, scheduler), connect(scheduler=address) as cluster:
        results = cluster.map(time.sleep, 50 * [0.2])
        next(results)
        scheduler.kill()
        with pytest.raises(MidframeError, match="the Dask scheduler is gone; start it again"):
            list(results)


def test_slurm_jobs_are_refused_where_none_can_be_submitted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MidframeError, match="no sbatch here"), connect(scheduler="slurm:4"):
        pass


def test_a_number_of_slurm_jobs_must_be_one() -> None:
    with pytest.raises(MidframeError, match="takes a number of jobs"), connect(scheduler="slurm:x"):
        pass
