"""Where a command reads or writes: a path on this machine, or ``s3://bucket/prefix``."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import MidframeError

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class Url:
    """What ``s3://bucket/key`` names: one object, or all that lie below the key."""

    bucket: str
    key: str

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    def below(self, name: str) -> "Url":
        """What lies under the key as ``name``."""
        return Url(self.bucket, f"{self.key}/{name}")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def location(text: str) -> Path | Url:
    """The path or URL that ``text`` names.

    Raises
    ------
    MidframeError
        if it is a URL, but not of the form ``s3://bucket/prefix``.
    """
    scheme = SCHEME.match(text)
    if scheme is None:
        return Path(text)
    bucket, _, key = text[scheme.end() :].partition("/")
    parts = key.rstrip("/").split("/")
    wrong = None
    if scheme[1] != "s3":
        wrong = f"{scheme[1]}:// is not supported; give a path or s3://bucket/prefix"
    elif not BUCKET.fullmatch(bucket):
        wrong = f"'{bucket}' is no name of a bucket; give s3://bucket/prefix"
    elif parts == [""]:
        wrong = "names a whole bucket; give a prefix in it, s3://bucket/prefix"
    elif {"", ".", ".."} & set(parts):
        wrong = "has an empty part, '.' or '..' between its slashes; give s3://bucket/prefix"
    if wrong is not None:
        raise MidframeError(f"{text}: {wrong}")
    return Url(bucket, "/".join(parts))
