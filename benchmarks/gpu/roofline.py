"""The times of operator, training step and prediction on GPUs, derived from data sheets.

    python benchmarks/gpu/roofline.py

No GPU takes part. A time is the larger one of two: the arithmetic at the card's rate, and the bytes
that must move at its memory's. Nothing reaches both, so real times are longer. ``gpu_check.py``
measures both rates and the times themselves.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.network.architecture import SepConv

TAPS, CHANNELS = 51, 3


@dataclass(frozen=True)
class Card:
    """From the vendor's data sheet: TFLOP/s dense, GB/s; 16-bit with sums in float32."""

    name: str
    float32: float
    sixteen_bit: float
    bandwidth: float


CARDS = (
    Card("T4", 8.1, 65, 320),
    Card("A100 (SXM, 80 GB)", 19.5, 312, 2039),
    Card("H100 (SXM)", 66.9, 989.4, 3352),
    Card("RTX 4090", 82.6, 165.2, 1008),
)
OPERATOR = {"16×128×128": 16 * 128 * 128, "1280×720": 1280 * 720, "1920×1080": 1920 * 1080}


def operator_work(pixels: int, itemsize: int, gradients: bool) -> tuple[float, float]:
    """Operations and bytes of a pass over one frame, or of both kernels' gradients."""
    operations = 2 * pixels * CHANNELS * TAPS**2 * (2 if gradients else 1)
    maps = 2 * TAPS * pixels * (2 if gradients else 1)
    return operations, (maps + 2 * CHANNELS * pixels) * itemsize


def convolution_flops(height: int, width: int, backward: bool) -> int:
    """Operations of the paper's network without its operator, as PyTorch counts them."""
    with torch.device("meta"):
        network = SepConv()
        frames = [torch.empty(1, 3, height, width) for _ in range(2)]
    counter = FlopCounterMode(display=False)
    with counter:
        kernels = network._kernels(*frames)
        if backward:
            torch.autograd.backward(kernels, [torch.empty_like(kernel) for kernel in kernels])
    return counter.get_total_flops()


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("| operator, ms at least | " + " | ".join(card.name for card in CARDS) + " |")
    print("|---" * (len(CARDS) + 1) + "|")
    for label, pixels in OPERATOR.items():
        for name, gradients in (("forward", False), ("both kernel gradients", True)):
            for dtype, itemsize in (("float32", 4), ("16 bits", 2)):
                operations, moved = operator_work(pixels, itemsize, gradients)
                cells = []
                for card in CARDS:
                    arithmetic = operations / card.float32 / 1e12
                    memory = moved / card.bandwidth / 1e9
                    limit = "a" if arithmetic >= memory else "m"
                    cells.append(f"{max(arithmetic, memory) * 1e3:.2f} {limit}")
                print(f"| {label} {name}, {dtype} | " + " | ".join(cells) + " |")
    print("\n| convolutions and operator | " + " | ".join(card.name for card in CARDS) + " |")
    print("|---" * (len(CARDS) + 1) + "|")
    for label, size, backward in (
        ("samples/s at most, training at 128×128", (128, 128), True),
        ("frames/s at most, prediction at 1920×1080", (1088, 1920), False),
    ):
        convolutions = convolution_flops(*size, backward)
        pixels = size[0] * size[1]
        for name, itemsize in (("fp32", 4), ("bf16 or fp16", 2)):
            rates = []
            for card in CARDS:
                seconds = (
                    convolutions / 1e12 / (card.float32 if itemsize == 4 else card.sixteen_bit)
                )
                for gradients in (False, True) if backward else (False,):
                    # Autocast computes the operator in float32.
                    operations, moved = operator_work(2 * pixels, 4, gradients)
                    seconds += max(operations / card.float32 / 1e12, moved / card.bandwidth / 1e9)
                rates.append(f"{1 / seconds:.3g}")
            print(f"| {label}, {name} | " + " | ".join(rates) + " |")


if __name__ == "__main__":
    main()
