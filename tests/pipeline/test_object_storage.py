"""Stages whose inputs and outputs are s3:// URLs, with a store that is slow, fails and hangs up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from pipeline import objects
from pipeline.__main__ import build_parser
from pipeline.command_line import run
from pipeline.locations import Url
from pipeline.mirrors import mirror
from pipeline.selection import patches as sampling
from pipeline.selection.triplets import Source
from tests.conftest import SMALL_PATCHES, directory_bytes
from tests.object_store import Bucket, environment, publish
from tests.pipeline.faulty_proxy import Fault, every

SETTINGS = SMALL_PATCHES.model_dump_json()
MIXED = (Fault(status=500), Fault(cut=3), Fault(status=503), Fault(cut=0))


def midframe(*arguments: object) -> int:
    """Run a command of the pipeline; its exit status."""
    return run(build_parser(), [str(argument) for argument in arguments])


def sample(source: Source | str, out: object, *more: object) -> int:
    """Sample in this process; a source is directories, or the URL that holds all three."""
    if isinstance(source, str):
        frames, motion, cuts = (f"{source}/{name}" for name in ("frames", "motion", "cuts"))
    else:
        frames, motion, cuts = map(str, (source.frames, source.motion, source.cuts))
    given = ["--motion", motion, "--cuts", cuts, "--out", out, "--settings", SETTINGS]
    return midframe("sample", frames, *given, "--workers", 0, *more)


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines that say what is wrong."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("midframe: error: ")]


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Two retries with hardly a pause, and seconds instead of minutes without an answer."""
    for name, value in {"RETRIES": 2, "FIRST_PAUSE": 0.01, "TIMEOUT": 3}.items():
        monkeypatch.setattr(objects, name, value)
    return objects


@pytest.mark.parametrize("faults", [(), MIXED], ids=["a good store", "a bad store"])
def test_all_stages_make_the_same_bytes_in_a_bucket_as_on_disk(
    bucket: Bucket, small_frames: Path, source: Source, patches: Path, tmp_path: Path, faults: tuple
) -> None:
    if faults:
        bucket.proxy.fate = every(5, *faults)
    data = f"{bucket.url}/data"
    fetched = ["fetch", "folder", "--path", small_frames, "--out", f"{data}/frames"]
    assert midframe(*fetched, "--workers", 0) == 0
    for stage in ("score", "cuts"):
        out = f"{data}/{'motion' if stage == 'score' else 'cuts'}"
        assert midframe(stage, f"{data}/frames", "--out", out, "--workers", 0) == 0
    assert sample(data, f"{data}/patches") == 0
    assert midframe("verify", f"{data}/motion") == 0
    assert midframe("verify", f"{data}/patches") == 0
    exported = ["--format", "vimeo90k", "--workers", 0, "--out"]
    assert midframe("export", f"{data}/patches", *exported, f"{data}/export") == 0
    assert midframe("export", patches, *exported, tmp_path / "export") == 0

    assert bucket.files("data/motion") == directory_bytes(source.motion)
    assert bucket.files("data/cuts") == directory_bytes(source.cuts)
    assert bucket.files("data/patches") == directory_bytes(patches)
    assert bucket.files("data/export") == directory_bytes(tmp_path / "export")
    dataset = bucket.files("data/frames")
    images = directory_bytes(small_frames)
    assert {
        f"source/{name}": content for name, content in images.items()
    }.items() <= dataset.items()
    assert dataset["manifest.json"] == (source.frames / "manifest.json").read_bytes()
    assert bool(bucket.proxy.faults) == bool(faults)


