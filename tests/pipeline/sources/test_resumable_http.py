import json
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import MidframeError
from pipeline.provenance import file_digest
from pipeline.sources.checksums import Expected
from pipeline.sources.resumable_http import fetch
from tests.pipeline.local_server import Fault, LocalServer


@pytest.fixture
def content(davis_archive: Path, server: LocalServer) -> bytes:
    server.content = davis_archive.read_bytes()
    return server.content


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "DAVIS.zip.part"


def attempt(
    server: LocalServer, part: Path, expected: Expected | None = None, **kwargs: Any
) -> None:
    options: dict[str, Any] = {"timeout": (5.0, 5.0), "retries": 2, "backoff": 0.0} | kwargs
    fetch(server.url, part, expected or Expected(), **options)


def test_a_cut_connection_is_resumed_with_the_missing_bytes_only(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [Fault(cut=700_000), Fault(cut=500_000)]
    attempt(server, part)
    assert part.read_bytes() == content
    assert [request.headers.get("Range") for request in server.requests] == [
        None,
        "bytes=700000-",
        "bytes=1200000-",
    ]
    assert sum(request.sent for request in server.requests) == len(content)
    assert server.requests[1].headers["If-Range"] == server.etag


def test_what_arrived_survives_a_failure_for_the_next_call(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [Fault(cut=700_000), *[Fault(status=503)] * 3]
    with pytest.raises(MidframeError, match="503.* the 700,000 bytes that arrived are kept"):
        attempt(server, part)
    assert part.read_bytes() == content[:700_000]
    attempt(server, part)
    assert part.read_bytes() == content
    assert server.requests[-1].sent == len(content) - 700_000


def test_any_number_of_cuts_is_survived_while_each_attempt_gets_further(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [Fault(cut=100_000)] * 10
    attempt(server, part, retries=1)
    assert part.read_bytes() == content


def test_a_connection_cut_again_and_again_is_given_up(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [Fault(cut=0)] * 3
    with pytest.raises(MidframeError, match=r"connection cut \(3 times in a row\)"):
        attempt(server, part)


def test_a_complete_part_is_not_fetched_again(
    server: LocalServer, content: bytes, part: Path
) -> None:
    attempt(server, part)
    attempt(server, part)
    assert len(server.requests) == 1


def test_a_server_without_ranges_sends_all_again(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.ranges = False
    server.faults = [Fault(cut=700_000)]
    attempt(server, part)
    assert part.read_bytes() == content
    assert server.requests[-1].sent == len(content)


def test_a_file_that_changes_between_two_parts_is_fetched_from_its_start(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [Fault(cut=700_000), *[Fault(status=503)] * 3]
    with pytest.raises(MidframeError):
        attempt(server, part)
    server.content, server.etag = content[::-1], '"2"'
    attempt(server, part)
    assert part.read_bytes() == content[::-1]


def test_a_server_that_ignores_if_range_is_caught_by_the_size(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [
        Fault(cut=700_000),
        Fault(status=206, headers={"Content-Range": "bytes 700000-800000/800001"}),
    ]
    attempt(server, part)
    assert part.read_bytes() == content


def test_a_file_that_became_shorter_than_the_part_is_fetched_from_its_start(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [Fault(cut=700_000), *[Fault(status=503)] * 3]
    with pytest.raises(MidframeError):
        attempt(server, part)
    server.content = content[:1000]  # under the same ETag: the server answers 416
    attempt(server, part)
    assert part.read_bytes() == content[:1000]


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_validator_a_part_is_continued_only_where_a_checksum_tells_a_splice(
    server: LocalServer, content: bytes, part: Path, davis_archive: Path, etag: str | None
) -> None:
    server.etag = etag
    server.faults = [Fault(cut=700_000)]
    attempt(server, part)
    assert "Range" not in server.requests[-1].headers
    part.unlink()
    server.faults = [Fault(cut=700_000)]
    attempt(server, part, Expected(sha256=file_digest(davis_archive)))
    assert server.requests[-1].headers["Range"] == "bytes=700000-"
    assert part.read_bytes() == content


def test_a_part_of_another_address_is_not_continued(
    server: LocalServer, content: bytes, part: Path
) -> None:
    part.write_bytes(b"something else")
    note = {"url": "http://elsewhere/", "validator": '"1"', "total": None}
    part.with_name(part.name + ".json").write_text(json.dumps(note))
    attempt(server, part)
    assert part.read_bytes() == content


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_final_refusal_is_told_at_once(
    server: LocalServer, content: bytes, part: Path, status: int
) -> None:
    server.faults = [Fault(status=status, body=b"<html>no</html>")]
    with pytest.raises(MidframeError, match=f"HTTP status {status} .*; is the address right"):
        attempt(server, part)
    assert len(server.requests) == 1
    assert not part.exists()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_passing_refusal_is_tried_again(
    server: LocalServer, content: bytes, part: Path, status: int
) -> None:
    server.faults = [Fault(status=status, body=b"<html>later</html>")] * 2
    attempt(server, part)
    assert part.read_bytes() == content


def test_the_wait_grows_and_respects_what_the_server_asks_for(
    server: LocalServer, content: bytes, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    server.faults = [
        Fault(status=503),
        Fault(status=503),
        Fault(status=503, headers={"Retry-After": "30"}),
        Fault(status=503, headers={"Retry-After": "86400"}),
    ]
    attempt(server, part, retries=4, backoff=1.0)
    assert waits == [1, 2, 30, 60]


def test_a_web_page_sent_as_the_file_is_refused_and_costs_no_part(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [Fault(cut=700_000), *[Fault(status=503)] * 3]
    with pytest.raises(MidframeError):
        attempt(server, part)
    page = {"Content-Type": "text/html; charset=utf-8"}
    server.faults = [Fault(status=200, headers=page, body=b"<html>log in</html>")]
    with pytest.raises(MidframeError, match="a web page instead of the file"):
        attempt(server, part)
    assert part.read_bytes() == content[:700_000]


def test_a_server_that_stalls_is_given_up_after_the_time_out(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [Fault(stall=700_000), Fault(stall=0)]
    with pytest.raises(MidframeError, match=r"no data for 1 s .*700,000 bytes .* are kept"):
        attempt(server, part, timeout=(5.0, 1.0), retries=1)
    assert part.read_bytes() == content[:700_000]


def test_a_server_that_stalls_once_is_asked_for_the_rest(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.faults = [Fault(stall=700_000)]
    attempt(server, part, timeout=(5.0, 1.0))
    assert part.read_bytes() == content
    assert server.requests[-1].sent == len(content) - 700_000


def test_a_machine_that_refuses_the_connection_is_told_in_one_line(part: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/DAVIS.zip"
        with pytest.raises(MidframeError, match=r"no connection \(.*refused\) \(2 times"):
            fetch(url, part, Expected(), (5.0, 5.0), 1, 0.0)


def test_another_size_than_expected_is_refused_before_a_byte_is_written(
    server: LocalServer, content: bytes, part: Path
) -> None:
    with pytest.raises(MidframeError, match=f"has {len(content):,} bytes instead of 5;"):
        attempt(server, part, Expected(size=5))
    assert not part.exists()


def test_a_file_of_unknown_size_that_could_be_cut_off_unnoticed_is_refused(
    server: LocalServer, content: bytes, part: Path, davis_archive: Path
) -> None:
    server.tells_length = False
    with pytest.raises(MidframeError, match="does not give the file's size"):
        attempt(server, part)
    attempt(server, part, Expected(sha256=file_digest(davis_archive)))
    assert part.read_bytes() == content


def test_a_chunked_body_of_unknown_size_is_complete_when_its_end_is_marked(
    server: LocalServer, content: bytes, part: Path
) -> None:
    server.chunked = True
    server.ranges = False
    server.faults = [Fault(cut=700_000)]
    attempt(server, part)
    assert part.read_bytes() == content


def test_a_file_that_does_not_fit_is_refused_before_a_byte_is_written(
    server: LocalServer, content: bytes, small_disk: Path
) -> None:
    part = small_disk / "DAVIS.zip.part"
    with pytest.raises(MidframeError, match=r"not enough space: .* MB needed, 1.0 MB free"):
        attempt(server, part)
    assert not part.exists()


def test_a_disk_that_fills_up_keeps_what_arrived(
    server: LocalServer, content: bytes, small_disk: Path
) -> None:
    server.chunked = True  # so that the size is not known before
    part = small_disk / "DAVIS.zip.part"
    with pytest.raises(MidframeError, match=r"not enough space: more needed"):
        attempt(server, part)
    kept = part.read_bytes()
    assert len(kept) > 500_000
    assert content.startswith(kept)


def test_the_proxy_of_the_environment_is_used(
    server: LocalServer, content: bytes, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/DAVIS.zip"))
    url = "http://davis.invalid/DAVIS.zip"
    fetch(url, part, Expected(), (5.0, 5.0), 0, 0.0)
    assert part.read_bytes() == content
    assert [request.path for request in server.requests] == [url]


def test_a_proxy_that_cannot_be_reached_is_told_in_one_line(
    server: LocalServer, content: bytes, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        with pytest.raises(MidframeError, match=r"through the proxy \([^)]*refused\)") as caught:
            fetch("http://davis.invalid/a.zip", part, Expected(), (5.0, 5.0), 0, 0.0)
    assert "secret" not in str(caught.value)


def test_no_proxy_is_used_for_the_names_that_the_environment_exempts(
    server: LocalServer, content: bytes, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    attempt(server, part)
    assert part.read_bytes() == content


def test_progress_is_told_in_a_log(
    server: LocalServer, content: bytes, part: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(server, part)
    mebibytes = -(-len(content) // (1 << 20))
    assert f"DAVIS.zip: {mebibytes}/{mebibytes} MiB" in capsys.readouterr().err
