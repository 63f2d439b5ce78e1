"""Fetch a file over HTTP, in as many parts as the connection allows.

``NAME.part`` holds the bytes that have arrived, from the first on; ``NAME.part.json`` beside it
says which version of the file on the server they belong to.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError
from urllib3.util.retry import Retry

from pipeline.disk_space import require_free, write_error
from pipeline.errors import MidframeError
from pipeline.progress import notice, progress
from pipeline.sources.checksums import Expected

MEBIBYTE = 1 << 20
LONGEST_WAIT = 60  # seconds between two attempts, whatever the back-off or the server says
PASSING_STATUSES = {408, 425, 429, 500, 502, 503, 504}  # worth another attempt; others are final
BY_HAND = "fetch the file by hand and give its path"


class _Interrupted(Exception):
    """An attempt that failed in a way that may pass; ``wait``: seconds the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Changed(_Interrupted):
    """What the server offers does not continue what has arrived."""


def fetch(
    url: str,
    part: Path,
    expected: Expected,
    timeout: tuple[float, float],
    retries: int,
    backoff: float,
) -> None:
    """Complete ``part``, in as many attempts as it takes, as long as they get further.

    Parameters are those of `pipeline.sources.download.download`.

    Raises
    ------
    MidframeError
        if the server does not have the file, stays unreachable, or the disk is full. What has
        arrived stays in ``part``.
    """
    failures, furthest = 0, _length(part)
    while True:
        try:
            _attempt(url, part, expected, timeout)
            return
        except _Interrupted as error:
            arrived = _length(part)
            failures = 1 if arrived > furthest else failures + 1
            furthest = max(furthest, arrived)
            if failures > retries:
                kept = f"; the {arrived:,} bytes that arrived are kept" if arrived else ""
                raise MidframeError(
                    f"{url}: {error} ({failures} times in a row){kept}; run again later, or "
                    f"{BY_HAND}"
                ) from None
            wait = min(max(error.wait, backoff * 2 ** (failures - 1)), LONGEST_WAIT)
            notice(f"{url}: {error} at byte {arrived:,}; next attempt in {wait:g} s")
            time.sleep(wait)


def _attempt(url: str, part: Path, expected: Expected, timeout: tuple[float, float]) -> None:
    """Ask once for what ``part`` lacks, and append the answer to it.

    A part is continued only where a splice of two versions of the file would be noticed: by the
    server, which is asked with ``If-Range``, or by the checksum in the end.
    """
    version = _read_version(part, url)
    validator, total = version.get("validator"), version.get("total") or expected.size
    have = _length(part) if validator or (version and expected.has_checksum) else 0
    if have and have == total:
        return
    # Offsets count the bytes of the file itself, so it must not be compressed on its way.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            _require_file(response, url, have)
            start, size = _span(response, have, total)
            size = _require_size(response, url, size, expected)
            if start == 0 and _length(part) > 0:
                notice(f"{url}: cannot be resumed, or has changed; starting over")
            _append(response, part, url, start, size)
    except _Changed:
        discard(part)
        raise
    except (requests.RequestException, HTTPError) as error:
        raise _explained(error, url, timeout) from None
    if size is not None and _length(part) < size:
        raise _Interrupted("connection cut")


def names_page(name: str) -> bool:
    """Whether a file of this name is meant to be a web page."""
    return name.lower().endswith((".html", ".htm"))


def _require_file(response: requests.Response, url: str, have: int) -> None:
    """Raise unless the answer holds a file, or the rest of one after ``have`` bytes."""
    status = f"HTTP status {response.status_code} {response.reason}"
    if response.status_code in PASSING_STATUSES:
        wait = Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
        raise _Interrupted(status, wait)
    if response.status_code == 416 and have:
        raise _Changed("the file on the server has become shorter")
    if response.status_code not in (200, 206):
        raise MidframeError(f"{url}: {status}; is the address right? Otherwise {BY_HAND}")
    kind = response.headers.get("Content-Type", "")
    if kind.startswith("text/html") and not names_page(urlsplit(url).path):
        raise MidframeError(
            f"{url}: the server sent a web page instead of the file; open the address in a "
            f"browser to see what it says, or {BY_HAND}"
        )


