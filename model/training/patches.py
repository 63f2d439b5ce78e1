"""Batches of augmented triplets from a patch store.

What happens to a sample depends on (seed, epoch, sample) only, and which samples make a batch on
(seed, epoch) only: not on the number of processes, on restarts, or on what is read ahead.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MidframeError
from pipeline.store.patch_store import PatchStore

T = TypeVar("T")

# First word of a random stream's seed, so that the order and the samples draw from different ones.
_ORDER, _SAMPLE = 0, 1
READ_AHEAD = 4  # batches


class Batch(NamedTuple):
    """Samples of one step.

    Attributes
    ----------
    samples : indices in the store, int64 [n]: those of this process.
    triplets : uint8 RGB [n, 3, crop, crop, 3]: first, middle and third frame.
    share : the fraction of the whole batch (over all processes) that these samples are, 0..1.
    total : number of samples in the whole batch.
    """

    samples: NDArray[np.int64]
    triplets: NDArray[np.uint8]
    share: float
    total: int


@dataclass(frozen=True)
class Augmentation:
    """What is done to a sample (see `model.settings.TrainingSettings`)."""

    crop: int
    crop_position: Literal["random", "centre"]
    augment: bool
    temporal_swap: bool
    seed: int

    def apply(self, triplet: NDArray[np.uint8], epoch: int, sample: int) -> NDArray[np.uint8]:
        """Crop, turn and swap one triplet; its three frames always get the same.

        Parameters
        ----------
        triplet : uint8 [3, H, W, 3].
        epoch, sample : with the seed, what the random choices depend on.

        Returns
        -------
        uint8 [3, crop, crop, 3]; a view of ``triplet``.
        """
        stream = np.random.default_rng([_SAMPLE, self.seed, epoch, sample])
        # All is drawn, needed or not: switching one thing off does not change the others.
        crop = self.crop
        top, left = (int(stream.integers(size - crop + 1)) for size in triplet.shape[1:3])
        transform = int(stream.integers(4))
        quarter_turns = 1 if stream.random() < 0.5 else 3
        swap = stream.random() < 0.5
        if self.crop_position == "centre":
            triplet = centre_crop(triplet, crop)
        else:
            triplet = triplet[:, top : top + crop, left : left + crop]
        if self.augment:
            if transform == 1:
                triplet = triplet[:, ::-1]
            elif transform == 2:
                triplet = triplet[:, :, ::-1]
            elif transform == 3:
                triplet = np.rot90(triplet, quarter_turns, axes=(1, 2))
        return triplet[::-1] if self.temporal_swap and swap else triplet


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A random order of the samples 0 .. ``count`` - 1, int64, that depends on (seed, epoch)."""
    return np.random.default_rng([_ORDER, seed, epoch]).permutation(count)


def batches(
    store: PatchStore,
    order: NDArray[np.int64],
    batch_size: int,
    apply: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]],
    first: int = 0,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """Read the samples of ``order``, ``batch_size`` at a time; the last batch may be smaller.

    Parameters
    ----------
    apply : what to do with the triplet (uint8 [3, H, W, 3]) of a sample (its index).
    first : number of the first batch to yield; those before are skipped unread.
    process, processes : which share of each batch to read. A batch has the same samples however
        many processes share it. A process to which a small last batch leaves nothing gets a
        sample that counts for nothing, because every process must take part in every step.
    """
    wholes = [
        order[start : start + batch_size]
        for start in range(first * batch_size, len(order), batch_size)
    ]
    shares = [whole[process::processes] for whole in wholes]
    read = [share if len(share) else whole[:1] for share, whole in zip(shares, wholes, strict=True)]
    for whole, share, mine, pixels in zip(
        wholes, shares, read, store.read_batches(read), strict=True
    ):
        triplets = [
            apply(triplet, int(sample)) for triplet, sample in zip(pixels, mine, strict=True)
        ]
        yield Batch(mine, np.stack(triplets), len(share) / len(whole), len(whole))


def centre_crop(triplet: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    """The middle [3, crop, crop, 3] of a triplet [3, H, W, 3]; what validation looks at."""
    top, left = ((size - crop) // 2 for size in triplet.shape[1:3])
    return triplet[:, top : top + crop, left : left + crop]


class ReadAhead(Generic[T]):
    """Iterate over ``items`` while a thread fetches the next few.

    Leave it through ``with``, so that the thread also ends when the reader stops early.

    Attributes
    ----------
    waited : seconds that the reader has waited for items so far.
    """

    def __init__(self, items: Iterator[T], depth: int = READ_AHEAD) -> None:
        self.waited = 0.0
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fetch, args=(items,), daemon=True)
        self._thread.start()

    def _fetch(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                if not self._put((item, None)):
                    return
            self._put((None, None))
        except BaseException as error:  # handed to the reader, who raises it
            self._put((None, error))

    def _put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        """Put an entry into the queue; false if the reader is gone."""
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        while True:
            start = time.monotonic()
            item, error = self._queue.get()
            self.waited += time.monotonic() - start
            if error is not None:
                raise error
            if item is None:
                return
            yield item

    def __enter__(self) -> "ReadAhead[T]":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()


def check_usable(training: PatchStore, validation: PatchStore, crop: int) -> None:
    """Refuse stores that cannot be trained or validated on.

    Raises
    ------
    MidframeError
        if a store is empty, its patches are smaller than the crop, or a frame is in both (which
        would make the validation worthless), with the sequence.
    """
    for store in (training, validation):
        if not len(store):
            raise MidframeError(f"{store.path}: holds no patches")
        if store.patch_size < crop:
            raise MidframeError(
                f"{store.path}: patches of {store.patch_size} pixels are smaller than the crop of "
                f"{crop}; lower crop or sample larger patches"
            )
    shared = sorted(frames_of(training) & frames_of(validation))
    if shared:
        sequence, frame = shared[0]
        raise MidframeError(
            f"{training.path} and {validation.path} share frames: {sequence}, frame {frame}"
            + (f", and {len(shared) - 1} more" if len(shared) > 1 else "")
            + "; validate on frames that are not trained on"
        )


def frames_of(store: PatchStore) -> set[tuple[str, int]]:
    """Sequence and index of every frame in a store."""
    table = store.table()[["sequence", "first_frame"]].drop_duplicates()
    return {
        (str(sequence), int(first) + offset)
        for sequence, first in zip(table["sequence"], table["first_frame"], strict=True)
        for offset in range(3)
    }
