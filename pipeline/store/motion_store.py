"""The motion store: the flow of every triplet in few bytes, and the motion of any window of it.

A motion directory holds ``motion.zarr``, ``triplets.parquet`` and the manifest. The store has an
array for each frame size, ``854x480`` for example: int32 ``[triplet, component, y, x]``, Zarr v3, a
triplet a chunk, a partition of the work a shard (one file), every chunk checksummed. In the order
in which ``triplets.parquet`` lists them (``sequence``, ``first_frame``, ``height``, ``width``), the
triplets of one size are the rows of its array.

The numbers are the flow in steps of 1 / `STEPS` pixel, as differences: of each from its left
neighbour, then of each row from the one above. Two running sums give the flow back; additions wrap
around, so every int32 survives. The flow is smooth, so its differences compress far better than
the flow itself. Each component of a pixel's flow is at most half a step off, and a window's motion
under either statistic therefore at most √2 / 2 steps, 0.0007 pixels.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from pipeline.errors import MidframeError
from pipeline.provenance import MANIFEST, read_manifest
from pipeline.reading import reading

KIND = "motion"
FORMAT_VERSION = 2
STORE = "motion.zarr"
TRIPLETS = "triplets.parquet"
BUILD_AGAIN = "build the motion store again"

STEPS = 1024  # to a pixel
UNKNOWN = np.iinfo(np.int32).min  # where the flow is unknown (NaN)


def encode(flow: NDArray[np.float32]) -> NDArray[np.int32]:
    """Differences ``[2, H, W]`` of a flow ``[H, W, 2]`` in pixels."""
    planes = np.moveaxis(flow, -1, 0)
    steps = np.where(np.isfinite(planes), np.rint(planes * np.float64(STEPS)), UNKNOWN)
    differences = steps.astype(np.int32)
    differences[:, :, 1:] -= differences[:, :, :-1].copy()
    differences[:, 1:] -= differences[:, :-1].copy()
    return differences


def decode(differences: NDArray[np.int32]) -> NDArray[np.float32]:
    """Flow ``[H, W, 2]`` in pixels of differences ``[2, H, W]``; NaN where it is unknown."""
    rows = differences.cumsum(axis=1, dtype=np.int32)
    steps = np.moveaxis(rows.cumsum(axis=2, dtype=np.int32), 0, -1)
    flow = steps.astype(np.float32) / np.float32(STEPS)  # a power of two, so nothing is lost
    flow[steps == UNKNOWN] = np.nan
    return flow


def array_name(height: int, width: int) -> str:
    """Name of the array that holds the triplets of frames of one size."""
    return f"{width}x{height}"


def by_size(triplets: pd.DataFrame) -> dict[tuple[int, int], pd.DataFrame]:
    """The triplets of each frame size (height and width), in their order: the rows of its array."""
    return {
        (int(rows["height"].iloc[0]), int(rows["width"].iloc[0])): rows
        for _, rows in triplets.groupby(["height", "width"])
    }


def create(
    folder: Path, triplets: pd.DataFrame, shard_triplets: dict[tuple[int, int], int]
) -> None:
    """Create the arrays and the list of triplets if they are missing.

    Parameters
    ----------
    triplets : ``sequence``, ``first_frame``, ``height`` and ``width``, a row for each triplet.
    shard_triplets : triplets in a shard, for each height and width.
    """
    store = folder / STORE
    zarr.open_group(store, mode="a")
    for (height, width), rows in by_size(triplets).items():
        if (store / array_name(height, width) / "zarr.json").exists():
            continue
        zarr.create_array(
            store / array_name(height, width),
            shape=(len(rows), 2, height, width),
            chunks=(1, 2, height, width),
            shards=(shard_triplets[height, width], 2, height, width),
            dtype="int32",
            compressors=[
                BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=4),
                Crc32cCodec(),
            ],
            # All shards in one folder.
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=("triplet", "component", "y", "x"),
            attributes={
                "content": "flow in steps, as differences along x, then along y (wrapping around)",
                "steps_per_pixel": STEPS,
                "unknown": int(UNKNOWN),
                "component": ["dx", "dy"],
            },
        )
    partial = folder / f"{TRIPLETS}.partial"
    triplets.to_parquet(partial, index=False)
    partial.replace(folder / TRIPLETS)


def shard_file(folder: Path, height: int, width: int, shard: int) -> Path:
    """The file of a shard. It exists when it is complete."""
    return folder / STORE / array_name(height, width) / f"c.{shard}.0.0.0"


def write_shard(
    folder: Path, size: tuple[int, int], rows: range, flows: Iterable[NDArray[np.float32]]
) -> None:
    """Write one whole shard: the flow ``[H, W, 2]`` of each of its triplets, in order.

    Parameters
    ----------
    size : height and width of the frames.
    rows : the shard's rows of the array.
    """
    differences = np.empty((len(rows), 2, *size), np.int32)
    for position, flow in enumerate(flows):
        differences[position] = encode(flow)
    # Written even if nothing moves: a missing shard is damage.
    with zarr.config.set({"array.write_empty_chunks": True}):
        array = zarr.open_array(folder / STORE / array_name(*size), mode="r+")
    array[rows.start : rows.stop] = differences


class MotionStore:
    """Read access to a motion directory.

    Raises
    ------
    MidframeError
        if it is missing, unfinished, something else, of another version, or lacks a file.
    """

    def __init__(self, path: str | Path) -> None:
        path = self.path = Path(path)
        self.manifest = read_manifest(path, KIND, FORMAT_VERSION)
        self._arrays: dict[str, zarr.Array[Any]] = {}
        with reading(path / TRIPLETS, BUILD_AGAIN):
            self._read_triplets(pd.read_parquet(path / TRIPLETS))
        with reading(path / MANIFEST, BUILD_AGAIN):
            self._without = frozenset(self.manifest["sequences"]) - self._number.keys()

    def _read_triplets(self, triplets: pd.DataFrame) -> None:
        for (height, width), rows in by_size(triplets).items():
            name = array_name(height, width)
            with reading(self.path / STORE / name, BUILD_AGAIN):
                array = self._arrays[name] = zarr.open_array(self.path / STORE / name, mode="r")
            for shard in range(-(-len(rows) // (array.shards or array.chunks)[0])):
                file = shard_file(self.path, height, width, shard)
                if not file.is_file():
                    raise MidframeError(f"{file}: missing; {BUILD_AGAIN}")
        # The triplets of a sequence lie together, in the list and in their array.
        names = triplets["sequence"].to_numpy()
        starts = np.flatnonzero(np.append(True, names[1:] != names[:-1])[: len(names)])
        self._number = {str(name): number for number, name in enumerate(names[starts])}
        self._bounds = np.append(starts, len(names)).astype(np.int64)
        self._size = triplets[["height", "width"]].to_numpy()[starts]
        in_array = triplets.groupby(["height", "width"]).cumcount().to_numpy()
        self._first_row = in_array[starts]
        self._first_frames = triplets["first_frame"].to_numpy(np.int64)

    def first_frames(self, sequence: str) -> list[int]:
        """First frames of a sequence's triplets, ascending.

        Raises
        ------
        MidframeError
            if the store does not hold the sequence.
        """
        if sequence in self._without:
            return []
        if sequence not in self._number:
            raise MidframeError(
                f"{self.path}: holds no motion of sequence '{sequence}'; was it made from other "
                "frames?"
            )
        first, last = self._bounds[self._number[sequence] :][:2]
        return [int(frame) for frame in self._first_frames[first:last]]

    def flow(self, sequence: str, row: int) -> NDArray[np.float32]:
        """Flow ``[H, W, 2]`` of the triplet at position ``row`` of `first_frames`, in pixels.

        NaN where it is unknown.

        Raises
        ------
        MidframeError
            if it is damaged.
        """
        number = self._number[sequence]
        array = self._arrays[array_name(*self._size[number])]
        try:
            return decode(np.asarray(array[int(self._first_row[number]) + row], np.int32))
        except (OSError, ValueError, RuntimeError) as error:
            raise MidframeError(
                f"{self.path}: triplet {row} of '{sequence}' is damaged ({error}); build the "
                "motion store again"
            ) from None


def verify(path: Path) -> list[str]:
    """Read every triplet of a motion directory; one line for each that is damaged.

    Raises
    ------
    MidframeError
        if ``path`` is no motion directory of this version, or lacks a file.
    """
    store = MotionStore(path)
    damage = []
    for sequence in store.manifest["sequences"]:
        for row in range(len(store.first_frames(sequence))):
            try:
                store.flow(sequence, row)
            except MidframeError as error:
                damage.append(str(error).removesuffix("; build the motion store again"))
    return damage
