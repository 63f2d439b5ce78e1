"""A training on made-up patches: it learns, its precisions agree, and it resumes to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.machine import Machine
from benchmarks.gpu.operator_parts import digest
from model.network.architecture import SepConv
from model.network.losses import l1
from model.network_shape import NetworkShape

SCRIPT = Path(__file__).parents[1] / "gpu_check.py"
# Decibels above linear interpolation that 200 steps must reach. A CPU reaches 10 (6 after half of
# them). Trained with kernels that are predicted for another patch it has 0.6 after 100 steps.
GAIN = 3.0
STEPS = 200
# Of Adam. Adamax at 4e-3, enough where all patches move alike, was at -5.6 dB after 75 steps.
LEARNING_RATE, WARMUP = 2e-3, 20
# Pixels down or to the right between neighbouring frames, at most. With 2, 24 motions instead of 8,
# a CPU reached 3.3 dB of the squared error of all patches, too near to what is asked.
REACH = 1
MOTIONS = [
    (down, right)
    for down in range(-REACH, REACH + 1)
    for right in range(-REACH, REACH + 1)
    if down or right
]
GRAINS = (2, 4, 8, 16)  # pixels


def moving_patches(count: int, size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Triplets of textures, each with a motion of its own: first, middle, third, [B, 3, H, W].

    Fine grains make linear interpolation bad, coarse ones show where they belong. All directions
    are alike, so that the same kernels for all patches gain little over it.
    """
    generator = torch.Generator().manual_seed(seed)
    whole = size + 2 * REACH
    texture = torch.full((count, 3, whole, whole), 0.5)
    for grain in GRAINS:
        cells = whole // grain + 4
        noise = torch.rand(count, 3, cells, cells, generator=generator) - 0.5
        grains = functional.interpolate(noise, scale_factor=grain, mode="bicubic")
        texture += 0.6 * grains[..., grain : grain + whole, grain : grain + whole]
    texture.clamp_(0, 1)
    chosen = torch.randint(len(MOTIONS), (count,), generator=generator).tolist()
    frames = torch.empty(3, count, 3, size, size)
    for patch, motion in enumerate(chosen):
        for time in range(3):
            top, left = (REACH + (time - 1) * shift for shift in MOTIONS[motion])
            frames[time, patch] = texture[patch, :, top : top + size, left : left + size]
    return frames[0], frames[1], frames[2]


def rate(step: int) -> float:
    """Learning rate of a step: it rises, stays, and falls to nothing in the second half."""
    return LEARNING_RATE * min((step + 1) / WARMUP, 1.0, (STEPS - step) / (STEPS / 2))


