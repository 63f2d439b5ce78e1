"""Objects in an S3 store, by obstore: read, written, listed and removed, with bounded retries.

The environment says where the store is and who asks, as for other programs: ``AWS_ENDPOINT_URL``,
``AWS_REGION``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``,
``AWS_SKIP_SIGNATURE``.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline.disk_space import write_error
from pipeline.errors import MidframeError
from pipeline.extras import needs
from pipeline.locations import Url
from pipeline.progress import progress

T = TypeVar("T")
Result = TypeVar("Result")

RETRIES = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 4.0  # seconds between two tries; doubled from one to the next
TIMEOUT = 60  # seconds for one request
SILENCE = 10  # seconds without a byte after which TensorStore asks again
# Requests at once: at 20 ms each, 800 small objects a second.
AT_ONCE = 16
PART = 8 << 20  # bytes of a large object that are sent at once; two parts at a time
# How TensorStore's errors begin that say nothing of the data: no answer, or no access.
SILENT_ERRORS = ("ABORTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "PERMISSION_DENIED")
BODY_TRIES = 3  # of listing and removing, whose answers obstore does not ask for again


class NoAnswerError(MidframeError):
    """A store that does not answer, or refuses, though nothing is wrong with what it holds."""


class Found(NamedTuple):
    """An object in a listing."""

    size: int
    modified: datetime
    etag: str


class Objects:
    """The objects below a URL; names are relative to it.

    All methods raise `MidframeError` if the bucket is missing, access is denied, or the store does
    not answer after `RETRIES` retries.
    """

    def __init__(self, url: Url) -> None:
        self.url = url
        with needs("s3", str(url)):
            from obstore.store import S3Store
        endpoint = _endpoint()
        self._store: S3Store = S3Store(
            url.bucket,
            config={"endpoint": endpoint} if endpoint else {},
            client_options={
                "timeout": f"{TIMEOUT}s",
                "allow_http": bool(endpoint and endpoint.startswith("http://")),
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=2 * TIMEOUT),
                "backoff": {
                    "init_backoff": timedelta(seconds=FIRST_PAUSE),
                    "max_backoff": timedelta(seconds=LONGEST_PAUSE),
                    "base": 2,
                },
            },
        )

    def read(self, name: str) -> bytes | None:
        """The bytes of an object; ``None`` if there is none of this name."""
        import obstore

        def get() -> bytes:
            return bytes(obstore.get(self._store, self._key(name)).bytes())

        return self._if_there(name, get)

    def find(self, name: str = "") -> Found | None:
        """Size and age of an object (``""``: the one that the URL itself names), if it exists."""
        import obstore

        meta = self._if_there(name, lambda: obstore.head(self._store, self._key(name)))
        return None if meta is None else _found(meta)

    def download(self, name: str, path: Path) -> None:
        """Write an object's bytes to a file.

        Raises
        ------
        MidframeError
            also if there is no such object, or the disk is full.
        """
        import obstore

        def get() -> bool:
            chunks = obstore.get(self._store, self._key(name)).stream(min_chunk_size=PART)
            try:
                with open(path, "wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
            except OSError as error:
                raise write_error(path.parent, error) from None
            return True

        if self._if_there(name, get) is None:
            raise MidframeError(f"{self._named(name)}: missing")

    def write(self, name: str, content: bytes | Path) -> None:
        """Write an object, from memory or from a file; it appears when it is whole."""
        import obstore

        with self._explained(name):
            obstore.put(self._store, self._key(name), content, chunk_size=PART, max_concurrency=2)

    def names(self, below: str = "") -> dict[str, Found]:
        """All objects below a name, with the URL's own prefix left out of theirs."""
        import obstore

        prefix = self._key(below)

        def collect() -> list[Any]:
            return [one for page in obstore.list(self._store, prefix) for one in page]

        start = len(self.url.key) + 1
        return {one["path"][start:]: _found(one) for one in self._again(below, collect)}

    def first_names(self) -> set[str]:
        """What lies directly below the URL: names of objects, and first parts of longer names."""
        import obstore

        def collect() -> Any:
            return obstore.list_with_delimiter(self._store, self.url.key)

        answer = self._again("", collect)
        paths = [*answer["common_prefixes"], *(one["path"] for one in answer["objects"])]
        return {path[len(self.url.key) + 1 :].strip("/") for path in paths}

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; one that is missing counts as removed."""
        import obstore

        keys = [self._key(name) for name in names]
        if keys:
            self._again("", lambda: obstore.delete(self._store, keys))

    def _key(self, name: str) -> str:
        return f"{self.url.key}/{name}" if name else self.url.key

    def _named(self, name: str) -> str:
        return f"{self.url}/{name}" if name else f"{self.url}"

    def _if_there(self, name: str, ask: Callable[[], Result]) -> Result | None:
        with self._explained(name):
            try:
                return ask()
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def _again(self, name: str, ask: Callable[[], Result]) -> Result:
        """Ask again if the connection ends while the answer is read."""
        from obstore.exceptions import GenericError

        with self._explained(name):
            for _ in range(BODY_TRIES - 1):
                try:
                    return ask()
                except GenericError as error:
                    if "response body error" not in str(error):
                        raise
            return ask()

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError, PermissionError) as error:
            raise MidframeError(f"{self._named(name)}: {_explain(error, self.url)}") from None


def _explain(error: Exception, url: Url) -> str:
    """What went wrong and what to do, in a line."""
    text = str(error)
    endpoint = _endpoint() or "AWS"
    if "NoSuchBucket" in text:
        return (
            f"there is no bucket '{url.bucket}' at {endpoint}; create it, or check its name and "
            "AWS_ENDPOINT_URL"
        )
    if "169.254." in text or "redential" in text:
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    status = re.search(r"status code: (\d{3})", text)
    if status and status[1] in ("401", "403"):
        code = re.search(r"<Code>(\w+)</Code>", text)
        return (
            f"{endpoint} refuses access ({code[1] if code else status[1]}); check "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights of that key"
        )
    reason = f"status {status[1]}" if status else _innermost(text)
    return (
        f"{endpoint} does not answer as it should, after {RETRIES} retries ({reason}); the same "
        "command goes on from what is done"
    )


def _innermost(text: str) -> str:
    """The cause in obstore's message, which lists the errors from the outermost on."""
    return text.split("\n")[0].split(" - ")[-1].strip() or "no reason given"


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def _found(meta: Any) -> Found:
    return Found(int(meta["size"]), meta["last_modified"], str(meta["e_tag"] or ""))