def _span(response: requests.Response, have: int, total: int | None) -> tuple[int, int | None]:
    """First byte of the file that the answer holds, and the file's size if it is given."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length")
        return 0, int(length) if length else None
    told = response.headers.get("Content-Range", "")
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", told)
    if span is None or int(span[1]) != have or (total and span[2] not in ("*", str(total))):
        raise _Changed(f"the server sent another range ({told}) than asked for")
    return have, None if span[2] == "*" else int(span[2])


def _require_size(
    response: requests.Response, url: str, size: int | None, expected: Expected
) -> int | None:
    """Return the size that the whole file will have; None if only its checksum can tell."""
    if size is None or expected.size is None:
        size = size or expected.size
        if size is None and not expected.has_checksum and not response.raw.chunked:
            raise MidframeError(
                f"{url}: the server does not give the file's size, so it could be cut off "
                f"unnoticed; {BY_HAND}"
            )
    elif size != expected.size:
        source = f" as recorded in {expected.lock}" if expected.lock else ""
        raise MidframeError(
            f"{url}: the server has {size:,} bytes instead of {expected.size:,}{source}; is the "
            f"address right? Otherwise {BY_HAND}"
        )
    return size


def _append(
    response: requests.Response, part: Path, url: str, start: int, size: int | None
) -> None:
    """Write the body to ``part`` from byte ``start`` on, as far as it comes."""
    grows = None if size is None else max(size - _length(part), 0)
    require_free(part.parent, grows or 0)
    try:
        if start == 0:
            _write_version(part, url, response, size)
        with open(part, "ab" if start else "wb") as file:
            blocks = _blocks(response, file)
            if size is not None:
                blocks = progress(blocks, -(-(size - start) // MEBIBYTE), part.stem, "MiB")
            for _ in blocks:
                pass
    except OSError as error:
        raise write_error(part.parent, error, grows) from None


def _blocks(response: requests.Response, file: IO[bytes]) -> Iterator[None]:
    """Write the body to ``file`` as it comes; yield once for each MiB begun."""
    pending = 0
    # read1 returns what is there, so a time-out loses nothing that arrived before it.
    while data := response.raw.read1(MEBIBYTE, decode_content=False):
        file.write(data)
        pending += len(data)
        if pending >= MEBIBYTE:
            pending -= MEBIBYTE
            yield
    if pending:
        yield


def _explained(error: Exception, url: str, timeout: tuple[float, float]) -> Exception:
    """Distinguish a passing failure of the connection from a lasting one, in plain words."""
    cause: Any = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)
    cause = getattr(cause, "original_error", cause)  # of a proxy
    reason = str(cause).rpartition(": ")[2]
    if isinstance(error, requests.ConnectTimeout):
        return _Interrupted(f"no connection within {timeout[0]:g} s")
    if isinstance(error, requests.ReadTimeout | ReadTimeoutError):
        return _Interrupted(f"no data for {timeout[1]:g} s")
    if isinstance(error, ProtocolError) or isinstance(cause, ProtocolError):
        return _Interrupted("connection cut")
    if isinstance(error, requests.exceptions.SSLError):
        return MidframeError(f"{url}: the server's certificate is not trusted ({reason})")
    if isinstance(error, requests.exceptions.ProxyError):
        return _Interrupted(f"no connection through the proxy ({reason})")
    if isinstance(error, requests.ConnectionError | HTTPError):
        return _Interrupted(f"no connection ({reason})")
    return MidframeError(f"{url}: cannot be fetched ({error})")


def _read_version(part: Path, url: str) -> dict[str, Any]:
    """What was noted of the file that ``part`` is the beginning of; empty if that is not known."""
    try:
        version = json.loads(_version_path(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    if not isinstance(version, dict) or version.get("url") != url:
        return {}
    validator, total = version.get("validator"), version.get("total")
    known = isinstance(validator, str | None) and isinstance(total, int | None)
    return version if known else {}


def _write_version(part: Path, url: str, response: requests.Response, size: int | None) -> None:
    """Note which version of the file the bytes in ``part`` will belong to."""
    validator = response.headers.get("ETag")
    if validator is None or validator.startswith("W/"):  # weak: other bytes may have the same
        validator = response.headers.get("Last-Modified")
    part.unlink(missing_ok=True)
    version = {"url": url, "validator": validator, "total": size}
    _version_path(part).write_text(json.dumps(version), encoding="utf-8")


def _version_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def discard(part: Path) -> None:
    """Remove ``part`` and what was noted beside it."""
    part.unlink(missing_ok=True)
    _version_path(part).unlink(missing_ok=True)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
