"""The device that is checked: a CUDA device, or with ``--pretend`` the CPU in its place."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


@dataclass(frozen=True)
class Machine:
    """Where a part runs, and how thorough it is.

    Attributes
    ----------
    quick : whether all parts together have a minute.
    pretend : whether the CPU stands in for the GPU: streams and graphs are then plain calls, and
        the kernels are those that a C++ compiler made.
    """

    quick: bool
    pretend: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.pretend else "cuda")

    def pick(self, full: Value, quick: Value, pretend: Value) -> Value:
        """The value for this mode."""
        return pretend if self.pretend else quick if self.quick else full

    def synchronize(self) -> None:
        if not self.pretend:
            torch.cuda.synchronize()

    def make(self, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
        """Numbers in -1..1, the same every time; drawn on the device, where they may be many."""
        generator = torch.Generator(self.device).manual_seed(seed + sum(shape))
        numbers = torch.rand(shape, generator=generator, device=self.device)
        return numbers.mul_(2).sub_(1).to(dtype)

    @contextmanager
    def side_stream(self) -> Iterator[None]:
        """Inside, another stream than the default is current; both are waited for."""
        if self.pretend:
            yield
            return
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(20_000_000)  # what runs on another stream would be too early
            yield
        torch.cuda.synchronize()

    def capture(self, function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """A CUDA graph of a function: what replays it, and the tensor that a replay fills."""
        if self.pretend:
            output = function()
            return (lambda: output.copy_(function())), output
        with self.side_stream():
            function()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = function()
        return graph.replay, output

    def autocast(self, dtype: torch.dtype | None):
        """Autocast to a type, or nothing."""
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()

    def seconds(self, run: Callable[[], object], budget: float = 1.0) -> float:
        """Median time of a run, after one that is not counted."""
        run()
        times: list[float] = []
        budget = self.pick(budget, budget / 4, 0.0)
        begin = time.perf_counter()
        while len(times) < 3 or (time.perf_counter() - begin < budget and len(times) < 100):
            times.append(self._time(run))
        return statistics.median(times)

    def _time(self, run: Callable[[], object]) -> float:
        if self.pretend:
            begin = time.perf_counter()
            run()
            return time.perf_counter() - begin
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    @contextmanager
    def peak_memory(self) -> Iterator[dict[str, float]]:
        """MiB that torch's allocator held at most inside; not known of a CPU."""
        found: dict[str, float] = {}
        if not self.pretend:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        yield found
        if not self.pretend:
            found["MiB"] = torch.cuda.max_memory_allocated() / 2**20


@contextmanager
def kernels(choice: str) -> Iterator[None]:
    """Inside, the operator runs the kernels of this name (`model.sepconv.variants.CHOICES`)."""
    from model.sepconv.variants import VARIABLE

    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = choice
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