def test_a_store_that_stalls_is_asked_again(
    bucket: Bucket, patches: Path, quick_retries: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(bucket, patches, "patches")
    monkeypatch.setattr(quick_retries, "TIMEOUT", 1)
    bucket.proxy.fate = every(6, Fault(stall=10))
    mirrored = mirror(Url(bucket.name, "patches"))
    assert bucket.proxy.faults
    local = directory_bytes(patches)
    assert directory_bytes(mirrored).items() <= local.items()


def test_an_upload_that_fails_leaves_nothing_that_looks_finished_and_is_not_built_again(
    bucket: Bucket,
    source: Source,
    patches: Path,
    quick_retries: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, proxy = f"{bucket.url}/patches", bucket.proxy
    proxy.fate = lambda number, method, path: (
        Fault(status=500) if sum(one == "PUT" for one, _ in proxy.requests) > 8 else None
    )
    assert sample(source, out) == 1
    (error,) = errors(capsys)
    assert "after 2 retries (status 500)" in error
    kept = bucket.objects()
    assert 0 < len(kept) <= 8
    assert "patches/published.json" not in kept

    proxy.fate = lambda number, method, path: None
    proxy.requests.clear()
    assert midframe("verify", out) == 1
    assert "is not published yet" in errors(capsys)[0]

    def not_again(*_: object) -> None:
        raise AssertionError("what is complete is built again")

    monkeypatch.setattr(sampling, "sample", not_again)
    assert sample(source, out) == 0
    assert bucket.files("patches") == directory_bytes(patches)
    written = [path for method, path in proxy.requests if method == "PUT"]
    assert len(written) == len(directory_bytes(patches)) + 1 - len(kept)
    assert not list(bucket.local.rglob("patches.zarr"))


def test_a_command_that_is_killed_while_it_uploads_goes_on_from_there(
    bucket: Bucket, source: Source, patches: Path
) -> None:
    bucket.proxy.latency = 0.5
    command = [sys.executable, "-m", "midframe", "sample", source.frames, "--motion", source.motion]
    command += ["--cuts", source.cuts, "--settings", SETTINGS, "--workers", "0"]
    command += ["--out", f"{bucket.url}/patches"]
    variables = os.environ | environment(bucket) | {"PYTHONPATH": str(Path(__file__).parents[2])}
    running = subprocess.Popen(list(map(str, command)), env=variables, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(method == "PUT" for method, _ in bucket.proxy.requests):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.02)
    time.sleep(0.6)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = bucket.objects()
    assert kept
    assert "patches/published.json" not in kept
    bucket.proxy.latency = 0.0
    assert sample(source, f"{bucket.url}/patches") == 0
    assert bucket.files("patches") == directory_bytes(patches)


def test_what_was_built_for_other_settings_is_built_again(
    bucket: Bucket,
    source: Source,
    quick_retries: ModuleType,
) -> None:
    out = f"{bucket.url}/patches"
    bucket.proxy.fate = lambda number, method, path: Fault(status=500) if method == "PUT" else None
    assert sample(source, out) == 1
    bucket.proxy.fate = lambda number, method, path: None
    assert sample(source, out, "--settings", '{"patch_size": 32}') == 0
    manifest = json.loads(bucket.files("patches")["manifest.json"])
    assert manifest["settings"]["patch_size"] == 32


def test_a_reader_gets_the_new_directory_and_the_mirror_of_the_old_one_goes(
    bucket: Bucket, patches: Path, source: Source, tmp_path: Path
) -> None:
    publish(bucket, source.motion, "data", "00000001")
    assert midframe("inspect", f"{bucket.url}/data", "--out", tmp_path / "look") == 1
    publish(bucket, patches, "data", "00000002")
    assert midframe("inspect", f"{bucket.url}/data", "--out", tmp_path / "look") == 0
    assert midframe("inspect", patches, "--out", tmp_path / "expected") == 0
    page = (tmp_path / "look" / "index.html").read_text()
    assert f"{bucket.url}/data" in page
    assert str(bucket.local) not in page
    summary = "summary.json"
    assert (tmp_path / "look" / summary).read_bytes() == (
        tmp_path / "expected" / summary
    ).read_bytes()
    (generation,) = (bucket.local / "in").glob("*/generation-*")
    assert generation.name.endswith("00000002")


def test_a_prefix_that_nobody_published_is_a_folder_and_an_object_a_file(
    bucket: Bucket, small_frames: Path, source: Source, patches: Path, tmp_path: Path
) -> None:
    for name, content in directory_bytes(small_frames).items():
        bucket.put(f"videos/{name}", content)
    url = f"{bucket.url}/videos/"
    assert midframe("cuts", url, "--out", tmp_path / "cuts", "--workers", 0) == 0
    expected = directory_bytes(source.cuts)["distances.parquet"]
    assert directory_bytes(tmp_path / "cuts")["distances.parquet"] == expected

    flags = {"kind": "flags", "format_version": 1, "flags": []}
    bucket.put("bad.flags.json", json.dumps(flags).encode())
    exclude = ["--exclude", f"{bucket.url}/bad.flags.json"]
    assert sample(source, tmp_path / "patches", *exclude) == 0
    shards = {n: c for n, c in directory_bytes(patches).items() if "triplet/c/" in n}
    assert shards.items() <= directory_bytes(tmp_path / "patches").items()


def test_verify_finds_what_is_damaged_in_the_store_whatever_is_mirrored(
    bucket: Bucket, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(bucket, patches, "patches")
    url = f"{bucket.url}/patches"
    assert midframe("verify", url) == 0
    assert capsys.readouterr().out == f"{url}: intact\n"
    assert not list(bucket.local.rglob("*"))
    found = bucket.objects("patches/")
    (shard,) = [key for key in found if "triplet/c/0/" in key]
    (table,) = [key for key in found if key.endswith("candidates.parquet")]

    damaged = bytearray(found[shard])
    damaged[100] ^= 1
    bucket.put(shard, bytes(damaged))
    assert midframe("verify", url) == 1
    (error,) = errors(capsys)
    assert f"{url}/patches.zarr/triplet/c/0/0/0/0/0: sample 0 is damaged" in error
    bucket.put(shard, found[shard])
    bucket.put(table, found[table][:-1] + b"!")
    assert midframe("verify", url) == 1
    (error,) = errors(capsys)
    assert "candidates.parquet: damaged" in error


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://no-such-bucket/x", "there is no bucket 'no-such-bucket'"),
        ("s3://{name}/nothing", "there is nothing here"),
        ("s3://{name}", "names a whole bucket"),
        ("s3://Bad_Name/x", "'Bad_Name' is no name of a bucket"),
        ("s3://{name}/a//b", "has an empty part"),
        ("s3://{name}/../b", "has an empty part, '.' or '..'"),
        ("gs://{name}/x", "gs:// is not supported"),
    ],
)
def test_a_wrong_url_is_one_line(
    bucket: Bucket, url: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = url.format(name=bucket.name)
    assert midframe("score", given, "--out", tmp_path / "motion") == 1
    (error,) = errors(capsys)
    assert message in error
    assert error.startswith(f"midframe: error: {given.rstrip('/')}")
    assert not (tmp_path / "motion").exists()


def test_a_path_cannot_be_a_url_where_a_command_reads_no_urls(
    bucket: Bucket, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = f"{bucket.url}/archives"
    arguments = ["fetch", "davis-2016", "--archives", url, "--out", tmp_path / "frames"]
    assert midframe(*arguments) == 1
    (error,) = errors(capsys)
    assert error == f"midframe: error: {url}: archives must be a path on this machine, and no URL"


def test_refused_access_and_a_store_that_is_down_are_one_line_each_before_the_work(
    bucket: Bucket,
    source: Source,
    quick_retries: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = f"{bucket.url}/patches"
    bucket.proxy.fate = lambda number, method, path: Fault(status=403)
    assert sample(source, out) == 1
    (error,) = errors(capsys)
    assert "refuses access (403); check AWS_ACCESS_KEY_ID" in error
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert sample(source, out) == 1
    (error,) = errors(capsys)
    assert "http://127.0.0.1:9 does not answer as it should, after 2 retries" in error
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert sample(source, out) == 1
    (error,) = errors(capsys)
    assert "no credentials; set AWS_ACCESS_KEY_ID" in error
    assert not list(bucket.local.rglob("*.parquet"))


def test_objects_of_others_are_not_replaced(
    bucket: Bucket, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.put("mine/thesis.tex", b"...")
    assert sample(source, f"{bucket.url}/mine") == 1
    (error,) = errors(capsys)
    assert "holds objects that this program did not write, such as 'thesis.tex'" in error
    assert bucket.objects() == {"mine/thesis.tex": b"..."}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"format_version": 1, "generation": "../x", "files": {}}', None],
    ids=["empty", "a list", "outside", "newer"],
)
def test_a_published_json_of_somebody_else_is_one_line(
    bucket: Bucket, patches: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(bucket, patches, "patches")
    if content is None:
        content = bucket.objects()["patches/published.json"].replace(
            b'"format_version": 1', b'"format_version": 2'
        )
    bucket.put("patches/published.json", content)
    assert midframe("verify", f"{bucket.url}/patches") == 1
    (error,) = errors(capsys)
    assert "published.json: " in error


def test_a_name_that_would_lie_outside_the_mirror_is_refused(
    bucket: Bucket, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(bucket, patches, "patches")
    content = json.loads(bucket.objects()["patches/published.json"])
    content["files"]["../../escaped"] = {"bytes": 1, "sha256": 64 * "0"}
    bucket.put("patches/published.json", json.dumps(content).encode())
    assert midframe("verify", f"{bucket.url}/patches") == 1
    assert "'../../escaped' is no name of a file" in errors(capsys)[0]


def test_reading_ends_in_a_line_when_the_store_stops_to_answer(
    bucket: Bucket,
    patches: Path,
    quick_retries: ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(bucket, patches, "patches")
    bucket.proxy.fate = lambda number, method, path: (
        Fault(status=500) if "triplet/c/" in path else None
    )
    assert midframe("verify", f"{bucket.url}/patches") == 1
    (error,) = errors(capsys)
    assert f"{bucket.url}/patches: the store does not answer as it should" in error
