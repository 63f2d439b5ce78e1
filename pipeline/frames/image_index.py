"""Which images a sequence consists of, so that a later reader gets those very ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """The images of a folder in order.

    Attributes
    ----------
    names : str ``[frames]``, names of the files; empty where the numbers leave a gap.
    checksum : uint32 ``[frames]``, CRC-32 of each file; of those that cannot be used, 0.
    """

    names: NDArray[np.str_]
    checksum: NDArray[np.uint32]

    @classmethod
    def of(cls, places: Sequence[Path | str], checksums: Sequence[int]) -> "ImageIndex":
        """An index of what `pipeline.frames.decoding.image_places` has found."""
        names = [place.name if isinstance(place, Path) else "" for place in places]
        return cls(np.array(names, np.str_), np.array(checksums, np.uint32))

    def save(self, file: Path) -> None:
        """Write the index; the same index gives the same bytes."""
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, names=self.names, checksum=self.checksum)
