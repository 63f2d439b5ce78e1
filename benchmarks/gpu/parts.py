"""The parts of the check in their order, and what each may take."""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """A part: what it shows, the function that does it, and the seconds after which it is ended.

    `quick` is None where it is no part of a quick check.
    """

    name: str
    place: str
    full: float
    quick: float | None

    def function(self) -> Callable[[Any], dict[str, Any]]:
        module, _, name = self.place.rpartition(".")
        return getattr(importlib.import_module(f"benchmarks.gpu.{module}"), name)


PARTS = (
    Part("machine", "parts.describe", 20, 14),
    Part("operator against the reference", "operator_parts.against_reference", 75, 14),
    Part("operator within PyTorch", "operator_parts.within_torch", 40, 8),
    Part("limits of the machine", "measures.limits", 10, 4),
    Part("operator: speed", "measures.operator_speed", 40, 8),
    Part("training learns", "training_parts.learns", 30, None),
    Part("training step: speed", "measures.training_step", 50, 6),
    Part("prediction: speed", "measures.prediction", 45, 4),
    Part("precisions agree", "training_parts.precisions_agree", 20, None),
    Part("training resumes", "training_parts.resumes", 35, None),
    Part("two processes", "training_parts.two_processes", 20, None),
    Part("video to video", "video_parts.end_to_end", 30, None),
    Part("compute-sanitizer", "operator_parts.under_sanitizer", 25, None),
    Part("operator: compiled row loop", "measures.compiled_row_loop", 40, None),
)


def describe(machine: Any) -> dict[str, Any]:
    """The card, and the versions of what runs on it."""
    import numpy
    import torch

    found: dict[str, Any] = {
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "CUDA of PyTorch": torch.version.cuda or "none",
        "NumPy": numpy.__version__,
        "ffmpeg": shutil.which("ffmpeg") or "none",
    }
    if machine.pretend:
        return {**found, "device": "pretended: the CPU, kernels by a C++ compiler"}
    assert torch.cuda.is_available(), "PyTorch finds no CUDA device"
    import cupy

    card = torch.cuda.get_device_properties(0)
    found |= {
        "CuPy": cupy.__version__,
        "device": card.name,
        "devices": torch.cuda.device_count(),
        "compute capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "memory GiB": card.total_memory / 2**30,
    }
    program = shutil.which("nvidia-smi")
    if program:
        query = "--query-gpu=driver_version,clocks.max.sm,clocks.max.memory,power.limit"
        asked = [program, query, "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=8)
        found["driver, clocks, power"] = said.stdout.strip() or said.stderr.strip()
    return found
