"""Times of the operator, of a training step and of a prediction, beside the machine's limits."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench_sepconv import row_loop
from benchmarks.gpu.machine import Machine, kernels
from benchmarks.gpu.operator_parts import tensors
from model.network.architecture import SepConv
from model.network.losses import l1
from model.network.tiling import predict_tiled
from model.network_shape import NetworkShape
from model.sepconv import separable_convolution
from model.sepconv.cuda import _torch_stream
from model.sepconv.variants import CHOICES

SIZES = {
    "16x128x128": (16, 3, 51, 128, 128),
    "1280x720": (1, 3, 51, 720, 1280),
    "1920x1080": (1, 3, 51, 1080, 1920),
}
PRETENDED = {"1x4x18": (1, 3, 9, 4, 18)}
FRAMES = {"480p": (480, 854), "720p": (720, 1280), "1080p": (1080, 1920), "4K": (2160, 3840)}
PIXELS_OF_A_TILE = 2048 * 1280

FMA_KERNEL = r"""
extern "C" __global__ void chains(float* result, float factor, int rounds) {
    float sum[16];
    for (int k = 0; k < 16; ++k) sum[k] = threadIdx.x + k;
    for (int round = 0; round < rounds; ++round)
        #pragma unroll
        for (int k = 0; k < 16; ++k) sum[k] = sum[k] * factor + 0.5f;
    float total = 0;
    for (int k = 0; k < 16; ++k) total += sum[k];
    result[blockIdx.x * blockDim.x + threadIdx.x] = total;
}
"""


def limits(machine: Machine) -> dict[str, Any]:
    """Bytes a second of a copy; fused multiply-adds a second, in registers; of a bf16 product."""
    return dict(_limits(machine))


@cache
def _limits(machine: Machine) -> dict[str, float]:
    source = machine.make(machine.pick(2**26, 2**26, 2**16))
    target = torch.empty_like(source)
    copying = machine.seconds(lambda: target.copy_(source), 0.3)
    size = machine.pick(8192, 8192, 64)
    square = machine.make(size, size, dtype=torch.bfloat16)
    product = machine.seconds(lambda: square @ square, 0.3)
    return {
        "GB/s copied": 2 * source.nbytes / copying / 1e9,
        "TFMA/s float32": _fma_rate(machine) / 1e12,
        "TFMA/s bf16 product": size**3 / product / 1e12,
    }


def _fma_rate(machine: Machine) -> float:
    """Fused multiply-adds a second; with --pretend those of a matrix product on the CPU."""
    if machine.pretend:
        square = machine.make(128, 128)
        return 128**3 / machine.seconds(lambda: square @ square)
    import cupy

    blocks, threads, rounds = torch.cuda.get_device_properties(0).multi_processor_count, 256, 4096
    blocks *= 16
    result = torch.empty(blocks * threads, device=machine.device)
    kernel = cupy.RawKernel(FMA_KERNEL, "chains")
    arguments = (result.data_ptr(), cupy.float32(0.999), cupy.int32(rounds))

    def run() -> None:
        with _torch_stream(result.device):
            kernel((blocks,), (threads,), arguments)

    return blocks * threads * rounds * 16 / machine.seconds(run, 0.3)


def operator_speed(machine: Machine) -> dict[str, Any]:
    """Milliseconds forward and of both kernel gradients, and the share of the roofline."""
    bound = _limits(machine)
    found: dict[str, Any] = {}
    dtypes = machine.pick([torch.float32, torch.bfloat16], [torch.float32], [torch.float32])
    for label, sizes in machine.pick(SIZES, SIZES, PRETENDED).items():
        if machine.quick and label == "1280x720":
            continue
        for dtype in dtypes:
            looped = dtype == torch.float32 and label != "1920x1080"  # there it takes seconds
            for way in (*CHOICES, "row loop") if looped else CHOICES:
                times = _times(machine, way, tensors(machine, dtype, sizes))
                for name, seconds in times.items():
                    floor = _roofline(sizes, dtype, name, bound)
                    key = f"{label} {str(dtype).removeprefix('torch.')} {name}, {way}"
                    found[key] = {"ms": seconds * 1e3, "of the roofline": floor / seconds}
    return found


def compiled_row_loop(machine: Machine) -> dict[str, Any]:
    """Milliseconds of PyTorch's row loop by `torch.compile`, whose compilation takes most."""
    label, sizes = next(iter(machine.pick(SIZES, SIZES, PRETENDED).items()))
    times = _times(machine, "compiled row loop", tensors(machine, torch.float32, sizes))
    return {f"{label} float32 {name}": {"ms": seconds * 1e3} for name, seconds in times.items()}


