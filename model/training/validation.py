"""How good a network is on patches that it was not trained on."""

from collections.abc import Iterator

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from model.evaluation.metrics import PROTOCOLS
from model.network.architecture import SepConv
from model.network.losses import Loss
from model.settings import TrainingSettings
from model.training.parts import Parts
from model.training.patches import Batch, ReadAhead, batches, centre_crop
from pipeline.errors import MidframeError
from pipeline.store.patch_store import PatchStore

STANDARD = PROTOCOLS["standard"]
MOST_DECIBELS = 100.0  # what a prediction without any error counts as, so that a mean stays finite


def to_frames(triplets: NDArray[np.uint8], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """First, middle and third frames, float32 [B, 3, H, W] in 0..1, of uint8 [B, 3, H, W, 3]."""
    moved = torch.from_numpy(triplets).to(device)
    first, middle, third = moved.permute(1, 0, 4, 2, 3).contiguous().float().div(255)
    return first, middle, third


def to_image(frame: Tensor) -> NDArray[np.float32]:
    """An image [H, W, 3] in 0..1, as the metrics take it, of a frame [3, H, W]."""
    image: NDArray[np.float32] = frame.clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return image


@torch.no_grad()
def validate(
    accelerator: Accelerator,
    network: SepConv,
    loss: Loss,
    store: PatchStore,
    settings: TrainingSettings,
    parts: Parts | None = None,
) -> dict[str, float]:
    """Mean scores over the centre crops of a store's patches.

    Parameters
    ----------
    network : without the wrapper that distributes it, so that processes need not keep step.
    loss : the stage's own.
    parts : threads to share each batch, if any.

    Returns
    -------
    dict
        ``validation_loss``, ``validation_l1`` (of values 0..1), and ``validation_psnr`` (dB) and
        ``validation_ssim`` of the protocol `standard`. A prediction without any error counts as
        `MOST_DECIBELS`.

    Raises
    ------
    MidframeError
        if the network's output is not finite.
    """
    network.eval()

    def predict(first: Tensor, third: Tensor) -> Tensor:
        with accelerator.autocast():
            prediction: Tensor = network(first, third).float()
        return prediction

    sums = np.zeros(5)
    with ReadAhead(_validation_batches(store, settings, accelerator)) as reader:
        for batch in reader:
            first, middle, third = to_frames(batch.triplets, accelerator.device)
            prediction = parts.predict(predict, first, third) if parts else predict(first, third)
            if not prediction.isfinite().all():
                raise MidframeError("the network's output is not finite; lower learning_rate")
            own = float(loss(prediction, middle))
            counted = batch.share * batch.total
            sums += counted * np.array([own, *_scores(prediction, middle), 1.0])
    if accelerator.num_processes > 1:
        together = torch.from_numpy(sums).to(accelerator.device)
        sums = accelerator.reduce(together, "sum").cpu().numpy()
    means = sums / sums[-1]
    names = ("validation_loss", "validation_l1", "validation_psnr", "validation_ssim")
    return {name: float(mean) for name, mean in zip(names, means, strict=False)}


def score_linear(store: PatchStore, settings: TrainingSettings) -> dict[str, float]:
    """Scores of the mean of the first and the third frame, as `validate` gives them.

    Returns
    -------
    dict
        ``l1``, ``psnr``, ``ssim``.
    """
    sums = np.zeros(3)
    for batch in _validation_batches(store, settings):
        first, middle, third = to_frames(batch.triplets, torch.device("cpu"))
        sums += len(batch.samples) * np.array(_scores((first + third) / 2, middle))
    l1, psnr, ssim = (float(total) / len(store) for total in sums)
    return {"l1": l1, "psnr": psnr, "ssim": ssim}


def _scores(prediction: Tensor, middle: Tensor) -> tuple[float, float, float]:
    """Mean l1, PSNR and SSIM of a batch."""
    scores = [
        STANDARD.score(to_image(guess), to_image(truth))
        for guess, truth in zip(prediction, middle, strict=True)
    ]
    psnr = float(np.mean([min(score.psnr, MOST_DECIBELS) for score in scores]))
    ssim = float(np.mean([score.ssim for score in scores]))
    return float((prediction - middle).abs().mean()), psnr, ssim


def _validation_batches(
    store: PatchStore, settings: TrainingSettings, accelerator: Accelerator | None = None
) -> Iterator[Batch]:
    return batches(
        store,
        np.arange(len(store)),
        settings.batch_size,
        lambda triplet, _: centre_crop(triplet, settings.crop),
        process=accelerator.process_index if accelerator else 0,
        processes=accelerator.num_processes if accelerator else 1,
    )
