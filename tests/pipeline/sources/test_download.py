import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import MidframeError
from pipeline.provenance import file_digest
from pipeline.sources.archives import unpack
from pipeline.sources.download import download
from tests.pipeline.local_server import Fault, LocalServer


@pytest.fixture
def content(davis_archive: Path, server: LocalServer) -> bytes:
    server.content = davis_archive.read_bytes()
    return server.content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "DAVIS.zip"


def get(server: LocalServer, path: Path, **kwargs: Any) -> Path:
    return download(server.url, path, timeout=(5.0, 5.0), retries=1, backoff=0.0, **kwargs)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_an_archive_of_davis_is_fetched_verified_and_unpacked(
    server: LocalServer, content: bytes, path: Path, tmp_path: Path
) -> None:
    server.faults = [Fault(status=500), Fault(cut=700_000)]
    sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
    assert get(server, path, size=len(content), sha256=sha256, md5=md5) == path
    unpack(path, tmp_path / "davis-2016")
    assert len(list((tmp_path / "davis-2016/DAVIS/JPEGImages/480p/bikes").iterdir())) == 12
    assert names(path.parent) == ["DAVIS.zip"]


def test_a_right_file_is_not_fetched_again(server: LocalServer, content: bytes, path: Path) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    get(server, path, sha256=sha256)
    get(server, path, sha256=sha256)
    assert len(server.requests) == 1


def test_a_wrong_file_under_the_name_is_set_aside_and_fetched_anew(
    server: LocalServer, content: bytes, path: Path
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"mine")
    get(server, path, sha256=hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == content
    assert path.with_name("DAVIS.zip.wrong").read_bytes() == b"mine"


@pytest.mark.parametrize("expected", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_wrong_bytes_never_get_the_name(
    server: LocalServer, content: bytes, path: Path, expected: dict[str, str]
) -> None:
    with pytest.raises(MidframeError, match=r"what arrived is wrong .* instead of 000"):
        get(server, path, **expected)
    assert names(path.parent) == []


def test_a_wrong_part_does_not_stand_in_the_way_of_the_next_attempt(
    server: LocalServer, content: bytes, path: Path
) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    server.content = content[:700_000] + bytes(len(content) - 700_000)
    with pytest.raises(MidframeError):
        get(server, path, sha256=sha256)
    server.content = content
    assert get(server, path, sha256=sha256).read_bytes() == content


def test_a_web_page_without_its_type_is_recognised_and_not_recorded(
    server: LocalServer, path: Path, tmp_path: Path
) -> None:
    server.content = b"\n<!DOCTYPE HTML><title>moved</title>"
    lock = tmp_path / "lock.json"
    with pytest.raises(MidframeError, match="it is a web page"):
        get(server, path, lock=lock)
    assert not lock.exists()
    assert names(path.parent) == []


def test_the_first_download_is_recorded_and_enforced_after(
    server: LocalServer, content: bytes, path: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.json"
    get(server, path, lock=lock)
    recorded = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    assert json.loads(lock.read_text()) == {server.url: recorded}
    path.unlink()
    server.content = bytes(len(content))
    with pytest.raises(MidframeError, match="lock.json"):
        get(server, path, lock=lock)
    assert not path.exists()
    server.content = content + b"more"
    with pytest.raises(MidframeError, match="lock.json"):
        get(server, path, lock=lock)
    server.content = content
    assert get(server, path, lock=lock).read_bytes() == content


def test_a_file_with_a_published_sha256_is_not_recorded(
    server: LocalServer, content: bytes, path: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.json"
    get(server, path, sha256=hashlib.sha256(content).hexdigest(), lock=lock)
    assert not lock.exists()


def test_a_lock_file_that_cannot_be_written_costs_no_download(
    server: LocalServer, content: bytes, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(MidframeError, match="cannot be"):
        get(server, path, lock=tmp_path / "taken" / "lock.json")
    get(server, path, lock=tmp_path / "lock.json")
    assert sum(request.sent for request in server.requests) <= len(content)


def test_a_copy_that_the_user_has_is_verified_and_used_where_it_lies(
    davis_archive: Path, path: Path, server: LocalServer, tmp_path: Path
) -> None:
    sha256 = file_digest(davis_archive)
    lock = tmp_path / "lock.json"
    assert download(server.url, path, sha256=sha256, local=davis_archive) == davis_archive
    assert download(davis_archive.as_uri(), path, sha256=sha256) == davis_archive
    assert download(str(davis_archive), path, sha256=sha256) == davis_archive
    assert download(server.url, path, lock=lock, local=davis_archive) == davis_archive
    assert json.loads(lock.read_text())[server.url]["sha256"] == sha256
    assert server.requests == []
    assert not path.parent.exists()


def test_a_wrong_copy_of_the_user_is_refused_and_left_alone(
    davis_archive: Path, path: Path, server: LocalServer
) -> None:
    before = davis_archive.read_bytes()
    with pytest.raises(MidframeError, match=f"so it is not the file of {server.url}"):
        download(server.url, path, md5="0" * 32, local=davis_archive)
    assert davis_archive.read_bytes() == before


def test_a_copy_that_is_not_there_is_told_in_one_line(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="no such file"):
        download((tmp_path / "absent.zip").as_uri(), path)


@pytest.mark.parametrize(
    "url", ["ftp://example.org/a.zip", "file://elsewhere/a.zip", "http://[a/a.zip", "http:///a.zip"]
)
def test_other_addresses_are_refused(path: Path, url: str) -> None:
    with pytest.raises(MidframeError, match="neither an http|not an address|cannot be fetched"):
        download(url, path)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_fetched(
    server: LocalServer, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(MidframeError, match="taken: cannot write here"):
        get(server, tmp_path / "taken" / "DAVIS.zip")
    assert server.requests == []


def test_a_folder_under_the_name_of_the_file_is_told_in_one_line(
    server: LocalServer, content: bytes, path: Path
) -> None:
    path.mkdir(parents=True)
    with pytest.raises(MidframeError, match="is a folder"):
        get(server, path)
