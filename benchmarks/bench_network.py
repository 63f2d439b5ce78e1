"""What a whole network costs, and the operator's share of it.

    python benchmarks/bench_network.py [--threads 2] [--repeats 5] [--weights FILE]

First the prediction of one frame of 960 x 544 (540 rows, padded) by the full network, in the ways
that PyTorch offers: plain, without autograd's bookkeeping, in the channels-last memory format, and
compiled; where the processor computes in bfloat16, also under autocast. The ways take turns, so
that all see the same machine; times are the least of the repeats, after one that is not counted.
`midframe evaluates` and `midframe interpolates` are what these commands do: they differ where there
is bfloat16. Then a training step (forward, L1 loss, backward, AdaMax) of a batch of four at
128 x 128.

With the weights of a trained network, what bfloat16 costs: the mean PSNR of the middle frames of
the last tenth of bikes, on which the demonstration does not train, in both precisions.

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
from footage import read_clip
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from model.network.architecture import SepConv
from model.network.checkpoints import save_network
from model.video.interpolation import load_predictor
from pipeline.processor import computes_bfloat16

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


def operator_share(run: Callable[[], object]) -> str:
    """Share of the operator, forward and backward, in the time of one run, where this thread runs.

    Predictors of the commands compute in threads of their own, which the profiler does not see.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    events = profiled.key_averages()
    own = sum(event.self_cpu_time_total for event in events if OPERATOR in event.key)
    total = sum(event.self_cpu_time_total for event in events)
    return f"{own / total:.1%}" if total else "–"


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
        evaluates = load_predictor(str(weights), device="cpu")
        interpolates = load_predictor(str(weights), device="cpu", precision="auto")
    inference = torch.inference_mode()
    compiled = torch.no_grad()(torch.compile(channels_last))
    autocast = torch.autocast("cpu", torch.bfloat16)
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: network(first, third),
        "inference_mode": inference(lambda: network(first, third)),
        "channels_last": inference(lambda: channels_last(first, third)),
        "channels_last, torch.compile": lambda: compiled(first, third),
        "midframe evaluates": lambda: evaluates(*(frame.copy() for frame in frames)),
        "midframe interpolates": lambda: interpolates(*(frame.copy() for frame in frames)),
    }
    if computes_bfloat16():
        ways["channels_last, autocast bfloat16"] = inference(
            autocast(lambda: channels_last(first, third))
        )
    return ways


def cost_of_bfloat16(weights: Path) -> None:
    """Print the PSNR of held-out frames in both precisions, and how far predictions differ."""
    frames = read_clip("bikes")
    held_out = frames[-len(frames) // 10 :]
    predictors = [load_predictor(str(weights), "cpu", precision=p) for p in ("fp32", "bf16")]
    psnr: list[list[float]] = [[], []]
    largest = 0.0
    for first, middle, third in zip(held_out, held_out[1:], held_out[2:], strict=False):
        made = [predictor(first, third) for predictor in predictors]
        largest = max(largest, float(np.abs(made[0] - made[1]).max()))
        for values, prediction in zip(psnr, made, strict=True):
            levels = np.clip(np.rint(255.0 * prediction), 0, 255)
            error = np.mean((levels - middle.astype(np.float64)) ** 2)
            values.append(10 * math.log10(255**2 / error))
    exact, rounded = (float(np.mean(values)) for values in psnr)
    print(
        f"\nPSNR of {len(psnr[0])} held-out frames of bikes: float32 {exact:.4f} dB, bfloat16 "
        f"{rounded:.4f} dB ({rounded - exact:+.4f}); largest difference of a prediction "
        f"{255 * largest:.2f} levels of 255"
    )


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
        print(f"| {name} | {seconds:.2f} | {base / seconds:.2f} | {share} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--weights", type=Path, help="of a trained network: what bfloat16 costs")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    network = SepConv()
    print(f"full network, {given.threads} threads, float32; × = times faster than the first way")
    tabulate("training step, 4×3×128×128", training(network), given.repeats)
    tabulate("prediction, 960×540", prediction(network.eval()), given.repeats)
    if given.weights:
        cost_of_bfloat16(given.weights)


if __name__ == "__main__":
    main()
