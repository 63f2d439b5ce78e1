"""A training stage: from patches, and perhaps a parent's weights, to weights for each epoch.

Read `train` and then `Stage.run` from top to bottom. One process or many (`torchrun`,
`accelerate launch`) run the same code: each takes its share of every batch, and the first one
writes.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from model.checkpoints import load_network, read_description, save_network
from model.losses import LOSSES_WITH_FEATURES, make_loss
from model.network import SepConv
from model.patches import Augmentation, Batch, ReadAhead, batches, check_usable, epoch_order
from model.resume import Progress, StopRequest, stop_request
from model.settings import TrainingSettings
from model.training_log import ProgressLine, Row, Scalars, write_metrics, write_strips
from model.validation import score_linear, to_frames, validate, visual_tests
from model.vgg import load_features
from pipeline.errors import MidframeError
from pipeline.patch_store import PatchStore
from pipeline.progress import notice
from pipeline.provenance import check_replaceable, input_digest, publish, write_manifest

FORMAT_VERSION = 1
STATE_MINUTES = 10.0
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # as Accelerate calls them


def train(
    patches: Path,
    validation: Path,
    out: Path,
    settings: TrainingSettings,
    init: Path | None = None,
    vgg: Path | None = None,
    state_minutes: float = STATE_MINUTES,
) -> None:
    """Train one stage and publish its weights and metrics.

    Killed at any moment, the same call goes on from the last state and, on a CPU, ends with the
    same weights to the bit.

    Parameters
    ----------
    patches, validation : patch directories that share no frame.
    out : directory to publish: ``weights/epoch-0001.safetensors`` and so on, ``metrics.csv``,
        ``tensorboard/``, ``visual/`` (the same validation patches after each epoch) and the
        manifest.
    init : weights to start from; left out, the stage starts from scratch.
    vgg : torchvision's VGG-19 weights; the losses ``vgg`` and ``combined`` need them.
    state_minutes : minutes between two states.

    Raises
    ------
    MidframeError
        if the inputs do not fit together, memory runs out, the loss is no longer finite, or the
        process was asked to stop (the state is saved then).
    """
    # All that can be wrong with the inputs is found before the first step.
    check_replaceable(out)
    training_store, validation_store = PatchStore.open(patches), PatchStore.open(validation)
    check_usable(training_store, validation_store, settings.crop)
    features = _features(settings, vgg)
    network = _network(settings, init)
    accelerator = _accelerator(settings)
    given = {"patches": patches, "validation": validation, "init": init, "vgg": vgg}
    inputs = {name: path for name, path in given.items() if path is not None}
    identity = {
        "settings": settings.model_dump(mode="json"),
        "inputs": {name: input_digest(path) for name, path in inputs.items()},
    }
    linear = score_linear(validation_store, settings)

    writes = accelerator.is_main_process
    with Progress(out, identity, writes) as progress, stop_request() as stop, _memory(settings):
        stage = Stage(
            out.name, settings, accelerator, network, features, training_store, validation_store
        )
        if writes:
            notice(
                f"training {out.name}: {len(training_store)} patches, {stage.steps} steps, loss "
                f"{settings.loss}; linear interpolation has a validation PSNR of "
                f"{linear['psnr']:.2f} dB"
            )
        provenance = {
            "stage": identity,
            "parent": read_description(init).provenance if init else None,
        }
        stage.run(progress, stop, state_minutes * 60, provenance)
        if writes:
            with publish(out) as partial:
                progress.publish(partial)
                write_manifest(
                    partial,
                    "model",
                    FORMAT_VERSION,
                    settings,
                    inputs,
                    network=network.settings.model_dump(mode="json"),
                    parameters=sum(parameter.numel() for parameter in network.parameters()),
                    training_patches=len(training_store),
                    validation_patches=len(validation_store),
                    steps=stage.steps,
                    linear_interpolation=linear,
                    last_epoch=stage.position.rows[-1],
                )
            progress.remove()
        accelerator.wait_for_everyone()


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
    ) -> None:
        self.name, self.settings, self.accelerator = name, settings, accelerator
        self.training_store, self.validation_store = training_store, validation_store
        self.loss = make_loss(settings, features.to(accelerator.device) if features else None)
        self.network = network.to(accelerator.device)
        # `model` is the network, wrapped for its processes and precision.
        self.model, self.optimizer = accelerator.prepare(
            self.network, _optimizer(settings, network)
        )
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

        Parameters
        ----------
        progress : where states and results go.
        stop : asks for the state to be saved and the run to end.
        state_seconds : seconds between two states.
        provenance : written into the weights, beside the epoch.
        """
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
                            "state is saved, and the same command goes on from it"
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
        """Validate, and write what the epoch leaves; epoch 0 is before the training."""
        settings, position = self.settings, self.position
        scores = validate(
            self.accelerator, self.network, self.loss, self.validation_store, settings
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
                {**provenance, "epoch": epoch},
            )
        strips = visual_tests(self.network, self.validation_store, self.accelerator.device)
        write_strips(progress.results("visual") / f"epoch-{epoch:04d}.png", *strips)
        write_metrics(progress.results("") / "metrics.csv", position.rows)
        log.add({f"epoch/{name}": row[name] for name in row if name != "epoch"}, self.done)
        notice(
            f"training {self.name}: epoch {epoch} of {settings.epochs}, "
            + (f"training loss {training_loss:.4g}, " if training_loss is not None else "")
            + f"validation loss {scores['validation_loss']:.4g}, PSNR "
            f"{scores['validation_psnr']:.2f} dB, SSIM {scores['validation_ssim']:.4f}"
        )

    def _save(self, progress: Progress) -> None:
        """Keep the state, unless it is already spoilt."""
        if not self.accelerator.is_main_process:
            return
        if not all(parameter.isfinite().all() for parameter in self.network.parameters()):
            raise MidframeError(
                f"training {self.name}: a weight is no longer finite after step {self.done}; "
                "lower learning_rate or use precision fp32"
            )
        scaler = self.accelerator.scaler
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "position": asdict(self.position),
        }
        progress.save(self.done, state)

    def _restore(self, progress: Progress) -> None:
        """Take up the newest state, if there is one."""
        state = progress.load()
        if state is not None:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.accelerator.scaler and state["scaler"]:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.position = Position(**state["position"])
            if self.accelerator.is_main_process:
                notice(f"training {self.name}: going on after step {self.done} of {self.steps}")
        self.accelerator.wait_for_everyone()


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


