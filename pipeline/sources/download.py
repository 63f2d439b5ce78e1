"""Fetch one file; whatever has its name is complete and correct.

Bytes arrive in ``NAME.part``. Whatever goes wrong, the part stays and the next call resumes from
it. A rename gives it its name, after size and checksum are verified.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.disk_space import require_writable, write_error
from pipeline.errors import MidframeError
from pipeline.progress import notice
from pipeline.sources.checksums import Expected, record, with_recorded
from pipeline.sources.resumable_http import BY_HAND, discard, fetch, names_page


def download(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    lock: Path | None = None,
    local: Path | None = None,
    timeout: tuple[float, float] = (20.0, 60.0),
    retries: int = 6,
    backoff: float = 1.0,
) -> Path:
    """Fetch ``url`` to ``path`` unless a right copy is at hand; return the path of the right file.

    Proxies are taken from the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``).

    Parameters
    ----------
    url : ``http://``, ``https://`` or ``file://`` address, or a local path.
    path : the file's name once it is whole and right. A file that lies there already is
        verified; a wrong one is set aside as ``NAME.wrong``. A local file is used where it is:
        its own path is returned then.
    size : bytes, as published.
    sha256, md5 : checksums, as published.
    lock : JSON file of ``{url: {"sha256": ..., "size": ...}}``. Where ``sha256`` is not given,
        the file must be the one recorded there; if none is, this one is recorded.
    local : a copy that the user already has, used instead of fetching.
    timeout : seconds to wait for a connection, and for the next bytes.
    retries : attempts in a row that may fail without getting further, before giving up.
    backoff : seconds to wait before the second attempt; doubled each time, at most 60.

    Raises
    ------
    MidframeError
        if the file cannot be fetched, is not the expected one, or does not fit on the disk.
    """
    expected = Expected(size, sha256, md5)
    if sha256 is not None:
        lock = None
    if lock is not None:
        expected = with_recorded(expected, lock, url)
    at_hand = _find_local(url, local, expected) or _find_fetched(path, expected)
    if at_hand is not None:
        if lock is not None:
            record(lock, url, at_hand)
        return at_hand
    require_writable(path.parent)
    part = path.with_name(path.name + ".part")
    fetch(url, part, expected, timeout, retries, backoff)
    if fault := _fault(part, expected):
        discard(part)
        raise MidframeError(
            f"{url}: what arrived is wrong and has been deleted: {fault}; try again, or {BY_HAND}"
        )
    if lock is not None:
        record(lock, url, part)
    os.replace(part, path)
    discard(part)
    return path


def _find_local(url: str, local: Path | None, expected: Expected) -> Path | None:
    """Return the file on this machine that is meant, after verifying it; None if there is none."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise MidframeError(f"{url}: not an address ({error})") from None
    if local is None and parts.scheme not in ("http", "https"):
        if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
            raise MidframeError(f"{url}: neither an http, https or file address nor a path")
        local = Path(url2pathname(parts.path)) if parts.scheme else Path(url)
    if local is None:
        return None
    if not local.is_file():
        raise MidframeError(f"{local}: no such file; a downloaded archive is expected here")
    if fault := _fault(local, expected):
        raise MidframeError(f"{local}: {fault}, so it is not the file of {url}")
    return local


def _find_fetched(path: Path, expected: Expected) -> Path | None:
    """Return ``path`` if the right file lies there; set a wrong one aside."""
    if path.is_dir():
        raise MidframeError(f"{path}: is a folder; the file to fetch cannot be put there")
    if not path.exists():
        return None
    fault = _fault(path, expected)
    if fault is None:
        return path
    wrong = path.with_name(path.name + ".wrong")
    notice(f"{path}: {fault}; renamed to {wrong.name}, fetching it again")
    try:
        os.replace(path, wrong)
    except OSError as error:
        raise write_error(path.parent, error) from None
    return None


def _fault(path: Path, expected: Expected) -> str | None:
    """Say what is wrong with the file; a web page is called that, whatever else is known."""
    fault = expected.fault(path)
    if (fault or not expected.has_checksum) and not names_page(path.name.removesuffix(".part")):
        with open(path, "rb") as file:
            start = file.read(512).lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            return "it is a web page"
    return fault
