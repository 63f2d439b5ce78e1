"""Whether a file is the published one, or the same as at its first download."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from pipeline.errors import MidframeError
from pipeline.provenance import file_digest


class Recorded(BaseModel):
    """What a lock file keeps of a file whose publisher gives no checksum."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the first download")
    size: int = Field(ge=0, description="bytes")


class _Lock(RootModel[dict[str, Recorded]]):
    """The content of a lock file, by address."""


@dataclass(frozen=True)
class Expected:
    """What is known of a file before its download.

    Attributes
    ----------
    size : bytes.
    sha256, md5 : hexadecimal digits.
    lock : the lock file that some of it comes from.
    """

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    lock: Path | None = None

    @property
    def has_checksum(self) -> bool:
        return self.sha256 is not None or self.md5 is not None

    def fault(self, path: Path) -> str | None:
        """Say what is wrong with the file at ``path``; None if nothing is.

        Raises
        ------
        MidframeError
            if the file cannot be read.
        """
        try:
            fault = self._fault(path)
        except OSError as error:
            raise MidframeError(f"{path}: cannot be read ({error.strerror})") from None
        return f"{fault}, as recorded in {self.lock}" if fault and self.lock else fault

    def _fault(self, path: Path) -> str | None:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno()).st_size
            if self.size is not None and found != self.size:
                return f"it has {found:,} bytes instead of {self.size:,}"
            for name, digits in (("sha256", self.sha256), ("md5", self.md5)):
                if digits is None:
                    continue
                file.seek(0)
                computed = hashlib.file_digest(file, name).hexdigest()
                if computed != digits.lower():
                    return f"its {name.upper()} is {computed} instead of {digits.lower()}"
        return None


def with_recorded(expected: Expected, lock: Path, url: str) -> Expected:
    """Add to ``expected`` what ``lock`` has recorded of ``url``, if anything."""
    recorded = _read(lock).get(url)
    if recorded is None:
        return expected
    size = recorded.size if expected.size is None else expected.size
    return replace(expected, size=size, sha256=recorded.sha256, lock=lock)


def record(lock: Path, url: str, path: Path) -> None:
    """Record the file at ``path`` in ``lock`` as that of ``url``, unless one is recorded.

    Raises
    ------
    MidframeError
        if ``lock`` cannot be written, or is no lock file.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        # Two stages may fetch at the same time: neither may lose what the other records.
        with FileLock(lock.with_name(f".{lock.name}.lock")):
            content = _read(lock)
            if url in content:
                return
            content[url] = Recorded(sha256=file_digest(path), size=path.stat().st_size)
            entries = {key: entry.model_dump() for key, entry in content.items()}
            partial = lock.with_name(f".{lock.name}.partial")
            partial.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", "utf-8")
            os.replace(partial, lock)
    except OSError as error:
        raise MidframeError(f"{lock}: cannot be written ({error.strerror})") from None


def _read(lock: Path) -> dict[str, Recorded]:
    try:
        return dict(_Lock.model_validate_json(lock.read_bytes()).root)
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        problem = error.errors()[0]
        place = " ".join(str(part) for part in problem["loc"])
        raise MidframeError(
            f"{lock}: not a lock file of addresses and checksums ({place}: {problem['msg']}); "
            "fix or delete it"
        ) from None
    except OSError as error:
        raise MidframeError(f"{lock}: cannot be read ({error.strerror})") from None
