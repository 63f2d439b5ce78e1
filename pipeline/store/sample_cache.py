"""Samples of a store in object storage, kept on this disk after they were read once.

A training reads every sample once an epoch, in a new order each time, so what is kept at first is
as good as anything: when the cache is full, the rest is read from the store again.
"""

import zlib
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pipeline.progress import notice

PIXELS, SUMS = "samples.u8", "samples.crc32"


class SampleCache:
    """Decoded samples in a sparse file, each with its checksum; several processes may share it.

    Parameters
    ----------
    folder : where its files lie; made for one generation of one store.
    samples : of the store.
    shape : of a sample, uint8.
    limit : bytes to keep at most. Processes that share the cache may each add a batch to that.
    """

    def __init__(self, folder: Path, samples: int, shape: tuple[int, ...], limit: int) -> None:
        self._shape, self._bytes = shape, int(np.prod(shape))
        self._most = limit // self._bytes
        with FileLock(folder / f"{SUMS}.lock"):
            if not (folder / SUMS).exists():
                (folder / PIXELS).write_bytes(b"")
                partial = folder / f"{SUMS}.partial"
                partial.write_bytes(bytes(4 * samples))
                partial.replace(folder / SUMS)
        # Zero: not kept. Written after the pixels, and compared when they are read.
        self._sums = np.memmap(folder / SUMS, np.uint32, "r+", shape=(samples,))
        # Not as a memory map: a full disk would then kill the process.
        self._pixels = folder / PIXELS

    def fill(self, samples: NDArray[np.int64], out: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Write those samples that are kept into their places in ``out``, and say which are."""
        kept = np.zeros(len(samples), bool)
        if not self._pixels.exists():  # another generation has taken the place of this one
            return kept
        with open(self._pixels, "rb", buffering=0) as file:
            for position in np.flatnonzero(self._sums[samples]):
                sample, place = int(samples[position]), out[position].reshape(-1)
                file.seek(sample * self._bytes)
                read = file.readinto(place.data)
                kept[position] = (
                    read == self._bytes and zlib.crc32(place.data) == self._sums[sample]
                )
        return kept

    def keep(self, samples: NDArray[np.int64], pixels: NDArray[np.uint8]) -> None:
        """Keep samples, as far as there is room."""
        if not self._pixels.exists():
            return
        room = self._most - int(np.count_nonzero(self._sums))
        try:
            with open(self._pixels, "r+b", buffering=0) as file:
                for sample, content in zip(samples[: max(room, 0)], pixels, strict=False):
                    place = content.reshape(-1)
                    file.seek(int(sample) * self._bytes)
                    if file.write(place.data) == self._bytes:
                        self._sums[sample] = zlib.crc32(place.data)
        except OSError as error:
            notice(f"{self._pixels}: no more is kept here ({error.strerror})")
            self._most = 0