def all_at_once(
    function: Callable[[T], object], items: list[T], label: str, size: Callable[[T], int]
) -> None:
    """Call ``function`` with each item, `AT_ONCE` at a time, showing kilobytes as they are done."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            done = zip(items, pool.map(function, items), strict=True)
            kilobytes = [-(-size(item) // 1000) for item in items]
            shown = zip(kilobytes, done, strict=True)
            for _ in progress(shown, sum(kilobytes), label, "kB", amount=lambda one: one[0]):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def kvstore(url: Url) -> dict[str, Any]:
    """TensorStore's description of the same store, below a URL, with the same retries."""
    # Read when TensorStore first asks: without, a connection that stalls is waited for for ever.
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", str(SILENCE))
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")
    spec: dict[str, Any] = {"driver": "s3", "bucket": url.bucket, "path": f"{url.key}/"}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint := _endpoint():
        spec |= {"endpoint": endpoint, "aws_region": region or "us-east-1"}
    elif region:
        spec["aws_region"] = region
    if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        spec["aws_credentials"] = {"type": "anonymous"}
    elif os.environ.get("AWS_ACCESS_KEY_ID"):
        spec["aws_credentials"] = {"type": "environment"}
    spec["context"] = {
        "s3_request_retries": {
            "max_retries": RETRIES,
            "initial_delay": f"{FIRST_PAUSE}s",
            "max_delay": f"{LONGEST_PAUSE}s",
        }
    }
    return spec
