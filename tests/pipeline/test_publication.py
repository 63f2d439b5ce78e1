"""Directories published as objects: whole, one at a time, and under their own names."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline import publication
from pipeline.locations import Url
from pipeline.mirrors import mirror
from pipeline.selection.triplets import Source
from tests.conftest import directory_bytes
from tests.object_store import Bucket, publish


def test_another_directory_takes_the_place_of_the_first_as_a_whole(
    bucket: Bucket, patches: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(bucket, source.cuts, "data", "00000001")
    publish(bucket, patches, "data/inside", "00000002")
    unfinished = f"data/generation-{16 * 'a'}-00000003/manifest.json"
    bucket.put(unfinished, b"{}")
    publish(bucket, source.motion, "data", "00000004")
    found = bucket.objects("data/")
    assert unfinished in found  # somebody may be writing it
    assert not any("00000001/" in key for key in found)
    assert bucket.files("data/inside") == directory_bytes(patches)

    monkeypatch.setattr(publication, "ABANDONED", timedelta(seconds=-1))
    publish(bucket, source.cuts, "data", "00000005")
    found = bucket.objects("data/")
    assert {key.split("/")[1] for key in found if "generation" in key.split("/")[1]} == {
        json.loads(found["data/published.json"])["generation"]
    }
    assert bucket.files("data/inside") == directory_bytes(patches)


def test_two_commands_that_write_one_url_at_once_both_finish(
    bucket: Bucket, patches: Path, source: Source
) -> None:
    puts = []

    def fate(number: int, method: str, path: str) -> None:
        puts.append(path)
        if method == "PUT" and "00000001/" in path and len(puts) > 5 and not others:
            others.append(path)
            publish(bucket, source.cuts, "data", "00000002")

    others: list[str] = []
    bucket.proxy.fate = fate
    publish(bucket, patches, "data", "00000001")
    assert others
    found = bucket.objects("data/")
    current = json.loads(found["data/published.json"])["generation"]
    assert current.endswith("00000001")
    start = f"data/{current}/"
    files = {key.removeprefix(start): found[key] for key in found if key.startswith(start)}
    assert files == directory_bytes(patches)
    other = {key for key in found if "00000002/" in key}
    assert len(other) == len(directory_bytes(source.cuts))


def test_names_of_files_are_kept_whatever_they_hold(bucket: Bucket, tmp_path: Path) -> None:
    names = [
        "a b.txt",
        "é ü 雪.txt",
        "50%25.txt",
        "#1?.txt",
        "a+b&c=d.txt",
        "x~[1]{2}.txt",
        "sub/'q\"!.txt",
    ]
    for name in names:
        (tmp_path / "odd" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "odd" / name).write_text(name)
        bucket.put(f"plain/{name}", name.encode())
    publish(bucket, tmp_path / "odd", "odd")
    for key in ("odd", "plain"):
        assert directory_bytes(mirror(Url(bucket.name, key))) == directory_bytes(tmp_path / "odd")
