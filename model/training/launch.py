"""One command in several processes on this machine, as torchrun starts them."""

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pipeline.errors import MidframeError


def is_launched() -> bool:
    """Whether this process is one of several, started by `launch`, torchrun or Accelerate."""
    return "LOCAL_RANK" in os.environ


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run ``python -m midframe`` with ``arguments`` in processes that share the work.

    Each takes a GPU if there are any; otherwise they share the cores. All receive SIGTERM and
    Ctrl-C. The output shown is that of the first process, and the error of one that fails.

    Raises
    ------
    MidframeError
        if there are fewer GPUs than processes, or a process failed; its own error is printed.
    """
    gpus = torch.cuda.device_count()
    if gpus and processes > gpus:
        raise MidframeError(f"--processes: {processes} processes need a GPU each; there are {gpus}")
    if not gpus:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    # Each takes its part of the threads, see `pipeline.processor`.
    del os.environ["OMP_NUM_THREADS"]
    # Its reports of failed processes would hide the one line that matters.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        others: dict[int, Std] = dict.fromkeys(range(1, processes), Std.ALL)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            run_id=f"midframe-{os.getpid()}",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder, redirects=others),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "midframe", *arguments)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if 0 not in error.failures:
                for log in sorted(Path(folder).rglob(f"{rank}/stderr.log")):
                    sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
            raise MidframeError(
                f"process {rank} of {processes} failed (exit status {failure.exitcode}); its "
                "error is above"
            ) from None
        except SignalException as stopped:
            raise MidframeError(f"all processes were stopped by {stopped.sigval.name}") from None
