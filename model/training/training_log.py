"""What a training reports: metrics.csv, TensorBoard, a progress line."""

import csv
import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model.network.checkpoints import write_atomically
from pipeline.progress import LOG_INTERVAL, notice

Row = dict[str, int | float | None]
COLUMNS = (
    "epoch",
    "training_loss",
    "validation_loss",
    "validation_l1",
    "validation_psnr",
    "validation_ssim",
)


def write_metrics(path: Path, rows: Sequence[Row]) -> None:
    """Write ``metrics.csv``: one row an epoch, the columns `COLUMNS`.

    Epoch 0 is the network before training and has no training loss. PSNR (dB) and SSIM are those
    of the protocol `standard`. Numbers are written in full, so equal runs give equal bytes.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


class Scalars:
    """TensorBoard events of one run; a resumed run hides those that the killed one wrote later.

    Parameters
    ----------
    directory : where the event files go.
    first_step : the step of the stage that this run begins with.
    """

    def __init__(self, directory: Path, first_step: int) -> None:
        self._writer = SummaryWriter(str(directory), purge_step=first_step)

    def add(self, values: Mapping[str, float | None], step: int) -> None:
        """Add named numbers (``group/name``) at a step of the stage."""
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still buffered."""
        self._writer.close()


class ProgressLine:
    """Progress of a stage: a bar on a terminal, elsewhere a line now and then.

    Parameters
    ----------
    steps : of the whole stage.
    done : steps that an interrupted run has done before.
    label : what is being done.
    """

    def __init__(self, steps: int, done: int, label: str) -> None:
        self._steps, self._first, self._label = steps, done, label
        self._start = self._last = time.monotonic()
        self._samples = 0
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=steps, initial=done, desc=label, unit="step", dynamic_ncols=True)

    def step(self, done: int, loss: float, samples: int, waited: float) -> None:
        """Report that ``done`` steps are done.

        Parameters
        ----------
        loss : of the step.
        samples : in the step.
        waited : seconds spent waiting for data since the start.
        """
        self._samples += samples
        now = time.monotonic()
        elapsed = max(now - self._start, 1e-9)
        text = (
            f"loss {loss:.4g}, {self._samples / elapsed:.3g} samples/s, "
            f"{100 * waited / elapsed:.1f} % waiting for data"
        )
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(done - self._bar.n)
        elif now - self._last >= LOG_INTERVAL or done == self._steps:
            self._last = now
            left = (self._steps - done) * elapsed / (done - self._first)
            notice(f"{self._label}: step {done}/{self._steps}, {text}, {left:.0f} s left")

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
