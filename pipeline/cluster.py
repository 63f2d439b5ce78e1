"""Dask: many small tasks, on this machine, in SLURM jobs, or on a cluster started by hand."""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.caches import prepare_caches
from pipeline.errors import MidframeError
from pipeline.extras import missing, needs
from pipeline.processor import THREAD_COUNTS, choose_threads
from pipeline.progress import notice

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks of a kind need the same arrays again and again. By default Dask returns each freed one to
# the system and fetches the next page by page, which takes a tenth of the time of a flow.
KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # bytes, the most that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
ENVIRONMENT = dict.fromkeys(THREAD_COUNTS, "1") | KEPT_MEMORY
# Tasks handed to the scheduler for each thread of the workers: enough to keep them busy, few enough
# that neither the scheduler nor this process holds more as the work grows. Of those that take
# seconds, and name hundreds of files, fewer.
TASKS_AHEAD, LARGE_TASKS_AHEAD = 16, 2
# Seconds after which the workers are counted again: some may have joined or left.
COUNT_INTERVAL = 5.0
CONNECT_TIMEOUT = 20.0  # seconds
# How often another worker retries a task whose worker died.
ALLOWED_DEATHS = 3
SCHEDULER = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    # What the scheduler remembers of finished tasks, and both sides of sent messages with the tasks
    # in them; unused here.
    "distributed.admin.low-level-log-length": 16,
    "distributed.admin.log-length": 100,
}
# As many jobs are asked for as end the known work in about this time. A task of which none is done
# yet counts as that long, too: each gets a process then, as far as there may be, and nothing waits
# for one job that is cancelled before it runs.
TARGET_DURATION = "2s"
# What `--scheduler slurm` asks for where neither it nor Dask's settings (`jobqueue.slurm`) say.
SLURM = "slurm"
SLURM_JOBS = 10
SLURM_JOB = {"cores": 1, "memory": "4GB"}


class Cluster:
    """Where tasks run: in this process, or on the workers of a Dask client.

    ``threads`` are those that will be there if there is work for them; that many tasks, at least,
    are taken to run at once.
    """

    def __init__(self, client: "Client | None", threads: int = 1) -> None:
        self._client, self._threads = client, threads

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        ahead: int = TASKS_AHEAD,
    ) -> Iterator[tuple[Task, Result]]:
        """Yield each task with its result as it is done, in any order.

        An exception in a task is raised here, and tasks that have not started are dropped. If a
        worker dies, another runs its task again.

        Parameters
        ----------
        ahead : tasks for each thread of the workers that exist at once.

        Raises
        ------
        MidframeError
            if a task repeatedly kills its worker, naming the task (its ``str``); or if the
            scheduler is gone.
        """
        client = self._client
        if client is None:
            for task in tasks:
                yield task, function(task)
            return
        from distributed import CancelledError, KilledWorker, as_completed

        remaining = iter(tasks)
        running: dict[Any, Task] = {}
        completed = as_completed()
        threads, counted = self._count_threads(client), time.monotonic()

        def submit(count: int) -> None:
            batch = list(islice(remaining, max(count, 0)))
            if batch:
                futures = client.map(function, batch, pure=False)
                running.update(zip((future.key for future in futures), batch, strict=True))
                completed.update(futures)

        submit(threads * ahead)
        try:
            # By batches: a message for each task would cost more than a small task itself.
            for batch in completed.batches():
                for future, result in zip(batch, client.gather(batch), strict=True):
                    yield running.pop(future.key), result
                if time.monotonic() - counted > COUNT_INTERVAL:
                    threads, counted = self._count_threads(client), time.monotonic()
                submit(threads * ahead - len(running))
        except KilledWorker as error:
            raise MidframeError(
                f"{running[error.task]}: {error.allowed_failures + 1} workers died while running "
                "it; is the memory of a worker too small, or a file damaged?"
            ) from None
        except CancelledError:
            raise MidframeError(
                "the Dask scheduler is gone; start it again, and then this command"
            ) from None

    def _count_threads(self, client: "Client") -> int:
        """Threads of all workers: that many tasks run at once."""
        return max(sum(client.nthreads().values()), self._threads)