class Training:
    """A small network in training, and all that changes in it."""

    def __init__(self, machine: Machine, precision: str = "fp32") -> None:
        torch.manual_seed(0)
        width, taps = machine.pick((0.25, 9), (0.25, 9), (0.03, 3))
        shape = NetworkShape(taps, width, initialisation="linear", normalise=True)
        self.machine = machine
        self.network = SepConv(shape).to(machine.device)
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.batch, self.size = machine.pick((16, 64), (16, 64), (1, 32))
        self.dtype = {"bf16": torch.bfloat16}.get(precision)
        self.step = 0
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"

    def train(self, steps: int) -> list[float]:
        """Losses of the steps up to a number."""
        losses = []
        while self.step < steps:
            first, middle, third = self._patches(self.step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate(self.step)
            self.optimizer.zero_grad()
            with self.machine.autocast(self.dtype):
                prediction = self.network(first, third)
            loss = l1(prediction.float(), middle)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
            self.step += 1
        return losses

    def _patches(self, seed: int) -> list[Tensor]:
        made = moving_patches(self.batch, self.size, seed)
        return [frames.to(self.machine.device) for frames in made]

    @torch.no_grad()
    def gain(self, dtype: torch.dtype | None = None) -> float:
        """Decibels, mean of unseen patches, by which predictions beat the mean of the frames."""
        first, middle, third = self._patches(10**6)
        with self.machine.autocast(dtype):
            prediction = self.network(first, third).float()
        error = (prediction - middle).square().mean((1, 2, 3))
        linear = ((first + third) / 2 - middle).square().mean((1, 2, 3))
        return 10 * (linear / error).log10().mean().item()

    def save(self, path: Path) -> None:
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, "step": self.step}, path.with_suffix(".partial"))
        os.replace(path.with_suffix(".partial"), path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.machine.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def digest(self) -> str:
        return digest(list(self.network.state_dict().values()))


def learns(machine: Machine) -> dict[str, Any]:
    """200 steps on moving patches are 3 dB above linear interpolation."""
    training = Training(machine)
    losses = training.train(machine.pick(STEPS, STEPS, 2))
    gain = training.gain()
    if not machine.pretend:
        assert gain >= GAIN, f"only {gain:.2f} dB above linear interpolation, not {GAIN}"
    return {
        "steps": len(losses),
        "dB above linear interpolation": gain,
        "dB of it lost in bf16": gain - training.gain(torch.bfloat16),
        "last loss": losses[-1],
    }


def precisions_agree(machine: Machine) -> dict[str, Any]:
    """fp32, tf32 and bf16: a prediction's largest difference, and the losses of a training."""
    steps = machine.pick(50, 10, 2)
    bounds = {"fp32": 0.0, "tf32": 0.02, "bf16": 0.1}
    found: dict[str, Any] = {}
    losses = {name: Training(machine, name).train(steps) for name in bounds}
    exact = sum(losses["fp32"])
    for name, bound in bounds.items():
        relative = abs(sum(losses[name]) / exact - 1)
        found[f"{name}: mean loss differs by"] = relative
        assert relative <= bound, f"{name}: losses differ by {relative:.2%}, {bound:.0%} allowed"
    return found


def resumes(machine: Machine) -> dict[str, Any]:
    """A training that is killed and resumed ends with the same bytes as one that was not."""
    steps, kill_at = machine.pick((20, 13), (10, 7), (2, 1))
    with TemporaryDirectory() as folder:
        state = Path(folder) / "killed.pt"
        command = [sys.executable, str(SCRIPT), "--kill-at", str(kill_at), "--state", str(state)]
        ended = subprocess.run(command + ["--pretend"] * machine.pretend, timeout=180)
        assert ended.returncode == -signal.SIGKILL, f"ended with {ended.returncode}"
        with deterministic():
            resumed, whole = Training(machine), Training(machine)
            resumed.load(state)
            assert resumed.step == kill_at, f"the state is of step {resumed.step}"
            resumed.train(steps)
            whole.train(steps)
    assert whole.digest() == resumed.digest(), "the resumed training has other weights"
    return {"steps": steps, "resumed at": kill_at, "weights": "same bytes"}


@contextmanager
def deterministic() -> Iterator[None]:
    """Inside, PyTorch uses only operations that give the same bytes every time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = benchmark


def train_until_killed(machine: Machine, state: Path, kill_at: int) -> None:
    """What `resumes` starts: it saves its state after each step, and kills itself."""
    with deterministic():
        training = Training(machine)
        while True:
            training.train(training.step + 1)
            training.save(state)
            if training.step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def two_processes(machine: Machine) -> dict[str, Any]:
    """Gradients of a batch shared by two processes (NCCL) are those of the whole batch."""
    if not machine.pretend and torch.cuda.device_count() < 2:
        return {"skipped": "one GPU: NCCL between two was not tried"}
    command = [sys.executable, str(SCRIPT), *(["--pretend"] if machine.pretend else [])]
    with TemporaryDirectory() as folder:
        started = [
            subprocess.Popen([*command, "--rank", str(rank), "--state", f"{folder}/meeting"])
            for rank in range(2)
        ]
        try:
            codes = [process.wait(timeout=180) for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
    assert codes == [0, 0], f"the two processes ended with {codes}"
    return {"held": [machine.pick("NCCL", "NCCL", "gloo in place of NCCL")]}


def one_of_two(machine: Machine, rank: int, meeting: Path) -> None:
    """What `two_processes` starts."""
    from torch import distributed

    if not machine.pretend:
        torch.cuda.set_device(rank)
    backend = machine.pick("nccl", "nccl", "gloo")
    distributed.init_process_group(
        backend, init_method=f"file://{meeting}", rank=rank, world_size=2
    )
    training = Training(machine)
    made = moving_patches(2, training.size, seed=1)
    first, middle, third = (frames.to(machine.device) for frames in made)
    l1(training.network(first, third), middle).backward()
    whole = [parameter.grad.clone() for parameter in training.network.parameters()]
    shared = torch.nn.parallel.DistributedDataParallel(training.network)
    training.optimizer.zero_grad()
    mine = slice(rank, rank + 1)
    l1(shared(first[mine], third[mine]), middle[mine]).backward()
    for parameter, wanted in zip(training.network.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-3, atol=1e-5)
    distributed.destroy_process_group()
