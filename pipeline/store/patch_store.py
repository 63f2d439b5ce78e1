"""The patch store: triplets of patches in Zarr v3, labelled for xarray.

A patch directory holds ``patches.zarr``, ``candidates.parquet`` and the manifest. The store is a
group with ``triplet[sample, frame, y, x, channel]`` (uint8 RGB, lossless, one chunk a sample, many
samples a shard, every chunk and index checksummed) and the coordinates of each sample. TensorStore
writes it a whole shard at a time and reads it a batch at a time, which is an order of magnitude
faster at random reads than zarr-python; zarr-python and xarray read the same files. The pixels of a
mirror (`pipeline.mirrors`) are read in object storage.
"""

import contextlib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import tensorstore
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from pipeline.errors import MidframeError
from pipeline.mirrors import origin_of
from pipeline.objects import SILENT_ERRORS, NoAnswerError, kvstore
from pipeline.processor import thread_count
from pipeline.provenance import MANIFEST, file_digest, read_manifest
from pipeline.reading import reading
from pipeline.store.sample_cache import SampleCache

KIND = "patches"
FORMAT_VERSION = 2
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
COORDINATE_CHUNK = 65_536  # samples
# Batches being read while one is used: this many keep all cores busy.
BATCHES_AHEAD = 2
# The same for a store that answers late, and the bytes of shards' indices and samples kept for it.
REMOTE_BATCHES_AHEAD, REMOTE_MEMORY = 8, 256 << 20

Codec = Literal["uncompressed", "lz4", "zstd"]
_CRC32C = {"name": "crc32c"}
# The codecs after the bytes of one sample. Each chain ends in a checksum.
CODECS: dict[Codec, list[dict[str, Any]]] = {
    "uncompressed": [_CRC32C],
    "lz4": [
        {
            "name": "blosc",
            "configuration": {
                "cname": "lz4",
                "clevel": 5,
                "shuffle": "noshuffle",
                "typesize": 1,
                "blocksize": 0,
            },
        },
        _CRC32C,
    ],
    # Level -1: a tenth larger than level 1, and read faster (benchmarks/bench_patch_store.py).
    "zstd": [{"name": "zstd", "configuration": {"level": -1, "checksum": False}}, _CRC32C],
}


def create(store: Path, samples: int, patch_size: int, shard_samples: int, codec: Codec) -> None:
    """Create a store for ``samples`` triplets, with neither pixels nor coordinates yet.

    Parameters
    ----------
    store : where; must not exist.
    samples : number of triplets.
    patch_size : height and width in pixels.
    shard_samples : samples in one shard.
    codec : compression of a sample.
    """
    group = zarr.open_group(store, mode="w-")
    for name, (dtype, attributes) in COORDINATES.items():
        group.create_array(
            name,
            shape=(samples,),
            chunks=(max(min(samples, COORDINATE_CHUNK), 1),),
            dtype=dtype,
            compressors=ZstdCodec(level=3),
            dimension_names=("sample",),
            attributes=attributes,
        )
    shape = [3, patch_size, patch_size, 3]
    whole = [shard_samples, *shape]
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "chunk_shape": [1, *shape],
        "codecs": [{"name": "bytes"}, *CODECS[codec]],
        "index_codecs": [little, _CRC32C],
        "index_location": "end",
    }
    metadata = {
        "shape": [samples, *shape],
        "data_type": "uint8",
        "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": whole}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["sample", "frame", "y", "x", "channel"],
        "attributes": {
            "coordinates": " ".join(COORDINATES),
            "frame": ["first", "middle", "third"],
            "channel": ["red", "green", "blue"],
        },
    }
    with _as_os_error(store):
        tensorstore.open(_spec(store) | {"metadata": metadata}, create=True).result()


def write_coordinates(store: Path, first_sample: int, rows: pd.DataFrame) -> None:
    """Write the coordinates (columns of `COORDINATES`) of some samples, from ``first_sample`` on.

    Whole chunks of `COORDINATE_CHUNK` samples, except at the end.
    """
    group = zarr.open_group(store, mode="r+")
    for name, (dtype, _) in COORDINATES.items():
        values = rows[name].to_numpy(dtype=object if dtype is str else dtype)
        array = group[name]
        assert isinstance(array, zarr.Array)
        array[first_sample : first_sample + len(rows)] = values


def write_shard(store: Path, first_sample: int, triplets: NDArray[np.uint8]) -> None:
    """Write one whole shard, uint8 ``[n, 3, H, W, 3]``, from ``first_sample`` on.

    Its file appears when it is complete.

    Raises
    ------
    OSError
        if it cannot be written, for example because the disk is full.
    """
    spec = _spec(store)
    # A file for every shard, even if all its pixels are black (the fill value).
    spec["store_data_equal_to_fill_value"] = True
    # Like any other file, without waiting for the disk.
    spec["context"]["file_io_sync"] = False
    with _as_os_error(store):
        array = tensorstore.open(spec, open=True).result()
        array[first_sample : first_sample + len(triplets)].write(triplets).result()


