"""Dask: many small tasks, on this machine's cores or on a cluster the user has started."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import dask
from distributed import Client, LocalCluster, as_completed

from pipeline.errors import MidframeError

Task = TypeVar("Task")
Result = TypeVar("Result")

# One thread a library in each worker process: the processes are the parallelism.
THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
# Tasks handed to the scheduler ahead of the workers: enough to keep them busy, few enough that
# neither the scheduler nor this process holds more as the work grows.
TASKS_AHEAD = 4
CONNECT_TIMEOUT = "20s"


class Cluster:
    """Where tasks run: in this process, or on the workers of a Dask client."""

    def __init__(self, client: Client | None) -> None:
        self._client = client

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result]]:
        """Yield each task with its result as it is done, in any order.

        An exception in a task is raised here, and what is not yet started is dropped.
        """
        if self._client is None:
            for task in tasks:
                yield task, function(task)
            return
        remaining = iter(tasks)
        workers = max(len(self._client.scheduler_info(n_workers=-1)["workers"]), 1)
        running: dict[Any, Task] = {}
        completed = as_completed(with_results=True)

        def submit_next() -> None:
            for task in remaining:
                future = self._client.submit(function, task, pure=False)  # type: ignore[union-attr]
                running[future.key] = task
                completed.add(future)
                return

        for _ in range(workers * TASKS_AHEAD):
            submit_next()
        for future, result in completed:
            yield running.pop(future.key), result
            submit_next()


@contextlib.contextmanager
def connect(workers: int | None = None, scheduler: str | None = None) -> Iterator[Cluster]:
    """A `Cluster` for the time of a ``with`` block.

    Parameters
    ----------
    workers : processes to start on this machine; 0: none, tasks run in this process; ``None``:
        one a core.
    scheduler : address of a running Dask scheduler, used instead; ``None``: the address in
        ``DASK_SCHEDULER_ADDRESS``, if that is set and ``workers`` is not.

    Raises
    ------
    MidframeError
        if there is no scheduler at the address.
    """
    if scheduler is None and workers is None:
        scheduler = os.environ.get("DASK_SCHEDULER_ADDRESS") or None
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECT_TIMEOUT)
        except (OSError, ValueError) as error:
            raise MidframeError(
                f"{scheduler}: no Dask scheduler answers ({error}); start one with `dask scheduler`"
            ) from None
        with client:
            yield Cluster(client)
    elif workers == 0:
        yield Cluster(None)
    else:
        environment = dask.config.get("distributed.nanny.pre-spawn-environ", {}) | dict.fromkeys(
            THREAD_COUNTS, "1"
        )
        with (
            dask.config.set({"distributed.nanny.pre-spawn-environ": environment}),
            LocalCluster(
                n_workers=workers or os.cpu_count(),
                threads_per_worker=1,
                dashboard_address=":0",
                # A task's exception is raised here; the workers need not print it as well.
                silence_logs=logging.CRITICAL,
            ) as local,
            Client(local) as client,
        ):
            yield Cluster(client)
