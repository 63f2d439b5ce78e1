"""Skip the matrix unless it is asked for; the inputs of all stages; the table at the end."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.settings import PatchSettings
from tests.faults import table
from tests.faults.commands import run_command
from tests.faults.stages import NAMES, PATCHES, Stage, stages

ASKED = "MIDFRAME_FAULT_TESTS"  # set by `make test-faults`
FAULTS = (
    "SIGKILL",
    "SIGTERM",
    "Ctrl-C twice",
    "disk full",
    "read-only output",
    "two runs at once",
    "stale lock",
    "clock jump",
    "out of memory",
    "input cut short",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder; skip it where it was not asked for or cannot run."""
    why = None
    if not os.environ.get(ASKED):
        why = "takes minutes; `make test-faults` runs it"
    elif sys.platform != "linux" or os.geteuid() != 0:
        why = "mounting small disks takes Linux and root"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)
            if why is not None:
                item.add_marker(pytest.mark.skip(reason=why))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the table, if every cell of it was tried and held."""
    tried = {(fault, stage) for fault, stage in table.counts}
    if exitstatus == 0 and tried == {(fault, stage) for fault in FAULTS for stage in NAMES}:
        table.write(table.markdown(FAULTS, NAMES))


@dataclass(frozen=True)
class Case:
    """A stage, what an undisturbed run of it leaves, and how many moments that has."""

    stage: Stage
    undisturbed: dict[str, bytes]
    moments: int

    def at(self, part: float) -> int:
        """The moment at a fraction of a run."""
        return max(1, round(part * self.moments))


@pytest.fixture(scope="session")
def video(small_frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of six real frames, uncompressed in effect: the same bytes on any machine."""
    path = tmp_path_factory.mktemp("video") / "ride.avi"
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 120, 80, "yuv420p"
        for file in sorted((small_frames / "ride").iterdir()):
            picture = np.asarray(Image.open(file).convert("RGB"))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def all_stages(
    small_frames: Path, source: Source, video: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Stage]:
    """The stages by name."""
    folder = tmp_path_factory.mktemp("stores")
    for name, sequence in (("train", "cut"), ("validation", "ride")):
        settings = PatchSettings.model_validate(
            {**PATCHES, "sequences": [sequence], "split": name, "cut_threshold": 1.0}
        )
        sample([source], folder / name, settings, workers=0)
    stores = (folder / "train", folder / "validation")
    made = stages(small_frames, source.frames, source.motion, source.cuts, *stores, video)
    return {stage.name: stage for stage in made}


_cases: dict[str, Case] = {}


@pytest.fixture(params=NAMES)
def case(
    request: pytest.FixtureRequest,
    all_stages: dict[str, Stage],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    """A stage after a run that nothing disturbed."""
    name = request.param
    if name not in _cases:
        stage = all_stages[name]
        folder = tmp_path_factory.mktemp(name) / "disk"
        folder.mkdir()
        ending = run_command(stage.command(folder), folder)
        assert ending.status == 0, ending.printed
        result = stage.result(folder)
        assert result
        _cases[name] = Case(stage, result, ending.moments)
    return _cases[name]


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of ``size`` bytes, which `options` changes."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a disk: its size, or whether it can be written."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