def _times(machine: Machine, way: str, made: list[Tensor]) -> dict[str, float]:
    *inputs, slope = made
    function = {
        "row loop": row_loop,
        "compiled row loop": torch.compile(
            row_loop, dynamic=False, backend=machine.pick("inductor", "inductor", "eager")
        ),
    }.get(way, separable_convolution)
    leaves = [inputs[0], *(tensor.detach().requires_grad_() for tensor in inputs[1:])]
    with kernels(way if way in CHOICES else ""):
        with torch.no_grad():
            forward = machine.seconds(lambda: function(*inputs), 0.5)
        output = function(*leaves)
        backward = machine.seconds(
            lambda: torch.autograd.grad(output, leaves[1:], slope, retain_graph=True), 0.5
        )
    return {"forward": forward, "gradients": backward}


def _roofline(
    sizes: tuple[int, ...], dtype: torch.dtype, name: str, bound: dict[str, float]
) -> float:
    """Seconds that the arithmetic or the bytes take at least, at the measured rates."""
    batch, channels, taps, height, width = sizes
    pixels = batch * height * width
    passes = 1 if name == "forward" else 2
    work = passes * pixels * channels * taps**2
    maps = 2 * taps * pixels
    frame = batch * channels * (height + taps - 1) * (width + taps - 1)
    moved = (maps * passes + frame + channels * pixels) * dtype.itemsize
    return max(work / bound["TFMA/s float32"] / 1e12, moved / bound["GB/s copied"] / 1e9)


def _network(machine: Machine) -> SepConv:
    torch.manual_seed(0)
    shape = machine.pick(NetworkShape(), NetworkShape(), NetworkShape(3, 0.03))
    return SepConv(shape).to(machine.device)


def training_step(machine: Machine) -> dict[str, Any]:
    """Samples a second of the paper's network, and those of its convolutions alone."""
    batch, size = machine.pick((16, 128), (16, 128), (1, 32))
    first, middle, third = (machine.make(batch, 3, size, size, seed=k) for k in range(3))
    found: dict[str, Any] = {}
    ways = [(p, last) for p in ("fp32", "tf32", "bf16") for last in (False, True)]
    for precision, last in machine.pick(ways, ways[::2], ways[::2]):
        torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        torch.backends.cudnn.benchmark = True
        dtype = torch.bfloat16 if precision == "bf16" else None
        network = _network(machine)
        if last:
            network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adamax(network.parameters())
        with torch.no_grad(), machine.autocast(dtype):
            slopes = [torch.ones_like(k) for k in network._kernels(first, third)]

        def whole(network=network, optimizer=optimizer, dtype=dtype) -> None:
            optimizer.zero_grad()
            with machine.autocast(dtype):
                prediction = network(first, third)
            l1(prediction.float(), middle).backward()
            optimizer.step()

        def convolutions(network=network, optimizer=optimizer, dtype=dtype, slopes=slopes) -> None:
            optimizer.zero_grad()
            with machine.autocast(dtype):
                predicted = network._kernels(first, third)
            torch.autograd.backward(predicted, slopes)
            optimizer.step()

        with machine.peak_memory() as memory:
            seconds = machine.seconds(whole, 2)
        alone = machine.seconds(convolutions, 1)
        found[f"{precision}{', channels-last' if last else ''}"] = {
            "samples/s": batch / seconds,
            "time of the convolutions alone": alone / seconds,
            **memory,
        }
    return found


@torch.inference_mode()
def prediction(machine: Machine) -> dict[str, Any]:
    """Frames a second with the transfers, whole or in tiles; bf16 against fp32 in decibels."""
    found: dict[str, Any] = {}
    names = machine.pick(list(FRAMES), ["1080p"], ["tiny"])
    network = _network(machine).eval()
    for name in names:
        height, width = FRAMES.get(name, (40, 48))
        host = [(machine.make(1, 3, height, width, seed=k).cpu() + 1) / 2 for k in range(2)]
        if not machine.pretend:
            host = [frame.pin_memory() for frame in host]

        def carry(host=host) -> list[Tensor]:
            return [frame.to(machine.device, non_blocking=True) for frame in host]

        results = {}
        for precision, dtype in (("fp32", None), ("bf16", torch.bfloat16)):

            def run(dtype=dtype, carry=carry, tiled=height * width > PIXELS_OF_A_TILE) -> Tensor:
                first, third = carry()
                with machine.autocast(dtype):
                    if not tiled:
                        return network(first, third).float().cpu()
                    return predict_tiled(network, first, third, PIXELS_OF_A_TILE).float().cpu()

            with machine.peak_memory() as memory:
                seconds = machine.seconds(run, 2)
            results[precision] = run()
            found[f"{name} {precision}"] = {"frames/s": 1 / seconds, **memory}
        found[f"{name} bf16"]["largest difference to fp32"] = (
            (results["fp32"] - results["bf16"]).abs().max().item()
        )
        there = carry()
        found[f"{name} transfers"] = {
            "ms to the GPU": machine.seconds(carry, 0.2) * 1e3,
            "ms back": machine.seconds(there[0].cpu, 0.2) * 1e3,
        }
    return found
