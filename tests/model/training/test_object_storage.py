"""Training on patches in a bucket: the same weights as from disk, and what is read only once."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState

from model import __main__ as commands
from pipeline.command_line import run
from pipeline.errors import MidframeError
from pipeline.locations import Url
from pipeline.mirrors import mirror
from pipeline.store.patch_store import PatchStore
from pipeline.store.sample_cache import PIXELS
from tests.object_store import Bucket, environment, publish
from tests.pipeline.faulty_proxy import Fault, every

SETTINGS = """{"network": {"width": 0.0625, "kernel_length": 5, "initialisation": "linear",
"normalise": true}, "epochs": 2, "batch_size": 4, "crop": 32}"""
WEIGHTS = "weights/epoch-0002.safetensors"


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(True)


@pytest.fixture
def patches(tmp_path: Path, bucket: Bucket, write_patches: Callable[..., Path]) -> Path:
    """20 patches to train on and 3 to validate on, on this disk and in the bucket."""
    write_patches(tmp_path / "training", [*range(1, 28, 3)] * 2 + [1, 4])
    write_patches(tmp_path / "validation", range(31, 40, 3))
    for name in ("training", "validation"):
        publish(bucket, tmp_path / name, name)
    bucket.proxy.requests.clear()
    return tmp_path


def train(place: object, out: object, *more: object) -> int:
    arguments = ["train", f"{place}/training", "--validation", f"{place}/validation"]
    arguments += ["--out", out, "--settings", SETTINGS, *more]
    return run(commands._parser(), [str(argument) for argument in arguments])


def pixels_asked_for(bucket: Bucket) -> int:
    return sum("triplet/c/" in path for _, path in bucket.proxy.requests)


@pytest.mark.parametrize("cache", ["0", "1"])
def test_a_bad_store_gives_the_weights_that_the_disk_gives(
    patches: Path, bucket: Bucket, cache: str
) -> None:
    assert train(patches, patches / "stage") == 0
    bucket.proxy.latency = 0.02
    faults = (Fault(status=500), Fault(cut=9), Fault(status=503), Fault(cut=0))
    bucket.proxy.fate = every(4, *faults)
    assert train(bucket.url, f"{bucket.url}/stage", "--cache", cache) == 0
    assert bucket.proxy.faults > 4
    there, here = bucket.files("stage"), patches / "stage"
    assert there[WEIGHTS] == (here / WEIGHTS).read_bytes()
    for name in ("metrics.csv", "manifest.json"):
        assert there[name] == (here / name).read_bytes()
    assert not any("candidates" in path for _, path in bucket.proxy.requests)


def open_remote(bucket: Bucket, samples: int) -> PatchStore:
    """The training patches with room for some of them in the cache, which starts anew."""
    place = mirror(Url(bucket.name, "training"))
    return PatchStore.open(place, cache_bytes=samples * 3 * 40 * 40 * 3)


def test_a_sample_is_read_from_the_store_once(patches: Path, bucket: Bucket) -> None:
    expected = PatchStore.open(patches / "training").read(range(20))
    assert (open_remote(bucket, 20).read(range(20)) == expected).all()
    before = pixels_asked_for(bucket)
    assert before
    again = open_remote(bucket, 20)
    shuffled = np.random.default_rng(0).permutation(20)
    assert (again.read(shuffled) == expected[shuffled]).all()
    assert pixels_asked_for(bucket) == before


def test_a_full_cache_reads_the_rest_from_the_store(patches: Path, bucket: Bucket) -> None:
    expected = PatchStore.open(patches / "training").read(range(20))
    for _ in range(2):
        assert (open_remote(bucket, 5).read(range(20)) == expected).all()
        assert (open_remote(bucket, 5).read([0, 3, 3, 19]) == expected[[0, 3, 3, 19]]).all()
    (kept,) = bucket.local.rglob(PIXELS)
    assert kept.stat().st_size == 5 * 3 * 40 * 40 * 3


def test_what_is_damaged_in_the_cache_is_read_again(patches: Path, bucket: Bucket) -> None:
    expected = open_remote(bucket, 20).read(range(20))
    (kept,) = bucket.local.rglob(PIXELS)
    content = bytearray(kept.read_bytes())
    content[3 * 40 * 40 * 3 + 7] ^= 255
    kept.write_bytes(content[: 15 * 3 * 40 * 40 * 3 + 11])
    before = pixels_asked_for(bucket)
    assert (open_remote(bucket, 20).read(range(20)) == expected).all()
    assert pixels_asked_for(bucket) > before
    assert (open_remote(bucket, 20).read(range(20)) == expected).all()


def test_patches_that_were_replaced_are_not_taken_from_the_cache(
    patches: Path, bucket: Bucket, write_patches: Callable[..., Path]
) -> None:
    old = open_remote(bucket, 20)
    old.read(range(5))
    write_patches(patches / "other", [*range(1, 28, 3)] * 2 + [1, 4], seed=1)
    publish(bucket, patches / "other", "training", "00000001")
    expected = PatchStore.open(patches / "other").read(range(20))
    assert (open_remote(bucket, 20).read(range(20)) == expected).all()
    with pytest.raises(MidframeError, match="sample 7 is damaged"):
        old.read([7])


@pytest.mark.slow
def test_processes_that_share_a_training_share_one_mirror_and_publish_once(
    patches: Path, bucket: Bucket
) -> None:
    command = [sys.executable, "-m", "midframe", "train", f"{bucket.url}/training"]
    command += ["--validation", f"{bucket.url}/validation", "--out", f"{bucket.url}/stage"]
    command += ["--settings", SETTINGS, "--processes", "2", "--threads", "2"]
    variables = os.environ | environment(bucket) | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert WEIGHTS in bucket.files("stage")
    published = [path for method, path in bucket.proxy.requests if method == "PUT"]
    assert sum(path.endswith("stage/published.json") for path in published) == 1
    assert not list((bucket.local / "out").glob("*/stage"))
