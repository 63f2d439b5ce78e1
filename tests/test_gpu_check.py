"""The check of a GPU works before there is one, and with little more than PyTorch and NumPy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import on_cpu, parts, report, supervisor

ROOT = Path(__file__).parents[1]

# What a machine with a CUDA build of PyTorch, CuPy and NumPy does not have.
BARE = """
import sys
from importlib import machinery

MISSING = {
    "accelerate", "av", "cv2", "dask", "distributed", "llvmlite", "matplotlib", "numba", "pandas",
    "PIL", "psutil", "pyarrow", "pydantic", "pydantic_core", "requests", "safetensors",
    "snakemake", "tensorstore", "tqdm", "yaml", "zarr",
}
found = machinery.PathFinder.find_spec


class Bare:
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else found(name, path, target)


sys.meta_path[:] = [Bare if f is machinery.PathFinder else f for f in sys.meta_path]
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which every Python process lacks our dependencies."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(BARE)
    # PYTHONPATH may not lead to the repository: the check finds it by itself.
    return {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def test_the_network_needs_pytorch_and_numpy_only(bare: dict[str, str]) -> None:
    program = """
import warnings
import torch
import model.sepconv, model.network, model.network.losses, model.network.tiling
from model.network_shape import NetworkShape
assert model.network.SepConv(NetworkShape()).settings.kernel_length == 51
with warnings.catch_warnings(record=True) as warned:
    network = model.network.SepConv(NetworkShape(kernel_length=3, width=0.05))
    for _ in range(2):
        frames = torch.rand(2, 1, 3, 40, 33)
        model.network.losses.l1(network(*frames), frames[0]).backward()
assert sum("numba" in str(warning.message) for warning in warned) == 1, warned
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=bare, cwd=ROOT, timeout=240)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_check_runs_to_its_end_without_our_dependencies(
    bare: dict[str, str], tmp_path: Path
) -> None:
    if not on_cpu.has_compiler():
        pytest.skip("no g++ to compile the kernels for the CPU")
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu_check.py", "--pretend", "--out", tmp_path / "gpu"],
        env=bare,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    whole = json.loads((tmp_path / "gpu.json").read_text())
    assert [outcome["part"] for outcome in whole["parts"]] == [part.name for part in parts.PARTS]
    skipped = {o["part"] for o in whole["parts"] if o["state"] == "skipped"}
    assert skipped <= {"compute-sanitizer", "video to video"}
    assert (tmp_path / "gpu.md").read_text().startswith("# GPU check: pretended")


def test_the_parts_fit_their_time() -> None:
    assert sum(part.full for part in parts.PARTS) <= 480
    assert sum(part.quick for part in parts.PARTS if part.quick) <= 60


PARTS = [parts.Part(name, "none", 1, 1) for name in ("good", "breaks", "hangs", "last")]
CHILD = """
import json, os, sys, time
pipe, *names = sys.argv[1:]
with open(int(pipe), "w") as results:
    for name in names:
        if name == "breaks":
            os._exit(1)
        if name == "hangs":
            time.sleep(600)
        results.write(json.dumps({"part": name, "state": "ok", "seconds": 0.0}) + "\\n")
        results.flush()
"""


def test_a_part_that_breaks_or_hangs_is_named_and_the_others_run() -> None:
    told: list[str] = []
    waits = [(part, 1.0 if part.name == "hangs" else 60.0) for part in PARTS]
    outcomes = supervisor.supervise([sys.executable, "-c", CHILD], waits, 200, told.append)
    assert [(o["part"], o["state"]) for o in outcomes] == [
        ("good", "ok"),
        ("breaks", "failed"),
        ("hangs", "failed"),
        ("last", "ok"),
    ]
    assert outcomes[1]["error"] == "its process ended"
    assert outcomes[2]["error"] == "took more time than it has (1 s)"
    assert "failed" in told[1]
    assert "breaks" in told[1]
    assert "Failed: breaks, hangs." in report.markdown(outcomes, "quick", 2.0)


def test_outcomes_that_arrive_together_or_in_pieces_are_told_apart() -> None:
    waits = [(parts.Part(name, "none", 1, 1), 60.0) for name in "abc"]
    child = """
import os, sys, time
for piece in (b'{"part": "a", "state": "ok", "seconds": 0.0}\\n{"part": "b", "state":',
              b' "ok", "seconds": 0.0}\\n{"part": "c", "state": "ok", "seconds": 0.0}\\n'):
    os.write(int(sys.argv[1]), piece)
    time.sleep(0.2)
"""
    outcomes = supervisor.supervise([sys.executable, "-c", child], waits, 200, lambda line: None)
    assert [(o["part"], o["state"]) for o in outcomes] == [("a", "ok"), ("b", "ok"), ("c", "ok")]


def test_without_a_device_nothing_else_is_tried() -> None:
    waits = [(part, 60.0) for part in PARTS[1:]]
    outcomes = supervisor.supervise([sys.executable, "-c", CHILD], waits, 200, lambda line: None)
    assert [outcome["state"] for outcome in outcomes] == ["failed", "skipped", "skipped"]


def test_a_failure_of_a_part_is_its_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine:
        def synchronize(self) -> None:
            pass

    def fail(machine: object) -> dict[str, object]:
        raise AssertionError("off by 0.5")

    monkeypatch.setattr(parts.Part, "function", lambda part: fail)
    outcome, usable = supervisor._run(Machine(), PARTS[0])
    assert usable
    assert (outcome["state"], outcome["error"]) == ("failed", "AssertionError: off by 0.5")
    monkeypatch.setattr(Machine, "synchronize", fail_to_answer)
    outcome, usable = supervisor._run(Machine(), PARTS[0])
    assert not usable
    assert "the device is lost" in outcome["error"]


def fail_to_answer(machine: object) -> None:
    raise RuntimeError("an illegal memory access was encountered")
