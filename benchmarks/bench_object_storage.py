"""Training's reading from object storage beside the disk, and the libraries that were compared.

    python benchmarks/bench_object_storage.py                        all parts
    python benchmarks/bench_object_storage.py training|reading|libraries [--latency 0.02]

The store is `range_server` on this machine, which answers after 20 ms; everything shares two cores
with it.

- training: samples a second of real steps (a narrow network, 128x128 crops, batches of 16, reading
  ahead) from disk, from the store with nothing kept, and from the store once all is in the cache.
- reading: the same without the network: a consumer that takes as long for a batch as a device that
  trains at so many samples a second, and the rate that it gets.
- libraries: random batches of 16 samples by TensorStore, and by zarr-python over obstore and s3fs;
  whole files up and down by obstore, s3fs and TensorStore.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pandas as pd
import tensorstore
import torch
import zarr
from bench_training import PATCH, read_triplets
from obstore.store import LocalStore, S3Store
from range_server import serve
from zarr.storage import FsspecStore, ObjectStore

from model.network.architecture import SepConv
from model.network.losses import l1
from model.settings import NetworkSettings
from model.training.patches import Augmentation, Batch, ReadAhead, batches, epoch_order
from model.training.validation import to_frames
from pipeline import mirrors
from pipeline.locations import Url
from pipeline.mirrors import mirror, origin_of
from pipeline.objects import Objects, kvstore
from pipeline.provenance import publish, write_manifest
from pipeline.publication import publish_objects
from pipeline.store import patch_store
from pipeline.store.patch_store import PatchStore

SAMPLES, SHARD, BATCH, CROP = 2048, 256, 16, 128
BUCKET = "bench"
ROUNDS = 5
RATES = (100, 200, 400, 800)  # samples a second
MEGABYTES, FILES = 16, 12


def write_patches(out: Path) -> Path:
    """A store of 2,048 real patches in 8 shards, as `sample` writes it."""
    triplets = read_triplets(SHARD)
    rows = {"first_frame": 3 * np.arange(SAMPLES), "top": 0, "left": 0, "sequence": "bikes"}
    table = pd.DataFrame(rows).assign(motion=0.0, cut_distance=0.0, split="train")
    with publish(out) as folder:
        store = folder / patch_store.STORE
        patch_store.create(store, SAMPLES, PATCH, SHARD, codec="zstd")
        patch_store.write_coordinates(store, 0, table)
        for first in range(0, SAMPLES, SHARD):
            patch_store.write_shard(store, first, np.roll(triplets, first, axis=3))
        kind, version = patch_store.KIND, patch_store.FORMAT_VERSION
        write_manifest(folder, kind, version, {}, samples=SAMPLES)
    return out


def put_into_bucket(directory: Path, served: Path) -> Url:
    """Publish a directory as the objects that the server serves."""
    url = Url(BUCKET, "training")
    objects = Objects(url)
    objects._store = LocalStore(served / BUCKET, mkdir=True)  # type: ignore[assignment]
    publish_objects(directory, objects, "00000000")
    return url


def epoch(store: PatchStore, number: int, count: int) -> Iterator[Batch]:
    augmentation = Augmentation(CROP, "random", True, True, 0)
    order = epoch_order(len(store), 0, number)[: count * BATCH]
    return batches(
        store, order, BATCH, lambda triplet, one: augmentation.apply(triplet, number, one)
    )


def consume(items: Iterator[Batch], step: Callable[[Batch], None]) -> tuple[float, float]:
    """Samples a second, and the share of the time that was spent waiting for them."""
    with ReadAhead(items) as reader:
        taken = iter(reader)
        step(next(taken))  # connections are open, and code is compiled
        before, start, count = reader.waited, time.perf_counter(), 0
        for batch in taken:
            step(batch)
            count += len(batch.samples)
        seconds = time.perf_counter() - start
    return count / seconds, (reader.waited - before) / seconds


Opening = dict[str, Callable[[], PatchStore]]


def stores(local: Path, url: Url) -> Opening:
    """How each store is opened; the last has all its samples in the cache."""
    mirrored, room = mirror(url), 10**9
    cached = PatchStore.open(mirrored, room)
    for first in range(0, SAMPLES, SHARD):
        cached.read(range(first, first + SHARD))
    return {
        "disk": lambda: PatchStore.open(local),
        "store": lambda: PatchStore.open(mirrored),
        "store, all in the cache": lambda: PatchStore.open(mirrored, room),
    }


def compare(
    opening: Opening, count: int, step: Callable[[Batch], None]
) -> dict[str, tuple[float, float, float]]:
    """Medians over some rounds, in which the stores take turns.

    Returns
    -------
    For each store its rate, that rate as a share of the disk's in the same round, and the share of
    the time that was spent waiting.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in opening}
    for number in range(ROUNDS):
        for name, opened in opening.items():
            # Opened anew: nothing of it is in memory.
            found[name].append(consume(epoch(opened(), number, count), step))
    disk = [rate for rate, _ in found["disk"]]
    return {
        name: (
            statistics.median(rate for rate, _ in one),
            statistics.median(rate / by for (rate, _), by in zip(one, disk, strict=True)),
            statistics.median(waited for _, waited in one),
        )
        for name, one in found.items()
    }


