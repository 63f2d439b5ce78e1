"""The patch store: triplets of patches in Zarr v3, labelled for xarray.

A patch directory holds ``patches.zarr``, ``candidates.parquet`` and the manifest. The store is a
group with ``triplet[sample, frame, y, x, channel]`` (uint8 RGB, lossless, one chunk a sample, many
samples a shard, every chunk and index checksummed) and the coordinates of each sample. Written
with zarr-python shard by shard, it is read a batch at a time by TensorStore, which is an order of
magnitude faster at random reads; zarr-python and xarray read the same files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorstore
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from pipeline.errors import MidframeError
from pipeline.provenance import read_manifest

KIND = "patches"
FORMAT_VERSION = 1
STORE = "patches.zarr"
CANDIDATES = "candidates.parquet"

# Coordinate: type on disk, attributes. In the order in which `PatchStore.table` shows them.
COORDINATES: dict[str, tuple[type, dict[str, Any]]] = {
    "sequence": (str, {"long_name": "sequence the patch was cut from"}),
    "first_frame": (np.int64, {"long_name": "index of the triplet's first frame"}),
    "top": (np.int64, {"long_name": "first row of the patch", "units": "pixel"}),
    "left": (np.int64, {"long_name": "first column of the patch", "units": "pixel"}),
    "motion": (np.float64, {"long_name": "motion score of the patch", "units": "pixel"}),
    "cut_distance": (np.float64, {"long_name": "largest histogram distance in the triplet"}),
    "split": (str, {"long_name": "train, validation or test"}),
}


def create(store: Path, table: pd.DataFrame, patch_size: int, shard_samples: int) -> None:
    """Create a store for the samples of ``table``, with their coordinates and no pixels yet.

    Parameters
    ----------
    store : where; must not exist.
    table : one row a sample, with the columns of `COORDINATES`.
    patch_size : height and width in pixels.
    shard_samples : samples in one shard.
    """
    group = zarr.open_group(store, mode="w-")
    samples = len(table)
    group.create_array(
        "triplet",
        shape=(samples, 3, patch_size, patch_size, 3),
        chunks=(1, 3, patch_size, patch_size, 3),
        shards=(shard_samples, 3, patch_size, patch_size, 3),
        dtype="uint8",
        compressors=ZstdCodec(level=1, checksum=True),
        dimension_names=("sample", "frame", "y", "x", "channel"),
        attributes={
            "coordinates": " ".join(COORDINATES),
            "frame": ["first", "middle", "third"],
            "channel": ["red", "green", "blue"],
        },
    )
    for name, (dtype, attributes) in COORDINATES.items():
        array = group.create_array(
            name,
            shape=(samples,),
            chunks=(max(samples, 1),),
            dtype=dtype,
            dimension_names=("sample",),
            attributes=attributes,
        )
        array[:] = table[name].to_numpy(dtype=object if dtype is str else dtype)


def write_shard(store: Path, first_sample: int, triplets: NDArray[np.uint8]) -> None:
    """Write the pixels of one whole shard, uint8 ``[n, 3, H, W, 3]``, from ``first_sample`` on."""
    array = zarr.open_array(store / "triplet", mode="r+")
    array[first_sample : first_sample + len(triplets)] = triplets


class PatchStore:
    """Read access to a patch directory; make one with `PatchStore.open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path, KIND, FORMAT_VERSION)
        try:
            self._triplets = tensorstore.open(
                {
                    "driver": "zarr3",
                    "kvstore": {"driver": "file", "path": str(path.absolute() / STORE / "triplet")},
                },
                read=True,
            ).result()
        except ValueError as error:
            reason = str(error).split(" [")[0]
            raise MidframeError(f"{path}: the store cannot be opened ({reason})") from None

    @classmethod
    def open(cls, path: str | Path) -> "PatchStore":
        """Open a published patch directory.

        Raises
        ------
        MidframeError
            if it is missing, unfinished, something else, of another version, or damaged.
        """
        return cls(Path(path))

    def __len__(self) -> int:
        """Number of samples."""
        return int(self._triplets.shape[0])

    @property
    def patch_size(self) -> int:
        """Height and width of a patch in pixels."""
        return int(self._triplets.shape[2])

    def read(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Pixels of some samples, in the order of ``indices``; all reads run at once.

        Returns
        -------
        uint8 RGB ``[n, 3, H, W, 3]``: first, middle and third frame.

        Raises
        ------
        IndexError
            if an index is outside 0 .. len - 1.
        MidframeError
            if a sample is damaged, with its number.
        """
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"sample {index} of a store of {len(self)}")
        reads = [self._triplets[int(index)].read() for index in indices]
        out = np.empty((len(reads), *self._triplets.shape[1:]), np.uint8)
        for position, read in enumerate(reads):
            try:
                out[position] = read.result()
            except ValueError as error:
                reason = str(error).split(" [")[0]
                raise MidframeError(
                    f"{self.path}: sample {indices[position]} is damaged ({reason}); run "
                    f"`python -m pipeline verify {self.path}`"
                ) from None
        return out

    def table(self) -> pd.DataFrame:
        """Coordinates of the samples: one row a sample, the columns of `COORDINATES`."""
        group = zarr.open_group(self.path / STORE, mode="r")
        columns: dict[str, NDArray[Any]] = {}
        for name, (dtype, _) in COORDINATES.items():
            values = np.asarray(group[name][:])  # type: ignore[index]
            columns[name] = values.astype(object if dtype is str else dtype)
        return pd.DataFrame(columns)

    def candidates(self) -> pd.DataFrame:
        """Every window that was tried, taken or refused (see `pipeline.sampling.Candidate`)."""
        return pd.read_parquet(self.path / CANDIDATES)


def verify(path: Path) -> list[str]:
    """Read every shard of a patch directory and tell what is damaged or missing.

    Every chunk carries a checksum, so a flipped bit is found by reading.

    Returns
    -------
    One line for each damaged place, naming the file; empty if the store is sound.

    Raises
    ------
    MidframeError
        if ``path`` is no patch directory of this version.
    """
    store = PatchStore(path)
    array = zarr.open_array(path / STORE / "triplet", mode="r")
    shard_samples = (array.shards or array.chunks)[0]
    damage = []
    for shard, first in enumerate(range(0, len(store), shard_samples)):
        file = path / STORE / "triplet" / "c" / f"{shard}" / "0" / "0" / "0" / "0"
        if not file.is_file():
            damage.append(f"{file}: missing")
            continue
        try:
            store.read(range(first, min(first + shard_samples, len(store))))
        except MidframeError as error:
            damage.append(f"{file}: {str(error).removeprefix(f'{path}: ').split('; run')[0]}")
    return damage
