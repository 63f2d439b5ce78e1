"""Imports go one way, so that each room can be read, and used, without those above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODEL_MAY_USE = {
    "checksums",
    "command_line",
    "decoding",
    "download",
    "errors",
    "frames",
    "flow",
    "jump_cuts",
    "optical_flow",
    "patch_store",
    "progress",
    "provenance",
    "resume",
    "sampling",
    "settings",
    "simd",
}
PURE = {
    "pipeline/selection/jump_cuts.py",
    "pipeline/flow/optical_flow.py",
    "pipeline/selection/sampling.py",
    "pipeline/flow/simpleflow.py",
    "pipeline/selection/window_motion.py",
    "model/video/flow_prediction.py",
    "model/video/warping.py",
    "model/network/losses.py",
    "model/evaluation/metrics.py",
    "model/network/architecture.py",
}


def imported(file: Path) -> set[str]:
    """Names of the modules that a file imports, at its top or inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def top_packages(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(file)}


@pytest.mark.parametrize("file", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda f: f.name)
def test_the_pipeline_knows_nothing_of_models(file: Path) -> None:
    assert not top_packages(file) & {"model", "torch", "workflow"}


@pytest.mark.parametrize("file", sorted((ROOT / "model").rglob("*.py")), ids=lambda f: f.name)
def test_the_model_uses_only_what_the_pipeline_offers(file: Path) -> None:
    used = {name.split(".")[1] for name in imported(file) if name.startswith("pipeline.")}
    assert used <= MODEL_MAY_USE
    assert "workflow" not in top_packages(file)


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_touch_neither_cluster_nor_store_nor_command_line(name: str) -> None:
    assert not top_packages(ROOT / name) & {"argparse", "dask", "distributed", "zarr"}


@pytest.mark.parametrize(
    "module", ["model.settings", "model.__main__", "pipeline.__main__", "workflow.experiment"]
)
def test_reading_settings_loads_no_heavy_library(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "print(*{'torch', 'cv2', 'zarr', 'distributed', 'numba', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
