"""The operator against its float64 reference, and inside what PyTorch offers on a GPU."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.machine import Machine, kernels
from model.sepconv import reference, separable_convolution
from model.sepconv.variants import CHOICES

TOLERANCE = {
    torch.float64: 1e-13,
    torch.float32: 1e-6,
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,
}


def tensors(machine: Machine, dtype: torch.dtype, sizes: tuple[int, ...]) -> list[Tensor]:
    """Frame, kernels and a gradient for sizes [B, C, K, H, W]."""
    batch, channels, taps, height, width = sizes
    frame = (batch, channels, height + taps - 1, width + taps - 1)
    maps = (batch, taps, height, width)
    shapes = (frame, maps, maps, (batch, channels, height, width))
    return [machine.make(*shape, dtype=dtype, seed=k) for k, shape in enumerate(shapes)]


def differences(inputs: list[Tensor], gradient: Tensor) -> float:
    """Largest difference of output and gradients, in parts of the tolerance of their dtype.

    The values are compared with what float64 makes of the same inputs; all but the last rounding
    is in float32 or better.
    """
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = separable_convolution(*leaves)
    results = [output, *torch.autograd.grad(output, leaves, gradient)]
    exact = [tensor.detach().double() for tensor in inputs]
    expected = [
        reference.forward(*exact),
        *reference.gradients(gradient.double(), *exact, (True, True, True)),
    ]
    worst = 0.0
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == gradient.dtype, f"{result.dtype} from {gradient.dtype}"
        assert result.shape == wanted.shape, f"{result.shape} instead of {wanted.shape}"
        if not wanted.numel():
            continue
        largest = (result.double() - wanted).abs().max().item()
        scale = TOLERANCE[gradient.dtype] * max(1.0, wanted.abs().max().item())
        worst = max(worst, largest / scale)
        assert worst <= 1, f"off by {largest:.3g} where {scale:.3g} is allowed"
    return worst


def against_reference(machine: Machine) -> dict[str, Any]:
    """Every dtype, odd sizes, K = 1 to 51, channels 1, 3, 4, any strides, empty, many blocks."""
    dtypes = machine.pick(list(TOLERANCE), list(TOLERANCE), [torch.float32, torch.float16])
    lengths = machine.pick((1, 2, 3, 5, 9, 13, 17, 25, 31, 41, 50, 51), (1, 9, 51), (1, 9))
    worst: dict[str, float] = {}
    done = 0
    for choice in CHOICES:
        for dtype in dtypes:
            for taps in _compiled_lengths(machine, dtype) if choice == "tiled" else lengths:
                channels = (3, 1, 4)[done % 3] if machine.pick(True, True, False) else 3
                sizes = (2, channels, taps, *machine.pick((37, 71), (19, 37), (3, 5)))
                inputs = tensors(machine, dtype, sizes)
                try:
                    with kernels(choice):
                        found = differences(inputs[:3], inputs[3])
                except AssertionError as error:
                    raise AssertionError(f"{choice} kernels, {dtype}, {sizes}: {error}") from None
                key = f"{choice} {str(dtype).removeprefix('torch.')}"
                worst[key] = max(worst.get(key, 0.0), found)
                done += 1
    for made in layouts(machine):
        differences(made[:3], made[3])
        done += 1
    return {"cases": done, "largest difference in parts of the tolerance": worst}


def _compiled_lengths(machine: Machine, dtype: torch.dtype) -> tuple[int, ...]:
    """Numbers of taps of the tiled kernels, each of which takes seconds to compile."""
    if dtype == torch.float32:
        return machine.pick((1, 5, 9, 17, 25, 31, 51), (9, 51), (1, 9))
    return machine.pick((9, 51), (9,), (9,))


def layouts(machine: Machine) -> list[list[Tensor]]:
    """Inputs that lie in other ways: channels-last, every other sample, empty, > 65,535 blocks."""
    sizes = (2, 3, 9, *machine.pick((37, 71), (37, 71), (5, 7)))
    plain = tensors(machine, torch.float32, sizes)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in plain]
    sparse = [torch.stack([tensor, tensor], dim=-1)[..., 0] for tensor in plain]
    empty = [tensor[:0] for tensor in plain]
    # A block makes 512 pixels or fewer.
    area = machine.pick((8200, 4100), (8200, 4100), (9, 40))
    many = tensors(machine, torch.float32, (1, 1, 1, *area))
    return [last, sparse, empty, many]


def digest(values: list[Tensor]) -> str:
    """SHA-256 of the bytes of some tensors."""
    whole = hashlib.sha256()
    for value in values:
        whole.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def within_torch(machine: Machine) -> dict[str, Any]:
    """gradcheck, other streams, CUDA graphs, torch.compile, autocast, other devices, same bytes."""
    done: list[str] = []
    small = [t.requires_grad_() for t in tensors(machine, torch.float64, (1, 2, 3, 4, 5))[:3]]
    assert torch.autograd.gradcheck(separable_convolution, small), "gradcheck"
    done.append("gradcheck")

    sizes = (2, 3, 9, *machine.pick((128, 128), (128, 128), (6, 18)))
    *inputs, gradient = tensors(machine, torch.float32, sizes)

    def run() -> list[Tensor]:
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        output = separable_convolution(*leaves)
        return [output, *torch.autograd.grad(output, leaves, gradient)]

    expected = run()
    assert digest(run()) == digest(expected), "two runs differ"
    done.append("same bytes in two runs")

    with machine.side_stream():
        late = separable_convolution(*(tensor * 2 for tensor in inputs))
    torch.testing.assert_close(late, expected[0] * 8)
    done.append("a stream other than the default")

    held = [tensor.clone() for tensor in inputs]
    replay, output = machine.capture(lambda: separable_convolution(*held))
    held[0].mul_(2)
    replay()
    machine.synchronize()
    torch.testing.assert_close(output, expected[0] * 2)
    done.append("CUDA graph")

    backend = machine.pick("inductor", "aot_eager", "aot_eager")
    compiled = torch.compile(lambda *given: separable_convolution(*given) * 2, backend=backend)
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = compiled(*leaves)
    slopes = torch.autograd.grad(output, leaves, gradient)
    torch.testing.assert_close(output, expected[0] * 2)
    for slope, wanted in zip(slopes, expected[1:], strict=True):
        torch.testing.assert_close(slope, wanted * 2)
    done.append("torch.compile")

    with machine.autocast(torch.bfloat16):
        output = separable_convolution(inputs[0], *(tensor.bfloat16() for tensor in inputs[1:]))
    assert output.dtype == torch.float32, f"autocast gave {output.dtype}"
    done.append("autocast")

    if not machine.pretend and torch.cuda.device_count() > 1:
        there = [tensor.to("cuda:1") for tensor in inputs]
        torch.testing.assert_close(separable_convolution(*there).cpu(), expected[0].cpu())
        done.append("a second device")
    return {"held": done}


def under_sanitizer(machine: Machine) -> dict[str, Any]:
    """compute-sanitizer's memcheck and racecheck on a few sizes, where it is installed."""
    program = shutil.which("compute-sanitizer") or shutil.which(
        "/usr/local/cuda/bin/compute-sanitizer"
    )
    command = [sys.executable, str(Path(__file__).parents[1] / "gpu_check.py"), "--few-sizes"]
    if machine.pretend:  # the same program, without the tool around it
        few_sizes(machine)
        return {"skipped": "compute-sanitizer watches GPUs only; what it would watch ran"}
    if program is None:
        return {"skipped": "compute-sanitizer is not installed"}
    for tool in ("memcheck", "racecheck"):
        done = subprocess.run(
            [program, f"--tool={tool}", "--error-exitcode=9", *command],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, f"{tool}: {(done.stdout + done.stderr)[-2000:]}"
    return {"held": ["memcheck", "racecheck"]}


def few_sizes(machine: Machine) -> None:
    """What runs under the sanitizer: each kernel once, at odd sizes."""
    for choice in CHOICES:
        with kernels(choice):
            area = machine.pick((13, 35), (13, 35), (3, 5))
            inputs = tensors(machine, torch.float32, (1, 3, 9, *area))
            differences(inputs[:3], inputs[3])
