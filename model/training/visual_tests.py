"""Pictures of what a network predicts after each epoch, always of the same triplets."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.triplets import choose_triplets, read_triplets
from model.network.architecture import SepConv
from model.network.checkpoints import write_atomically
from model.pixels import quantise
from model.settings import EvaluationSettings
from model.training.patches import frames_of
from model.video.interpolation import predict
from pipeline.errors import MidframeError
from pipeline.frames.sequences import Frame
from pipeline.store.patch_store import PatchStore

PATCHES = 10
MARGIN = 4  # pixels between the pictures of a strip
SEEN, HELD_OUT = "seen-in-training", "held-out"


class VisualTests:
    """The triplets that are predicted after each epoch: validation patches and whole frames.

    Parameters
    ----------
    training, validation : what the stage is trained and validated on.
    frames : a dataset directory, or a folder of videos and folders of images.
    names : triplets of ``frames``, each ``sequence:first_frame``.

    Raises
    ------
    MidframeError
        if ``frames`` and ``names`` are not both given or both absent, or hold no such triplet.
    """

    def __init__(
        self,
        training: PatchStore,
        validation: PatchStore,
        frames: Path | None = None,
        names: Sequence[str] = (),
    ) -> None:
        if bool(names) != (frames is not None):
            raise MidframeError("visual_tests: --frames says where these triplets are; give both")
        self._patches = validation
        self._triplets = (
            choose_triplets(frames, EvaluationSettings(triplets=list(names))) if frames else []
        )
        seen = frames_of(training) if frames else set()
        self._seen = {
            triplet
            for triplet in self._triplets
            if any((triplet.sequence, triplet.first_frame + i) in seen for i in range(3))
        }

    def write(self, network: SepConv, epoch: int, folder: Path) -> None:
        """Predict them all, and write the pictures.

        ``held-out/epoch-0001.png`` has a row for each of ten validation patches: first, predicted,
        true and third frame. Of a triplet of whole frames ``NAME-00030/epoch-0001.png`` is the
        prediction, beside ``truth.png``, in ``seen-in-training`` if the network was trained on
        patches of one of its frames, else in ``held-out``.
        """
        network.eval()
        name = f"epoch-{epoch:04d}.png"
        _write(folder / HELD_OUT / name, strips(network, self._patches))
        for triplet, (first, truth, third) in read_triplets(self._triplets):
            kind = SEEN if triplet in self._seen else HELD_OUT
            place = f"{triplet.sequence.replace('/', '_')}-{triplet.first_frame:05d}"
            if not (folder / kind / place / "truth.png").is_file():
                _write(folder / kind / place / "truth.png", truth)
            prediction = quantise(predict(network, first, third), "round")
            _write(folder / kind / place / name, prediction)


@torch.inference_mode()
def strips(network: SepConv, store: PatchStore) -> NDArray[np.uint8]:
    """Rows of first, predicted, true and third frame, of patches spread evenly over a store.

    Returns
    -------
    uint8 RGB ``[H, W, 3]``.
    """
    chosen = np.unique(np.linspace(0, len(store) - 1, PATCHES).round().astype(int))
    triplets = store.read(chosen)
    predictions = np.stack(
        [quantise(predict(network, first, third), "round") for first, _, third in triplets]
    )
    columns = [triplets[:, 0], predictions, triplets[:, 1], triplets[:, 2]]
    around = ((0, 0), (0, MARGIN), (0, MARGIN), (0, 0))
    rows = np.concatenate([np.pad(c, around, constant_values=255) for c in columns], axis=2)
    picture = rows.reshape(-1, *rows.shape[2:])[:-MARGIN, :-MARGIN]
    return np.ascontiguousarray(picture)


def _write(path: Path, picture: Frame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "png")
    write_atomically(path, content.getvalue())
