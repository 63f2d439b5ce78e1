"""Imports go one way, so that each room can be read, and used, without those above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from workflow.house import DOCUMENTS, House, imported, with_house

ROOT = Path(__file__).parents[1]
HOUSE = House()
PACKAGES = ("pipeline", "model", "workflow")
LONGEST = 400

PURE = (
    "pipeline/flow",
    "pipeline/selection/judging.py",
    "pipeline/selection/jump_cuts.py",
    "pipeline/selection/sampling.py",
    "pipeline/selection/window_motion.py",
    "model/sepconv",
    "model/video/flow_prediction.py",
    "model/video/inverse_search.py",
    "model/video/warping.py",
    "model/network/architecture.py",
    "model/network/losses.py",
    "model/network/tiling.py",
    "model/evaluation/bootstrap.py",
    "model/evaluation/metrics.py",
    "model/pixels.py",
)
HEAVY = ("torch", "cv2", "zarr", "distributed", "numba", "pandas")


def sources(*places: str) -> list[Path]:
    paths = [ROOT / place for place in places]
    return sorted(
        file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))
    )


def top_packages(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(ast.parse(file.read_text()))}


@pytest.mark.parametrize("room", HOUSE.rooms)
def test_a_room_imports_what_its_docstring_says(room: str) -> None:
    used = HOUSE.rooms[room].imports(HOUSE)
    stated = HOUSE.rooms[room].may_import
    unstated = {target: lines for target, lines in used.items() if target not in stated}
    assert not unstated, f"state it in {room}'s docstring if it belongs there: {unstated}"
    assert not stated - used.keys(), f"{room} states imports that it does not make"


@pytest.mark.parametrize("room", [room for room in HOUSE.rooms if "." in room])
def test_a_room_says_what_is_in_it_and_where_to_start(room: str) -> None:
    assert HOUSE.rooms[room].summary.endswith(".")
    start = HOUSE.rooms[room].start
    module, _, name = start.rpartition(".")
    assert name in HOUSE.modules[module].read_text(), f"{room} sends its reader to {start}"


def test_rooms_stand_on_each_other_without_a_circle() -> None:
    layers = HOUSE.layers()
    assert sum(map(len, layers)) == len(HOUSE.rooms)
    assert "pipeline" in layers[0]


def test_a_circle_of_rooms_is_named(tmp_path: Path) -> None:
    for room, other in (("flow", "frames"), ("frames", "flow")):
        folder = tmp_path / "pipeline" / room
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f'"""Doc.\n\nMay import: `pipeline.{other}`.\n"""')
    with pytest.raises(ValueError, match=r"in a cycle: pipeline\.flow, pipeline\.frames"):
        House(tmp_path).layers()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_show_the_house_as_it_is(name: str) -> None:
    text = (ROOT / name).read_text()
    assert HOUSE.mermaid() in text
    assert with_house(text, HOUSE) == text, "run `python -m workflow.house --write`"


@pytest.mark.parametrize("file", sources("pipeline"), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_pipeline_knows_nothing_of_models(file: Path) -> None:
    assert not top_packages(file) & {"model", "torch", "workflow"}


@pytest.mark.parametrize("file", sources("model"), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_model_knows_nothing_of_the_workflow(file: Path) -> None:
    assert "workflow" not in top_packages(file)


@pytest.mark.parametrize("file", sources(*PURE), ids=lambda file: str(file.relative_to(ROOT)))
def test_pure_modules_touch_neither_cluster_nor_store_nor_command_line(file: Path) -> None:
    assert not top_packages(file) & {"argparse", "dask", "distributed", "zarr"}


@pytest.mark.parametrize(
    "module",
    [
        "model.settings",
        "model.__main__",
        "pipeline.__main__",
        "workflow.experiment",
        "workflow.house",
    ],
)
def test_reading_settings_loads_no_heavy_library(module: str) -> None:
    program = f"import sys, {module}\nprint(*{set(HEAVY)} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == []


def test_no_file_is_too_long_to_read_in_one_sitting() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for file in sources(*PACKAGES, "tests", "benchmarks")
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}
