import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import MidframeError
from pipeline.sources.checksums import Expected, record, with_recorded

URL = "https://example.org/DAVIS.zip"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "DAVIS.zip"
    path.write_bytes(b"frames")
    return path


def test_a_right_file_has_no_fault(file: Path) -> None:
    sha256 = hashlib.sha256(b"frames").hexdigest()
    md5 = hashlib.md5(b"frames").hexdigest()
    assert Expected().fault(file) is None
    assert Expected(6, sha256.upper(), md5).fault(file) is None


@pytest.mark.parametrize(
    ("expected", "fault"),
    [
        (Expected(size=7), "it has 6 bytes instead of 7"),
        (Expected(sha256="0" * 64), "its SHA256 is .* instead of 0{64}"),
        (Expected(md5="0" * 32), "its MD5 is .* instead of 0{32}"),
    ],
)
def test_a_fault_is_named(file: Path, expected: Expected, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        assert expected.fault(file) is None


def test_what_was_recorded_is_expected_after(file: Path, tmp_path: Path) -> None:
    lock = tmp_path / "new" / "lock.json"
    record(lock, URL, file)
    sha256 = hashlib.sha256(b"frames").hexdigest()
    assert json.loads(lock.read_text()) == {URL: {"sha256": sha256, "size": 6}}
    assert with_recorded(Expected(), lock, URL) == Expected(6, sha256, lock=lock)
    assert with_recorded(Expected(), lock, URL + "?other") == Expected()


def test_a_fault_against_the_record_names_the_lock_file(file: Path, tmp_path: Path) -> None:
    lock = tmp_path / "lock.json"
    record(lock, URL, file)
    file.write_bytes(b"Frames")
    fault = with_recorded(Expected(), lock, URL).fault(file)
    assert fault is not None
    assert fault.endswith(f"as recorded in {lock}")


def test_a_record_is_never_overwritten(file: Path, tmp_path: Path) -> None:
    lock = tmp_path / "lock.json"
    record(lock, URL, file)
    first = lock.read_bytes()
    file.write_bytes(b"other frames")
    record(lock, URL, file)
    assert lock.read_bytes() == first


def _record_many(lock: Path, file: Path, part: int) -> None:
    for number in range(10):
        record(lock, f"{URL}?{part}-{number}", file)


def test_processes_that_record_at_once_lose_nothing(file: Path, tmp_path: Path) -> None:
    lock = tmp_path / "lock.json"
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_record_many, [lock] * 4, [file] * 4, range(4)))
    assert len(json.loads(lock.read_text())) == 40


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"u": {"sha256": "x", "size": 1}}', '{"u": {"size": -1}}']
)
def test_a_file_that_is_no_lock_file_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "lock.json"
    lock.write_text(text)
    with pytest.raises(MidframeError, match="lock.json: not a lock file") as caught:
        with_recorded(Expected(), lock, URL)
    assert "\n" not in str(caught.value)