def bench_training(opening: Opening) -> None:
    torch.manual_seed(0)
    shape = NetworkSettings(width=1 / 16, kernel_length=5, initialisation="linear", normalise=True)
    network = SepConv(shape).train()
    optimizer = torch.optim.Adamax(network.parameters(), lr=1e-3)

    def step(batch: Batch) -> None:
        first, middle, third = to_frames(batch.triplets, torch.device("cpu"))
        optimizer.zero_grad()
        l1(network(first, third), middle).backward()
        optimizer.step()

    found = compare(opening, 10, step)
    print("\n| training from | samples/s | of the disk's | waiting |\n|---|---|---|---|")
    for name, (rate, share, waited) in found.items():
        print(f"| {name} | {rate:.1f} | {share:.2f} | {waited:.1%} |")


def bench_reading(opening: Opening) -> None:
    print("\n| a device that trains at | " + " | ".join(opening) + " |")
    print("|---|" + "---|" * len(opening))
    for wanted in (*RATES, None):
        pause = BATCH / wanted if wanted else 0.0

        def step(batch: Batch, pause: float = pause) -> None:
            time.sleep(pause)

        found = compare(opening, 40, step)
        cells = [f"{rate:.0f} ({share:.2f})" for rate, share, _ in found.values()]
        print(f"| {wanted or 'any rate'} | " + " | ".join(cells) + " |")


def rate_of(read: Callable[[Any], object], count: int = 20) -> float:
    stream = np.random.default_rng(1)
    read(stream.permutation(SAMPLES)[:BATCH])
    start = time.perf_counter()
    for _ in range(count):
        read(stream.permutation(SAMPLES)[:BATCH])
    return count * BATCH / (time.perf_counter() - start)


def bench_libraries(url: Url, endpoint: str) -> None:
    origin = origin_of(mirror(url))
    assert origin is not None
    inside = f"{origin.files.key}/{patch_store.STORE}/triplet"
    store = S3Store(BUCKET, endpoint=endpoint, client_options={"allow_http": True})
    by_obstore = zarr.open_array(
        ObjectStore(
            S3Store(BUCKET, prefix=inside, endpoint=endpoint, client_options={"allow_http": True}),
            read_only=True,
        ),
        mode="r",
    )
    readers: dict[str, Callable[[Any], object]] = {
        "TensorStore": PatchStore.open(mirror(url)).read,
        "zarr-python over obstore": by_obstore.oindex.__getitem__,
    }
    try:
        import s3fs
    except ImportError:
        s3fs = None
    if s3fs is not None:
        options = {"endpoint_url": endpoint, "key": "key", "secret": "secret", "asynchronous": True}
        remote = FsspecStore.from_url(f"s3://{BUCKET}/{inside}", options, read_only=True)
        readers["zarr-python over s3fs"] = zarr.open_array(remote, mode="r").oindex.__getitem__
    print("\n| one batch after the other, by | samples/s |\n|---|---|")
    for name, read in readers.items():
        print(f"| {name} | {rate_of(read):.0f} |")

    content = os.urandom(MEGABYTES << 20)
    keyed = kvstore(Url(BUCKET, "files"))
    keyed.pop("context")
    whole = tensorstore.KvStore.open(keyed).result()
    ways: dict[str, tuple[Callable[[str], object], Callable[[str], object]]] = {
        "obstore": (
            lambda name: obstore.put(store, f"files/{name}", content, use_multipart=False),
            lambda name: obstore.get(store, f"files/{name}").bytes(),
        ),
        "TensorStore": (
            lambda name: whole.write(name, content).result(),
            lambda name: whole.read(name).result(),
        ),
    }
    if s3fs is not None:
        files = s3fs.S3FileSystem(endpoint_url=endpoint, key="key", secret="secret")
        ways["s3fs"] = (
            lambda name: files.pipe_file(f"{BUCKET}/files/{name}", content),
            lambda name: files.cat_file(f"{BUCKET}/files/{name}"),
        )
    print(
        f"\n| {FILES} files of {MEGABYTES} MiB, one after the other, by | up, MB/s | down, MB/s |"
    )
    print("|---|---|---|")
    for name, (up, down) in ways.items():
        speeds = []
        for move in (up, down):
            start = time.perf_counter()
            for number in range(FILES):
                move(f"{name}-{number}")
            speeds.append(FILES * len(content) / (time.perf_counter() - start) / 1e6)
        print(f"| {name} | {speeds[0]:.0f} | {speeds[1]:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = ("training", "reading", "libraries")
    parser.add_argument("parts", nargs="*", metavar="|".join(parts), help="default: all")
    parser.add_argument("--latency", type=float, default=0.02, metavar="S", help="of an answer")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-objects-"))
    names = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    os.environ.update(names | {mirrors.FOLDER: str(folder / "objects")})
    try:
        local = write_patches(folder / "training")
        url = put_into_bucket(local, folder / "served")
        with serve(folder / "served", arguments.latency) as endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            print(f"answers after {arguments.latency * 1e3:.0f} ms; {SAMPLES} samples")
            opening = stores(local, url)
            if not arguments.parts or "training" in arguments.parts:
                bench_training(opening)
            if not arguments.parts or "reading" in arguments.parts:
                bench_reading(opening)
            if not arguments.parts or "libraries" in arguments.parts:
                bench_libraries(url, endpoint)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
