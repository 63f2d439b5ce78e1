"""A server of `browse` as a user starts it, and evaluation directories for it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.frames.sequences import open_frames
from pipeline.provenance import write_manifest
from pipeline.selection.triplets import Source
from pipeline.store.evaluation_files import FORMAT_VERSION, KIND, PICTURES, SCORES, picture_path

ROOT = Path(__file__).parents[3]
LONGEST_START = 150.0  # seconds; a loaded machine takes long to import


HUNG = pytest.StashKey[bool]()
"""Set on a test whose browser answered nothing and was ended."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip, with the reason, what a browser that hung could not show."""
    try:
        return (yield)
    except Exception:
        if item.stash.get(HUNG, False):
            pytest.skip("Chromium stopped answering and was ended")
        raise


class Server:
    """A running ``python -m pipeline browse``."""

    def __init__(self, *directories: Path) -> None:
        words = [sys.executable, "-m", "pipeline", "browse", *map(str, directories)]
        self.process = subprocess.Popen(
            [*words, "--port", "0", "--no-open"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        timer = threading.Timer(LONGEST_START, self.process.kill)
        timer.start()
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip().rstrip("/")
        timer.cancel()
        if not self.address:
            raise AssertionError(self.process.communicate(timeout=10)[1])

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@contextlib.contextmanager
def serving(*directories: Path) -> Iterator[Server]:
    server = Server(*directories)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate(timeout=30)


@pytest.fixture(scope="session", autouse=True)
def no_proxies() -> None:
    """Reach the local server without the proxies that the machine may have."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)


@pytest.fixture
def copied(patches: Path, source, tmp_path: Path) -> Callable[[], Path]:  # type: ignore[no-untyped-def]
    """Makes a copy of the patches, with their frames and motion beside them."""

    def make() -> Path:
        folder = tmp_path / "experiment"
        shutil.copytree(source.frames.parent, folder / "datasets", symlinks=True)
        shutil.copytree(source.motion, folder / "motion")
        return Path(shutil.copytree(patches, folder / "patches"))

    return make


@pytest.fixture(scope="session")
def evaluations(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The mean of two frames, and the first of them, as evaluations of two models."""
    folder = tmp_path_factory.mktemp("evaluations")
    directories = []
    for name, weight in (("mean", 0.5), ("first", 1.0)):
        directory = folder / name
        rows = []
        for sequence in open_frames(dataset):
            first, truth, third = list(sequence.read(0, 3))
            blended = weight * first + (1 - weight) * third.astype(float)
            prediction = np.rint(blended).astype(np.uint8)
            rows.append([sequence.name, 0, cv2.PSNR(truth, prediction)])
            for what, frame in (("truth", truth), ("prediction", prediction)):
                file = picture_path(directory / PICTURES, sequence.name, 0, what)
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame).save(file)
        scores = pd.DataFrame(rows, columns=["sequence", "first_frame", "standard_psnr"])
        scores["other_err"] = weight
        scores.to_csv(directory / SCORES, index=False)
        mean = {
            "standard": {"psnr": {"mean": float(scores["standard_psnr"].mean())}},
            "other": {"err": {"mean": weight}},
        }
        write_manifest(
            directory,
            KIND,
            FORMAT_VERSION,
            {},
            model=name,
            images=len(scores),
            means={"with_cuts": mean, "without_cuts": mean},
            protocols={"standard": "RGB", "other": "an error"},
        )
        directories.append(directory)
    return directories


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a new browser; what its console complains of fails the test."""
    from tests.pipeline.browse.chromium import opened_page

    yield from opened_page(request)


@pytest.fixture(scope="module")
def address(
    patches: Path,
    source: Source,
    evaluations: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A server of a copy of the patches, and of two evaluations."""
    copy = shutil.copytree(patches, tmp_path_factory.mktemp("browsed") / "patches")
    with serving(Path(copy), source.frames, source.motion, *evaluations) as server:
        yield server.address
