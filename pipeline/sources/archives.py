"""Unpack archives that strangers made.

Nothing is written before the whole list of entries is checked, nothing outside the target folder,
and nothing under the target's name before everything is there.
"""

import contextlib
import functools
import gzip
import io
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pipeline.disk_space import require_free, write_error
from pipeline.errors import MidframeError
from pipeline.progress import progress
from pipeline.provenance import publish

MEBIBYTE = 1 << 20
BLOCK = 4096  # bytes; what a file takes on a disk is a multiple of it
LARGEST_RATIO = 100  # of unpacked to packed bytes; pictures and videos stay near 1
ALWAYS_ALLOWED = 64 * MEBIBYTE  # unpacked bytes that are harmless at any ratio
MOST_ENTRIES = 1_000_000
LONGEST_NAME = 1024  # characters of a path in the archive
LARGEST_READ = MEBIBYTE  # bytes; also what a tar header may have, which is read at once

# What zipfile and tarfile raise on damaged data; headers nested deep are a RecursionError.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    IndexError,
    NotImplementedError,
    RecursionError,
    MemoryError,  # of a dictionary of LZMA that is as large as its head says
)


@dataclass(frozen=True)
class _Entry:
    """A file or folder in an archive; ``open`` is None for a folder."""

    name: str
    size: int
    open: Callable[[], IO[bytes]] | None


class _BoundedReads(io.BufferedReader):
    """A stream that refuses to read much at once, as tarfile does with a header that says so."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LARGEST_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def unpack(archive: Path, directory: Path, *, expected_bytes: int | None = None) -> None:
    """Unpack a zip, tar or tar.gz file to ``directory``, which appears when it is complete.

    Empty folders are skipped; permissions and times are those of new files.

    Parameters
    ----------
    archive : the file; its content shows its kind.
    directory : a new or empty folder, or one that this program has published, which is replaced.
    expected_bytes : the most that the archive may unpack to; without it, 100 times its own size,
        or 64 MiB if that is more.

    Raises
    ------
    MidframeError
        if the archive is damaged, cut off or encrypted; if it holds an absolute path, a path out
        of the folder, a link, a device, a name twice or too many bytes or entries; if the disk
        is full. ``directory`` is then as it was.
    """
    with contextlib.ExitStack() as stack:
        with _damage_explained(archive):
            limit = expected_bytes
            if limit is None:
                limit = max(LARGEST_RATIO * archive.stat().st_size, ALWAYS_ALLOWED)
            entries = _checked(archive, stack.enter_context(_opened(archive)), limit)
        with publish(directory) as partial:
            needed = sum(-(-entry.size // BLOCK) * BLOCK for entry in entries.values())
            require_free(partial.parent, needed)
            for path, entry in progress(
                entries.items(), len(entries), f"unpack {archive.name}", "files"
            ):
                with _damage_explained(archive):
                    _write(entry, partial / path, directory, needed)


@contextlib.contextmanager
def _damage_explained(archive: Path) -> Iterator[None]:
    """Report errors of reading a damaged archive in one line."""
    try:
        yield
    except DAMAGE as error:
        raise MidframeError(
            f"{archive}: damaged or cut off ({error or type(error).__name__}); "
            "delete it and fetch it again"
        ) from None
    except OSError as error:
        raise MidframeError(f"{archive}: cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Entry]]:
    """Open ``archive`` and give its entries, whose content can be read while it is open."""
    with open(archive, "rb") as file:
        start = file.read(512)
        file.seek(0)
        if start.startswith(b"PK"):
            with zipfile.ZipFile(file) as content:
                yield _list_zip(archive, content)
        elif start.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as unzipped:
                yield _list_tar(archive, _BoundedReads(unzipped))
        elif start[257:262] == b"ustar":
            yield _list_tar(archive, _BoundedReads(file))
        else:
            raise MidframeError(f"{archive}: neither a zip nor a tar or tar.gz archive")


def _list_zip(archive: Path, file: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in file.infolist():
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(archive, info.filename, "is a link or a device")
        if info.flag_bits & 1:
            raise _unsafe(archive, info.filename, "is encrypted")
        content = None if info.is_dir() else functools.partial(file.open, info)
        yield _Entry(info.filename, info.file_size, content)


def _list_tar(archive: Path, stream: _BoundedReads) -> Iterator[_Entry]:
    file = tarfile.TarFile(fileobj=stream)
    for info in file:
        if not (info.isfile() or info.isdir()) or info.issparse():
            raise _unsafe(archive, info.name, "is a link or a device")
        if info.size < 0:
            raise tarfile.ReadError("a negative size")
        content = None if info.isdir() else functools.partial(tarfile.ExFileObject, file, info)
        yield _Entry(info.name, info.size, content)
    _require_end(stream, file.offset)


def _require_end(stream: _BoundedReads, offset: int) -> None:
    """Raise unless a tar archive ends at ``offset``: tarfile takes any garbage for the end.

    Reading on to the end of the stream makes gzip compare its checksum.
    """
    stream.seek(offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no mark of its end")
    if len(stream.read(LARGEST_READ)) == LARGEST_READ:
        raise tarfile.ReadError("data after its end")


def _checked(archive: Path, entries: Iterable[_Entry], limit: int) -> dict[PurePosixPath, _Entry]:
    """Return the files by path, and the folders, of an archive in which nothing is unsafe."""
    checked: dict[PurePosixPath, _Entry] = {}
    folders = {PurePosixPath()}
    total = 0
    for count, entry in enumerate(entries, start=1):
        total += entry.size
        if total > limit or count > MOST_ENTRIES:
            raise MidframeError(
                f"{archive}: unpacks to more than {limit:,} bytes or {MOST_ENTRIES:,} entries, "
                "so it is not the expected archive; nothing was unpacked"
            )
        if len(entry.name) > LONGEST_NAME:
            raise _unsafe(archive, entry.name[:80], f"has {len(entry.name):,} characters")
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.name:
            raise _unsafe(archive, entry.name, "leads out of the folder")
        folders.update(path.parents)
        if entry.open is None:
            folders.add(path)
        elif path in checked:
            raise _unsafe(archive, entry.name, "is there twice")
        else:
            checked[path] = entry
    for path in checked.keys() & folders:
        raise _unsafe(archive, str(path), "is both a file and a folder")
    return checked


def _unsafe(archive: Path, name: str, why: str) -> MidframeError:
    return MidframeError(f"{archive}: refused: entry {name!r} {why}; nothing was unpacked")


def _write(entry: _Entry, target: Path, directory: Path, needed: int) -> None:
    """Unpack one file to ``target``, with the permissions of a new file."""
    assert entry.open is not None
    with entry.open() as source:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as file:
                shutil.copyfileobj(source, file, LARGEST_READ)
        except gzip.BadGzipFile:  # an OSError, but one of reading
            raise
        except OSError as error:
            raise write_error(directory.parent, error, needed) from None
