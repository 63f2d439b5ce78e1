"""A worker behind a network of its own, which breaks while it works."""

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.selection.motion import score
from tests.cluster.conftest import DENSE
from tests.cluster.slurm import wait_for
from tests.conftest import directory_bytes
from tests.pipeline.conftest import dask_cluster

# Names of interfaces have at most 15 letters; addresses for tests (RFC 2544).
SPACE, OUTSIDE, INSIDE = "midframe-test", "midframe-test-o", "midframe-test-i"
HERE, THERE = "198.18.213.1", "198.18.213.2"
# How soon Dask gives up a silent worker; by default after minutes.
IMPATIENT = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@pytest.fixture
def network() -> Iterator[list[str]]:
    """A network of two ends; the words before a command that is to run at the far one."""
    # What a killed run has left.
    with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
        ip("netns", "delete", SPACE)
    try:
        ip("netns", "add", SPACE)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made: {error}")
    far = ["ip", "netns", "exec", SPACE]
    try:
        ip("link", "add", OUTSIDE, "type", "veth", "peer", INSIDE, "netns", SPACE)
        ip("address", "add", f"{HERE}/30", "dev", OUTSIDE)
        ip("link", "set", OUTSIDE, "up")
        for words in (
            ["address", "add", f"{THERE}/30", "dev", INSIDE],
            ["link", "set", INSIDE, "up"],
        ):
            subprocess.run([*far, "ip", *words], check=True, timeout=30)
        yield far
    finally:
        ip("netns", "delete", SPACE)


def test_what_a_worker_had_at_hand_when_its_network_broke_is_done_by_others(
    network: list[str],
    dataset: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "motion"
    with dask_cluster(tmp_path, 1, ["--host", HERE], network) as (address, _):

        def cut() -> None:
            wait_for(lambda: list(tmp_path.glob(".motion.progress-*/*")), "nothing is done", 120)
            ip("-netns", SPACE, "link", "set", INSIDE, "down")

        cutter = threading.Thread(target=cut)
        cutter.start()
        score(dataset, out, DENSE, scheduler=address)
        cutter.join(120)
        state = Path(f"/sys/class/net/{OUTSIDE}/operstate").read_text()
    assert state.strip() == "down"
    assert directory_bytes(out) == directory_bytes(undisturbed)
