"""What is made of a long video so far, in parts that are whole, so that a killed run goes on.

A part holds the encoded pictures of some minutes; each begins anew, with a key frame. They are
joined without being encoded again, so that the file is the same however often it was interrupted.
"""

import glob
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import model
from model.video.writer import Encoded
from pipeline.disk_space import full_disk_told, require_writable
from pipeline.errors import MidframeError
from pipeline.provenance import digest, package_versions
from pipeline.reading import reading
from pipeline.resume import code_digest, locked

# Of a packet: its times, length, whether it is a key frame, and how much is beside it.
_HEAD = struct.Struct("<qqqI?B")
_BESIDE = struct.Struct("<BI")
# Bytes of either end of a source that tell it from another of its size and time.
SAMPLED = 1 << 20


@dataclass(frozen=True)
class Part:
    """What is known of a part that is whole.

    Attributes
    ----------
    made : frames in it.
    read : frames of the source it was made of.
    following : number of the source's frame that the next part begins with.
    last : whether none follows.
    notes : what was found out about the source by its end.
    """

    made: int
    read: int
    following: int
    last: bool
    notes: tuple[str, ...] = ()


class Parts:
    """A folder of parts, numbered from 0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def whole(self) -> list[Part]:
        """The parts that there are, up to the first gap."""
        found: list[Part] = []
        while (record := self._record(len(found))).is_file():
            with reading(record, f"delete {self.folder} and run again"):
                found.append(Part(**json.loads(record.read_text(encoding="utf-8"))))
        return found

    def path(self, number: int) -> Path:
        """Where the pictures of a part lie."""
        return self.folder / f"{number:05}"

    def publish(self, number: int, part: Part) -> None:
        """Say that a part is whole, which its pictures are already."""
        waiting = self.folder / f"{number:05}.partial"
        waiting.write_text(json.dumps(asdict(part)))
        os.replace(waiting, self._record(number))

    def _record(self, number: int) -> Path:
        return self.folder / f"{number:05}.json"


class PacketFile:
    """The packets of a part, written one after another."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def write(self, packets: Iterable[Encoded]) -> None:
        """Append packets."""
        for one in packets:
            head = one.pts, one.dts, one.duration, len(one.data), one.key, len(one.beside)
            self._file.write(_HEAD.pack(*head))
            self._file.write(one.data)
            for number, data in one.beside:
                self._file.write(_BESIDE.pack(number, len(data)))
                self._file.write(data)


def read_packets(path: Path) -> Iterator[Encoded]:
    """The packets of a part, in order."""
    remaining = path.stat().st_size

    def take(length: int) -> bytes:
        nonlocal remaining
        remaining -= length
        if remaining < 0:
            raise MidframeError(f"{path}: cut short; delete {path.parent} and run again")
        return file.read(length)

    with path.open("rb") as file:
        while remaining:
            pts, dts, duration, length, key, count = _HEAD.unpack(take(_HEAD.size))
            data = take(length)
            beside = []
            for _ in range(count):
                number, length = _BESIDE.unpack(take(_BESIDE.size))
                beside.append((number, take(length)))
            yield Encoded(data, pts, dts, duration, key, tuple(beside))


@contextmanager
def parts_of(target: Path, identity: Any | None) -> Iterator[Parts]:
    """Yield the parts of a file that is to be written, in a hidden folder beside it.

    The folder is removed when the block ends well. Otherwise it stays, and a call with the same
    ``identity`` (and code, and packages) finds its parts again; without one, nothing stays.

    Raises
    ------
    MidframeError
        if nothing can be written there, or another process is writing it.
    """
    target = target.absolute()
    require_writable(target.parent)
    with full_disk_told(target.parent), _folder(target, identity) as folder:
        yield Parts(folder)


@contextmanager
def _folder(target: Path, identity: Any | None) -> Iterator[Path]:
    if identity is None:
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.parts-", dir=target.parent
        ) as name:
            yield Path(name)
        return
    code = code_digest(Path(model.__file__).parent)
    name = digest([identity, code, code_digest(), package_versions()])[:16]
    folder = target.with_name(f".{target.name}.progress-{name}")
    with locked(target.with_name(f".{target.name}.lock"), target):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except BaseException:
            if not Parts(folder).whole():
                shutil.rmtree(folder)
            raise
        for stale in target.parent.glob(f".{glob.escape(target.name)}.progress-*"):
            shutil.rmtree(stale)


def source_identity(path: Path) -> Any:
    """What tells a video, or a folder of images, from others, without reading all of it."""
    if path.is_dir():
        return [[file.name, *source_identity(file)] for file in sorted(path.iterdir())]
    status = path.stat()
    with path.open("rb") as file:
        begin = file.read(SAMPLED)
        file.seek(max(status.st_size - SAMPLED, 0))
        return [status.st_size, status.st_mtime_ns, digest([begin.hex(), file.read().hex()])]
