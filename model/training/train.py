"""A training stage: from patches, and perhaps a parent's weights, to weights for each epoch.

`train` checks all inputs, lets `model.training.stage` do the training, and publishes the result.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator

from model.network.architecture import SepConv
from model.network.checkpoints import load_network, read_description
from model.network.losses import LOSSES_WITH_FEATURES
from model.network.vgg import load_features
from model.settings import STATE_MINUTES, NetworkSettings, TrainingSettings
from model.training.patches import check_usable
from model.training.resume import Progress, stop_request
from model.training.stage import Stage
from model.training.validation import score_linear
from model.training.visual_tests import VisualTests
from pipeline.errors import MidframeError
from pipeline.progress import notice
from pipeline.provenance import check_replaceable, input_digest, publish, write_manifest
from pipeline.store.patch_store import PatchStore

FORMAT_VERSION = 1
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # as Accelerate calls them


def train(
    patches: Path,
    validation: Path,
    out: Path,
    settings: TrainingSettings,
    init: Path | None = None,
    vgg: Path | None = None,
    frames: Path | None = None,
    state_minutes: float = STATE_MINUTES,
    cache_gigabytes: float = 0,
) -> None:
    """Train one stage and publish its weights and metrics.

    After a kill at any moment, the same call resumes from the last state and, on a CPU, ends with
    the same weights to the bit.

    Parameters
    ----------
    patches, validation : patch directories that share no frame.
    out : directory to publish: ``weights/epoch-0001.safetensors`` and so on, ``metrics.csv``,
        ``tensorboard/``, ``visual/`` (`model.training.visual_tests`) and the manifest.
    init : weights to start from; without them the stage starts from scratch.
    vgg : torchvision's VGG-19 weights; the losses ``vgg`` and ``combined`` need them.
    frames : the dataset that the triplets of the setting ``visual_tests`` are in.
    state_minutes : minutes between two states.
    cache_gigabytes : of patches in object storage, keep so much of each store on this disk.

    Raises
    ------
    MidframeError
        if the inputs do not fit together, memory runs out, the loss is not finite, or the
        process was asked to stop (the state is saved then).
    """
    # Anything wrong with the inputs is found before the first step.
    check_replaceable(out)
    training_store, validation_store = (
        PatchStore.open(path, int(cache_gigabytes * 1e9)) for path in (patches, validation)
    )
    check_usable(training_store, validation_store, settings.crop)
    visual_tests = VisualTests(training_store, validation_store, frames, settings.visual_tests)
    features = _features(settings, vgg)
    network = _network(settings, init)
    accelerator = _accelerator(settings)
    given = {
        "patches": patches,
        "validation": validation,
        "init": init,
        "vgg": vgg,
        "frames": frames,
    }
    inputs = {name: path for name, path in given.items() if path is not None}
    identity = {
        "settings": settings.model_dump(mode="json"),
        "inputs": {name: input_digest(path) for name, path in inputs.items()},
    }
    linear = score_linear(validation_store, settings)

    writes = accelerator.is_main_process
    with Progress(out, identity, writes) as progress, stop_request() as stop, _memory(settings):
        stage = Stage(
            out.name,
            settings,
            accelerator,
            network,
            features,
            training_store,
            validation_store,
            visual_tests,
        )
        if writes:
            notice(
                f"training {out.name}: {len(training_store)} patches, {stage.steps} steps, loss "
                f"{settings.loss}; linear interpolation has a validation PSNR of "
                f"{linear['psnr']:.2f} dB"
            )
            if accelerator.num_processes > 1:
                notice(
                    f"training {out.name}: {accelerator.num_processes} processes share every batch"
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
                    network=NetworkSettings.of(network.settings).model_dump(mode="json"),
                    parameters=sum(parameter.numel() for parameter in network.parameters()),
                    training_patches=len(training_store),
                    validation_patches=len(validation_store),
                    steps=stage.steps,
                    linear_interpolation=linear,
                    last_epoch=stage.position.rows[-1],
                )
            progress.remove()
        accelerator.wait_for_everyone()


def _features(settings: TrainingSettings, vgg: Path | None) -> torch.nn.Module | None:
    """VGG-19's layers, if the loss looks through them."""
    if settings.loss in LOSSES_WITH_FEATURES:
        return load_features(vgg)
    if vgg is not None:
        raise MidframeError(f"{vgg}: the loss {settings.loss} uses no VGG weights; omit --vgg")
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
            f"{network.settings!r}; omit network to use that of the weights"
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
    """Say what to lower when memory runs out."""
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
