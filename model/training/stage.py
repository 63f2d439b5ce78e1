"""The training loop: read `Stage.run` from top to bottom.

One process or many (`torchrun`, `accelerate launch`) run the same code: each takes its share of
every batch, and the first one writes.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from model.network.architecture import SepConv, place
from model.network.checkpoints import save_network
from model.network.losses import make_loss
from model.settings import TrainingSettings
from model.training.parts import Parts
from model.training.patches import Augmentation, Batch, ReadAhead, batches, epoch_order
from model.training.resume import Progress, StopRequest
from model.training.training_log import ProgressLine, Row, Scalars, write_metrics
from model.training.validation import to_frames, validate
from model.training.visual_tests import VisualTests
from pipeline.errors import MidframeError
from pipeline.progress import notice
from pipeline.store.patch_store import PatchStore


@dataclass
class Position:
    """How far a stage is."""

    epoch: int = 1
    steps: int = 0  # done in this epoch
    loss_sum: float = 0.0  # over the samples of this epoch so far
    samples: int = 0  # of this epoch so far
    rows: list[Row] = field(default_factory=list)  # of metrics.csv


class Stage:
    """A stage in training: all that changes while it runs, and the steps that change it."""

    def __init__(
        self,
        name: str,
        settings: TrainingSettings,
        accelerator: Accelerator,
        network: SepConv,
        features: torch.nn.Module | None,
        training_store: PatchStore,
        validation_store: PatchStore,
        visual_tests: VisualTests,
    ) -> None:
        self.name, self.settings, self.accelerator = name, settings, accelerator
        self.training_store, self.validation_store = training_store, validation_store
        self.visual_tests = visual_tests
        for module in (network, features):
            if module is not None:
                place(module, accelerator.device)
        self.loss = make_loss(settings, features)
        self.network = network
        # `model` is the network, wrapped for its processes and precision.
        self.model, self.optimizer = accelerator.prepare(
            self.network, _optimizer(settings, network)
        )
        self.parts: Parts | None = None
        # Of this run and of those that it resumes: they decide the order of sums.
        self.threads = [torch.get_num_threads()]
        self.position = Position()
        self.steps_an_epoch = math.ceil(len(training_store) / settings.batch_size)
        self.steps = settings.epochs * self.steps_an_epoch

    @property
    def done(self) -> int:
        """Steps done, of `steps`."""
        return (self.position.epoch - 1) * self.steps_an_epoch + self.position.steps

    def run(
        self,
        progress: Progress,
        stop: StopRequest,
        state_seconds: float,
        provenance: Mapping[str, Any],
    ) -> None:
        """Train from the newest state, or from the start, to the end of the last epoch.

        One process on a CPU takes each batch in parts, a thread each (`model.training.parts`).

        Parameters
        ----------
        progress : where states and results go.
        stop : asks for the state to be saved and the run to end.
        state_seconds : seconds between two states.
        provenance : written into the weights, beside the epoch and the numbers of threads.
        """
        alone = self.accelerator.num_processes == 1 and self.accelerator.device.type == "cpu"
        with (
            Parts(self.model, self.settings.batch_size, self.threads[0]) if alone else nullcontext()
        ) as self.parts:
            self._run(progress, stop, state_seconds, provenance)

    def _run(
        self,
        progress: Progress,
        stop: StopRequest,
        state_seconds: float,
        provenance: Mapping[str, Any],
    ) -> None:
        self._restore(progress)
        writes = self.accelerator.is_main_process
        log = Scalars(progress.results("tensorboard"), self.done) if writes else None
        line = ProgressLine(self.steps, self.done, f"training {self.name}") if writes else None
        if not self.position.rows:
            self._finish_epoch(0, progress, log, provenance)
        waited = 0.0
        last_state = time.monotonic()

        while self.position.epoch <= self.settings.epochs:
            self.model.train()
            with ReadAhead(self._rest_of_epoch()) as reader:
                for batch in reader:
                    rate = learning_rate(self.settings, self.done, self.steps)
                    due = time.monotonic() - last_state > state_seconds
                    loss, stopping, due = self._step(batch, rate, stop, due)
                    if log and line:
                        log.add({"step/loss": loss, "step/learning_rate": rate}, self.done)
                        line.step(self.done, loss, batch.total, waited + reader.waited)
                    if stopping or due:
                        self._save(progress)
                        last_state = time.monotonic()
                    if stopping:
                        raise MidframeError(
                            f"training {self.name}: stopped as asked in epoch "
                            f"{self.position.epoch}, after step {self.done} of {self.steps}; the "
                            "state is saved, and the same command resumes from it"
                        )
                waited += reader.waited
            self._finish_epoch(self.position.epoch, progress, log, provenance)
            self.position = Position(epoch=self.position.epoch + 1, rows=self.position.rows)

        if log and line:
            log.close()
            line.close()

    def _rest_of_epoch(self) -> Iterator[Batch]:
        """This process's share of the batches that the epoch still needs."""
        settings, epoch = self.settings, self.position.epoch
        augmentation = Augmentation(
            settings.crop,
            settings.crop_position,
            settings.augment,
            settings.temporal_swap,
            settings.seed,
        )
        return batches(
            self.training_store,
            epoch_order(len(self.training_store), settings.seed, epoch),
            settings.batch_size,
            lambda triplet, sample: augmentation.apply(triplet, epoch, sample),
            first=self.position.steps,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )

    def _step(
        self, batch: Batch, rate: float, stop: StopRequest, due: bool
    ) -> tuple[float, bool, bool]:
        """One step of the optimiser.

        Returns
        -------
        loss : mean over the whole batch.
        stopping, due : whether any process was asked to stop, and whether the first one is due to
            save a state; all processes get the same answers.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        first, middle, third = to_frames(batch.triplets, self.accelerator.device)
        self.optimizer.zero_grad()
        if self.parts is not None:
            loss = self.parts.backward(first, third, lambda whole: self.loss(whole, middle))
        else:
            loss = self.loss(self.model(first, third).float(), middle) * batch.share
            # Processes add up their shares of the mean, but their gradients are averaged.
            self.accelerator.backward(loss * self.accelerator.num_processes)
        value, stopping, due_now = self._shared(loss, stop.signal is not None, due)
        if not math.isfinite(value):
            samples = ", ".join(str(sample) for sample in batch.samples)
            raise MidframeError(
                f"training {self.name}: the loss is {value} in epoch {self.position.epoch}, step "
                f"{self.done + 1} (samples {samples}); lower learning_rate or use precision fp32"
            )
        self.optimizer.step()
        self.position.steps += 1
        self.position.samples += batch.total
        self.position.loss_sum += value * batch.total
        return value, stopping, due_now

    def _shared(self, loss: Tensor, stopping: bool, due: bool) -> tuple[float, bool, bool]:
        """Sum of the losses of all processes, and whether any is stopping, or the first is due."""
        due = due and self.accelerator.is_main_process
        if self.accelerator.num_processes == 1:
            return loss.item(), stopping, due
        mine = torch.tensor([0.0, stopping, due], device=loss.device)
        mine[0] = loss.detach()
        total = self.accelerator.reduce(mine, "sum").tolist()
        return total[0], total[1] > 0, total[2] > 0

    def _finish_epoch(
        self, epoch: int, progress: Progress, log: Scalars | None, provenance: Mapping[str, Any]
    ) -> None:
        """Validate, and write the results of the epoch; epoch 0 is before the training."""
        settings, position = self.settings, self.position
        scores = validate(
            self.accelerator, self.network, self.loss, self.validation_store, settings, self.parts
        )
        training_loss = position.loss_sum / position.samples if epoch else None
        row: Row = {"epoch": epoch, "training_loss": training_loss, **scores}
        position.rows.append(row)
        if log is None:
            return
        if epoch and (epoch % settings.save_every == 0 or epoch == settings.epochs):
            save_network(
                self.network,
                progress.results("weights") / f"epoch-{epoch:04d}.safetensors",
                {**provenance, "epoch": epoch, "threads": self.threads},
            )
        self.visual_tests.write(self.network, epoch, progress.results("visual"))
        write_metrics(progress.results("") / "metrics.csv", position.rows)
        log.add({f"epoch/{name}": row[name] for name in row if name != "epoch"}, self.done)
        notice(
            f"training {self.name}: epoch {epoch} of {settings.epochs}, "
            + (f"training loss {training_loss:.4g}, " if training_loss is not None else "")
            + f"validation loss {scores['validation_loss']:.4g}, PSNR "
            f"{scores['validation_psnr']:.2f} dB, SSIM {scores['validation_ssim']:.4f}"
        )

    def _save(self, progress: Progress) -> None:
        """Save the state, unless it is already spoilt."""
        if not self.accelerator.is_main_process:
            return
        if not all(parameter.isfinite().all() for parameter in self.network.parameters()):
            raise MidframeError(
                f"training {self.name}: a weight is not finite after step {self.done}; "
                "lower learning_rate or use precision fp32"
            )
        scaler = self.accelerator.scaler
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "position": asdict(self.position),
            "threads": self.threads,
        }
        progress.save(self.done, state)

    def _restore(self, progress: Progress) -> None:
        """Resume from the newest state, if there is one."""
        state = progress.load()
        if state is not None:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.accelerator.scaler and state["scaler"]:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.position = Position(**state["position"])
            if self.accelerator.is_main_process:
                notice(f"training {self.name}: resuming after step {self.done} of {self.steps}")
            self._note_threads(state["threads"])
        self.accelerator.wait_for_everyone()

    def _note_threads(self, before: list[int]) -> None:
        """Remember the number of threads of the earlier steps; say so if it was another."""
        (now,) = self.threads
        if before[-1] != now and self.accelerator.is_main_process:
            plural = "s" if before[-1] > 1 else ""
            notice(
                f"training {self.name}: {before[-1]} thread{plural} until here, {now} from here; "
                "the order of sums changes, so the weights differ in their last digits"
            )
        self.threads = before if before[-1] == now else [*before, now]


def learning_rate(settings: TrainingSettings, done: int, steps: int) -> float:
    """Learning rate of the step after ``done`` of ``steps`` steps."""
    if done < settings.warmup_steps:
        return settings.learning_rate * (done + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    part = (done - settings.warmup_steps) / (steps - settings.warmup_steps)
    return settings.learning_rate * (1 + math.cos(math.pi * part)) / 2


def _optimizer(settings: TrainingSettings, network: SepConv) -> torch.optim.Optimizer:
    parameters, rate = network.parameters(), settings.learning_rate
    match settings.optimizer:
        case "adamax":
            return torch.optim.Adamax(parameters, lr=rate)
        case "adam":
            return torch.optim.Adam(parameters, lr=rate)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate)
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=0.9)