@contextlib.contextmanager
def _as_os_error(store: Path) -> Iterator[None]:
    """Raise the system's error that TensorStore tells in the text of its own."""
    try:
        yield
    except ValueError as error:
        # As newer versions word it, or older ones.
        found = re.search(r"os_error_code='(\d+)'|\[OS error (\d+): ", str(error))
        if found is None:
            raise
        code = int(found[1] or found[2])
        raise OSError(code, os.strerror(code), str(store)) from None


def shard_file(store: Path, shard: int) -> Path:
    """The file that holds shard number ``shard``."""
    return store / "triplet" / "c" / str(shard) / "0" / "0" / "0" / "0"


def remove_unfinished(store: Path) -> None:
    """Delete what killed processes have left beside the shards, when all shards are written."""
    for file in (store / "triplet" / "c").rglob("*"):
        if file.is_file() and file.name != "0":
            file.unlink()


def small_files(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of a patch directory but the shards, for its manifest."""
    shards = directory / STORE / "triplet" / "c"
    return {
        file.relative_to(directory).as_posix(): file_digest(file)
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.name != MANIFEST and not file.is_relative_to(shards)
    }


def _spec(store: Path) -> dict[str, Any]:
    # Threads that unpack; without this as many as the machine has cores.
    context: dict[str, Any] = {"data_copy_concurrency": {"limit": thread_count()}}
    origin = origin_of(store.parent)
    if origin is None:
        place = {"driver": "file", "path": str(store.absolute() / "triplet")}
        return {"driver": "zarr3", "kvstore": place, "context": context}
    context["cache_pool"] = {"total_bytes_limit": REMOTE_MEMORY}
    place = kvstore(origin.files.below(f"{STORE}/triplet"))
    # Files of a generation never change.
    unchanging = {"recheck_cached_data": False, "recheck_cached_metadata": False}
    return {"driver": "zarr3", "kvstore": place, "context": context, **unchanging}


Indices = Sequence[int] | NDArray[np.integer]


class _Read(NamedTuple):
    """Samples that are being read."""

    samples: NDArray[np.int64]
    out: NDArray[np.uint8]
    missing: NDArray[np.int64]  # positions of those that were not in the cache
    written: Any  # TensorStore's future; None if nothing was missing


class PatchStore:
    """Read access to a patch directory; make one with `PatchStore.open`."""

    def __init__(self, path: Path, cache_bytes: int = 0) -> None:
        self.path = path
        self.manifest = read_manifest(path, KIND, FORMAT_VERSION)
        self._remote = origin_of(path) is not None
        try:
            # A missing shard is an error, not a row of black pictures.
            spec = _spec(path / STORE) | {"fill_missing_data_reads": False}
            self._triplets = tensorstore.open(spec, read=True).result()
        except ValueError as error:
            raise MidframeError(f"{path}: the store cannot be opened ({_reason(error)})") from None
        shape = self._triplets.shape
        self._cache: SampleCache | None = None
        if self._remote and cache_bytes:
            self._cache = SampleCache(path.absolute().parent, shape[0], shape[1:], cache_bytes)

    @classmethod
    def open(cls, path: str | Path, cache_bytes: int = 0) -> "PatchStore":
        """Open a published patch directory.

        Parameters
        ----------
        cache_bytes : of a store in object storage, keep so much on this disk once it was read.

        Raises
        ------
        MidframeError
            if it is missing, unfinished, something else, of another version, or damaged.
        """
        return cls(Path(path), cache_bytes)

    def __len__(self) -> int:
        """Number of samples."""
        return int(self._triplets.shape[0])

    @property
    def patch_size(self) -> int:
        """Height and width of a patch in pixels."""
        return int(self._triplets.shape[2])

    @property
    def shard_samples(self) -> int:
        """Samples in one shard."""
        return int(self.manifest["settings"]["shard_samples"])

    def read(self, indices: Indices) -> NDArray[np.uint8]:
        """Pixels of some samples, in the order of ``indices``; all are read at once.

        Returns
        -------
        uint8[n, 3, H, W, 3]
            RGB of the first, middle and third frame.

        Raises
        ------
        IndexError
            if an index is outside 0 .. len - 1.
        MidframeError
            if a sample is damaged, with its number.
        """
        return next(self.read_batches([indices]))

    def read_batches(self, batches: Iterable[Indices]) -> Iterator[NDArray[np.uint8]]:
        """Yield the pixels of one batch after the other, each as `read` returns it.

        While one is used the next `BATCHES_AHEAD` are being read, or `REMOTE_BATCHES_AHEAD`.
        """
        ahead = REMOTE_BATCHES_AHEAD if self._remote else BATCHES_AHEAD
        reads: deque[_Read] = deque()
        for indices in batches:
            reads.append(self._start(indices))
            if len(reads) > ahead:
                yield self._finish(reads.popleft())
        while reads:
            yield self._finish(reads.popleft())

    def _start(self, indices: Indices) -> "_Read":
        samples = np.asarray(indices, np.int64)
        for index in samples[(samples < 0) | (samples >= len(self))]:
            raise IndexError(f"sample {index} of a store of {len(self)}")
        # Into memory that NumPy has used before: new pages for every batch cost a third more.
        out = np.empty((len(samples), *self._triplets.shape[1:]), np.uint8)
        missing = np.arange(len(samples))
        if self._cache is not None:
            missing = missing[~self._cache.fill(samples, out)]
        into, wanted = tensorstore.array(out), samples
        if len(missing) < len(samples):
            into, wanted = into[missing], samples[missing]
        written = into.write(self._triplets[wanted]) if len(wanted) else None
        return _Read(samples, out, missing, written)

    def _finish(self, read: "_Read") -> NDArray[np.uint8]:
        try:
            if read.written is not None:
                read.written.result()
        except ValueError as error:
            if self._remote and str(error).startswith(SILENT_ERRORS):
                raise NoAnswerError(
                    f"{self.path}: the store does not answer as it should ({_reason(error)}); the "
                    "same command goes on from what is done"
                ) from None
            damage = next(self._damaged(read.samples), None)
            if damage is None:  # it was not the pixels
                raise
            sample, reason = damage
            raise MidframeError(
                f"{self.path}: sample {sample} is damaged ({reason}); run "
                f"`midframe verify {self.path}`"
            ) from None
        if self._cache is not None:
            self._cache.keep(read.samples[read.missing], read.out[read.missing])
        return read.out

    def _damaged(self, samples: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        """Those of ``samples`` that cannot be read, with the reason."""
        for sample in samples:
            try:
                self._triplets[int(sample)].read().result()
            except ValueError as error:
                yield int(sample), _reason(error)

    def table(self) -> pd.DataFrame:
        """Coordinates of the samples: one row a sample, the columns of `COORDINATES`."""
        columns: dict[str, NDArray[Any]] = {}
        with reading(self.path / STORE, f"run `midframe verify {self.path}`"):
            group = zarr.open_group(self.path / STORE, mode="r")
            for name, (dtype, _) in COORDINATES.items():
                values = np.asarray(group[name][:])  # type: ignore[index]
                columns[name] = values.astype(object if dtype is str else dtype)
            return pd.DataFrame(columns)

    def candidates(self) -> pd.DataFrame:
        """Every window tried, taken or refused (see `pipeline.selection.sampling.Candidate`)."""
        with reading(self.path / CANDIDATES, f"run `midframe verify {self.path}`"):
            return pd.read_parquet(self.path / CANDIDATES)


def _reason(error: Exception) -> str:
    """TensorStore's message without the places in its own source code."""
    return str(error).split(" [")[0]


def verify(path: Path) -> list[str]:
    """Read every byte of a patch directory and say what is damaged or missing.

    Every chunk of pixels carries a checksum, so a flipped bit is found by reading; the SHA-256 of
    all other files is in the manifest.

    Returns
    -------
    One line for each damaged place, naming the file; empty if the store is intact.

    Raises
    ------
    MidframeError
        if ``path`` is no patch directory of this version.
    """
    damage = []
    for name, expected in read_manifest(path, KIND, FORMAT_VERSION)["files"].items():
        if not (path / name).is_file():
            damage.append(f"{path / name}: missing")
        elif file_digest(path / name) != expected:
            damage.append(f"{path / name}: damaged (another SHA-256 than in the manifest)")
    if f"{path / STORE / 'triplet' / 'zarr.json'}" in {line.split(": ")[0] for line in damage}:
        return damage  # which says how to read the pixels
    store = PatchStore(path)
    for shard, first in enumerate(range(0, len(store), store.shard_samples)):
        file = shard_file(path / STORE, shard)
        if origin_of(path) is None and not file.is_file():
            damage.append(f"{file}: missing")
            continue
        try:
            store.read(range(first, min(first + store.shard_samples, len(store))))
        except NoAnswerError:
            raise
        except MidframeError as error:
            damage.append(f"{file}: {str(error).removeprefix(f'{path}: ').split('; run')[0]}")
    return damage
