"""A training on made-up patches: it learns, its precisions agree, and it resumes to the bit."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
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
GAIN = 3.0  # decibels above linear interpolation that 200 steps must reach
STEPS = 200
MOTION = 3  # pixels between neighbouring frames, at most, in both directions


def moving_patches(count: int, size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Triplets of textures that move by whole pixels: first, middle, third, each [B, 3, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    whole = size + 2 * MOTION
    noise = torch.rand(count, 3, whole // 4 + 3, whole // 4 + 3, generator=generator)
    texture = functional.interpolate(noise, scale_factor=4, mode="bicubic")[..., :whole, :whole]
    texture = texture.clamp(0, 1)
    steps = torch.randint(-MOTION, MOTION + 1, (count, 2), generator=generator).tolist()
    frames = []
    for time in (-1, 0, 1):
        windows = [
            picture[:, MOTION + time * dy :, MOTION + time * dx :][:, :size, :size]
            for picture, (dy, dx) in zip(texture, steps, strict=True)
        ]
        frames.append(torch.stack(windows))
    return frames[0], frames[1], frames[2]


class Training:
    """A small network in training, and all that changes in it."""

    def __init__(self, machine: Machine, precision: str = "fp32") -> None:
        torch.manual_seed(0)
        width, taps = machine.pick((0.25, 9), (0.25, 9), (0.03, 3))
        shape = NetworkShape(taps, width, initialisation="linear", normalise=True)
        self.machine = machine
        self.network = SepConv(shape).to(machine.device)
        self.optimizer = torch.optim.Adamax(self.network.parameters(), lr=2e-3)
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
    def gain(self) -> float:
        """Decibels by which predictions of unseen patches are nearer than their frames' mean."""
        first, middle, third = self._patches(10**6)
        error = (self.network(first, third) - middle).square().mean()
        linear = ((first + third) / 2 - middle).square().mean()
        return 10 * math.log10(linear.item() / error.item())

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
    return {"steps": len(losses), "dB above linear interpolation": gain, "last loss": losses[-1]}


def precisions_agree(machine: Machine) -> dict[str, Any]:
    """fp32, tf32 and bf16: a prediction's largest difference, and the losses of a training."""
    steps = machine.pick(50, 10, 2)
    bounds = {"fp32": 0.0, "tf32": 0.01, "bf16": 0.05}
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
    with TemporaryDirectory() as folder:
        results = []
        for name, kill in (("whole", None), ("killed", machine.pick(13, 7, 1))):
            state = Path(folder) / f"{name}.pt"
            command = [sys.executable, str(SCRIPT), "--train-to", str(machine.pick(20, 10, 2))]
            command += ["--state", str(state)] + (["--pretend"] if machine.pretend else [])
            if kill is not None:
                ended = subprocess.run([*command, "--kill-at", str(kill)], timeout=120)
                assert ended.returncode == -signal.SIGKILL, f"ended with {ended.returncode}"
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr[-2000:]
            results.append(json.loads(done.stdout.splitlines()[-1]))
    whole, resumed = results
    assert resumed["began at"] == machine.pick(13, 7, 1), resumed
    assert whole["digest"] == resumed["digest"], "the resumed training has other weights"
    return {"steps": whole["steps"], "resumed at": resumed["began at"], "weights": "same bytes"}


def train_to(machine: Machine, steps: int, state: Path, kill_at: int | None) -> None:
    """What `resumes` starts: train from the state there is, saving it after each step."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    training = Training(machine)
    if state.exists():
        training.load(state)
    began = training.step
    while training.step < steps:
        training.train(training.step + 1)
        training.save(state)
        if training.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({"began at": began, "steps": training.step, "digest": training.digest()}))


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
            codes = [process.wait(timeout=100) for process in started]
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
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-3, atol=1e-6)
    distributed.destroy_process_group()