def _features(settings: TrainingSettings, vgg: Path | None) -> torch.nn.Module | None:
    """VGG-19's layers, if the loss looks through them."""
    if settings.loss in LOSSES_WITH_FEATURES:
        return load_features(vgg)
    if vgg is not None:
        raise MidframeError(f"{vgg}: the loss {settings.loss} uses no VGG weights; leave out --vgg")
    return None


def _network(settings: TrainingSettings, init: Path | None) -> SepConv:
    """The network to train: the parent's, or a new one whose weights the seed decides."""
    if init is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return SepConv(settings.network)
    network = load_network(init)
    if settings.network not in (None, network.settings):
        raise MidframeError(
            f"network: the settings ask for {settings.network!r}, but {init} holds "
            f"{network.settings!r}; leave network out, and it is that of the weights"
        )
    return network


def _accelerator(settings: TrainingSettings) -> Accelerator:
    try:
        accelerator = Accelerator(mixed_precision=PRECISIONS[settings.precision])
    except ValueError as error:
        raise MidframeError(f"precision {settings.precision}: {error}") from None
    if settings.batch_size < accelerator.num_processes:
        raise MidframeError(
            f"batch_size: {settings.batch_size} samples cannot be shared by "
            f"{accelerator.num_processes} processes"
        )
    return accelerator


@contextmanager
def _memory(settings: TrainingSettings) -> Iterator[None]:
    """Tell what to lower when memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # A CPU's allocator raises a plain RuntimeError.
        texts = ("can't allocate memory", "not enough memory")
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not any(
            text in str(error) for text in texts
        ):
            raise
        raise MidframeError(
            f"out of memory; lower batch_size (now {settings.batch_size}) or crop (now "
            f"{settings.crop}), use precision bf16, or share the batch between more processes"
        ) from None
