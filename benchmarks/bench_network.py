"""What a whole network costs, and the operator's share of it.

    python benchmarks/bench_network.py [--threads 2] [--repeats 5]

First the prediction of one frame of 960 x 544 (540 rows, padded) by the full network, in the ways
that PyTorch offers: plain, without autograd's bookkeeping, in the channels-last memory format, and
compiled. The ways take turns, so that all see the same machine; times are the least of the repeats,
after one run that is not counted. `midframe interpolates` is what `midframe interpolate` and
`evaluate` do. Then a training step (forward, L1 loss, backward, AdaMax) of a batch of four at
128 x 128.

The operator's share is that of its own time in all time, as PyTorch's profiler counts it.
"""

import argparse
import copy
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from model.network.architecture import SepConv
from model.network.checkpoints import save_network
from model.video.interpolation import load_predictor

OPERATOR = "midframe"  # in the names of all that runs on its behalf


def least_times(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest run of each; the ways take turns."""
    best = dict.fromkeys(ways, math.inf)
    for turn in range(repeats + 1):
        for name, run in ways.items():
            begin = time.perf_counter()
            run()
            if turn:
                best[name] = min(best[name], time.perf_counter() - begin)
    return best


def operator_share(run: Callable[[], object]) -> float:
    """Share of the operator, forward and backward, in the time of one run."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    events = profiled.key_averages()
    own = sum(event.self_cpu_time_total for event in events if OPERATOR in event.key)
    return float(own / sum(event.self_cpu_time_total for event in events))


def prediction(network: SepConv) -> dict[str, Callable[[], object]]:
    """Ways to predict a frame of 960 x 540."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (540, 960, 3), dtype=np.uint8) for _ in range(2)]
    first, third = (torch.from_numpy(f).permute(2, 0, 1)[None].float().div(255) for f in frames)
    first, third = first.contiguous(), third.contiguous()
    channels_last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        save_network(network, weights, {})
        predictor = load_predictor(str(weights), device="cpu")
    inference = torch.inference_mode()
    compiled = torch.no_grad()(torch.compile(channels_last))
    return {
        "plain": lambda: network(first, third),
        "inference_mode": inference(lambda: network(first, third)),
        "channels_last": inference(lambda: channels_last(first, third)),
        "channels_last, torch.compile": lambda: compiled(first, third),
        "midframe interpolates": lambda: predictor(frames[0], frames[1]),
    }


def training(network: SepConv) -> dict[str, Callable[[], object]]:
    """A training step in two memory formats."""
    first, middle, third = (torch.rand(4, 3, 128, 128) for _ in range(3))

    def step(network: SepConv, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        functional.l1_loss(network(first, third), middle).backward()
        optimiser.step()

    steps: dict[str, Callable[[], object]] = {}
    for name, memory_format in (
        ("contiguous", torch.contiguous_format),
        ("channels_last", torch.channels_last),
    ):
        own = copy.deepcopy(network).to(memory_format=memory_format)
        optimiser = torch.optim.Adamax(own.parameters())
        steps[name] = lambda own=own, optimiser=optimiser: step(own, optimiser)
    return steps


def tabulate(title: str, ways: dict[str, Callable[[], object]], repeats: int) -> None:
    """Measure the ways and print a table; ratios are to the first of them."""
    times = least_times(ways, repeats)
    base = next(iter(times.values()))
    print(f"\n### {title}\n")
    print("| way | s | × | operator's share |")
    print("|---|---|---|---|")
    for name, seconds in times.items():
        share = operator_share(ways[name])
        print(f"| {name} | {seconds:.2f} | {base / seconds:.2f} | {share:.1%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    network = SepConv()
    print(f"full network, {given.threads} threads, float32; × = times faster than the first way")
    tabulate("training step, 4×3×128×128", training(network), given.repeats)
    tabulate("prediction, 960×540", prediction(network.eval()), given.repeats)


if __name__ == "__main__":
    main()