@contextlib.contextmanager
def connect(workers: int | None = None, scheduler: str | None = None) -> Iterator[Cluster]:
    """A `Cluster` for the time of a ``with`` block.

    Parameters
    ----------
    workers : processes to start on this machine; 0: none, tasks run in this process; ``None``:
        one for each core that may be used (`pipeline.processor`), or none if Dask is not
        installed.
    scheduler : address of a running Dask scheduler, used instead; or ``"slurm"`` or ``"slurm:N"``:
        workers in at most N batch jobs, as many as the work at hand needs; ``None``: the address in
        ``DASK_SCHEDULER_ADDRESS``, if that is set and ``workers`` is not.

    Raises
    ------
    MidframeError
        if there is no scheduler at the address, or no worker is connected to it; if no batch jobs
        can be submitted here; or Dask is needed for what was asked, and is not installed.
    """
    if scheduler is None and workers is None:
        scheduler = os.environ.get("DASK_SCHEDULER_ADDRESS") or None
    if scheduler is None and workers is None and missing("cluster"):
        notice("everything in this process; for several: pip install 'midframe[cluster]'")
        workers = 0
    if scheduler is None and workers == 0:
        yield Cluster(None)
        return
    with needs("cluster", "--workers" if scheduler is None else scheduler):
        from distributed import Client
    if scheduler is not None and scheduler.split(":")[0] == SLURM:
        with _start_jobs(scheduler) as (jobs, most), Client(jobs) as client:
            yield Cluster(client, most)
    elif scheduler is not None:
        # `Cluster.map` reports in one line that the scheduler is gone.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            client = Client(scheduler, timeout=CONNECT_TIMEOUT)
        except (OSError, ValueError) as error:
            raise MidframeError(
                f"{scheduler}: no Dask scheduler answers ({error}); start one with `dask scheduler`"
            ) from None
        with client:
            try:
                client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
            except TimeoutError:
                raise MidframeError(
                    f"{scheduler}: this Dask scheduler has no workers; start some with "
                    f"`dask worker {scheduler} --nthreads 1`"
                ) from None
            # Also of workers that join later: they may stand on a read-only installation.
            client.register_worker_callbacks(prepare_caches)
            yield Cluster(client)
    else:
        if workers is None:
            threads = choose_threads()
            notice(f"worker processes, of one thread each: {threads}")
            workers = threads.count
        with _start_workers(workers) as local, Client(local) as client:
            yield Cluster(client)


@contextlib.contextmanager
def _start_workers(count: int) -> Iterator["LocalCluster"]:
    """Worker processes on this machine, of one thread each: the processes are the parallelism."""
    import dask
    from distributed import LocalCluster

    environment = dask.config.get("distributed.nanny.pre-spawn-environ", {}) | ENVIRONMENT
    with dask.config.set({**SCHEDULER, "distributed.nanny.pre-spawn-environ": environment}):
        try:
            local = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                dashboard_address=":0",
                # A task's exception is raised in `Cluster.map`; workers need not print it as well.
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:
            raise MidframeError(
                f"{count} worker processes cannot be started ({error}); is the memory full? Start "
                "fewer with --workers, or run again"
            ) from None
        with local:
            yield local


@contextlib.contextmanager
def _start_jobs(scheduler: str) -> Iterator[tuple[Any, int]]:
    """Workers in batch jobs, which come with the work and end with the block; their threads."""
    _, _, given = scheduler.partition(":")
    if given and not (given.isdigit() and int(given)):
        raise MidframeError(f"--scheduler {scheduler}: {SLURM}:N takes a number of jobs, 1 or more")
    if shutil.which("sbatch") is None:
        raise MidframeError(
            f"--scheduler {scheduler}: no sbatch here; run this where SLURM's jobs are submitted"
        )
    try:
        import dask
        from dask_jobqueue import SLURMCluster
    except ModuleNotFoundError:
        raise MidframeError(
            f"--scheduler {scheduler}: needs dask-jobqueue, which is not installed: pip install "
            "'midframe[slurm]'"
        ) from None
    asked: dict[str, Any] = {
        name: dask.config.get(f"jobqueue.{SLURM}.{name}", None) or default
        for name, default in SLURM_JOB.items()
    }
    most = int(given or SLURM_JOBS)
    with (
        dask.config.set(
            {**SCHEDULER, "distributed.scheduler.unknown-task-duration": TARGET_DURATION}
        ),
        SLURMCluster(
            **asked,
            processes=asked["cores"],
            job_script_prologue=[f"export {name}={value}" for name, value in ENVIRONMENT.items()],
            scheduler_options={"dashboard_address": ":0"},
        ) as jobs,
    ):
        # One job waits for work from the start.
        jobs.adapt(minimum_jobs=1, maximum_jobs=most, target_duration=TARGET_DURATION)
        notice(f"workers: SLURM jobs of {asked['cores']} processes, {most} at most")
        yield jobs, most * asked["cores"]
