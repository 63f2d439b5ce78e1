"""Every command in the README runs."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from model.network.architecture import SepConv
from model.network.checkpoints import save_network
from model.settings import NetworkSettings
from pipeline.frames.sequences import FrameSequence

ROOT = Path(__file__).parents[1]
SCHEDULER = "tcp://127.0.0.1:8786"


def commands(document: str = "README.md") -> list[str]:
    """The shell commands of a document in their order, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def repository(bikes_clip: FrameSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's files beside which a user has put a video and weights."""
    folder = tmp_path_factory.mktemp("repository")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in listed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    (folder / "my-videos").mkdir()
    with av.open(folder / "my-videos" / "clip.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 208, 160, "yuv420p"
        for frame in bikes_clip.read(100, 112):
            picture = av.VideoFrame.from_ndarray(frame[:160, :208].copy())
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    network = SepConv(NetworkSettings(kernel_length=5, width=0.0625, initialisation="linear"))
    save_network(network, folder / "weights.safetensors", {})
    return folder


@pytest.fixture(scope="module")
def scheduler() -> Iterator[None]:
    """A Dask cluster at the address that the README uses."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    dask = [sys.executable, "-m", "dask"]
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8786)) == 0:
            pytest.skip("another program listens on port 8786")
    processes = [
        subprocess.Popen(
            [*dask, "scheduler", "--host", "127.0.0.1", "--port", "8786", "--no-dashboard"],
            env=environment,
        ),
        subprocess.Popen([*dask, "worker", SCHEDULER, "--nthreads", "1"], env=environment),
    ]
    yield
    for process in reversed(processes):
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_runs(repository: Path, scheduler: None) -> None:
    binaries = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"}
    ran = []
    for command in commands():
        if command.startswith(("make ", ". .venv")):
            continue  # what these do is tested by running them
        if command == "snakemake all":
            command = "snakemake -n all"  # the paper's experiment needs DAVIS and a GPU
        if "--scheduler slurm" in command:
            continue  # tests/cluster runs it where there is a cluster
        if "--profile profiles/slurm" in command:
            # The executor is a plugin that only a cluster's users install.
            command = command.replace("profiles/slurm", "profiles/default")
        if command.endswith("-- dataset"):
            command = command.replace("-- dataset", "--dry-run -- dataset")
        done = subprocess.run(
            command,
            shell=True,
            cwd=repository,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        ran.append(command)
    assert len(ran) >= 14, ran
    for made in ("look/index.html", "table/table.md", "smooth.mp4", "patches/patches.zarr"):
        assert (repository / made).exists(), made
