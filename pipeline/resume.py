"""Publishing what takes long: a run resumes after it was killed or ran out of disk."""

import contextlib
import glob
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.disk_space import full_disk_told, require_writable
from pipeline.errors import MidframeError
from pipeline.provenance import check_replaceable, digest, file_digest, package_versions, replace


def code_digest(folder: Path = Path(__file__).parent) -> str:
    """Digest of a package's source files, those of its rooms too; default: this one's."""
    files = sorted(folder.rglob("*.py"))
    return digest({file.relative_to(folder).as_posix(): file_digest(file) for file in files})


@contextlib.contextmanager
def publish_resumable(directory: Path, identity: Any) -> Iterator[Path]:
    """Yield a folder beside ``directory`` that takes its name when the block ends well.

    Otherwise it stays, and the next call with the same ``identity`` (and code, and packages)
    yields it with what it holds; files named ``*.partial``, which a killed process may have left
    half-written, are removed first. What other identities have left is removed at the end.

    Parameters
    ----------
    identity : whatever the result depends on: settings, digests of the inputs; JSON values.

    Raises
    ------
    MidframeError
        if the parent cannot be written or is full, ``directory`` holds something else, or another
        process is writing it.
    """
    directory = directory.absolute()
    check_replaceable(directory)
    name = digest([identity, code_digest(), package_versions()])[:16]
    folder = directory.with_name(f".{directory.name}.progress-{name}")
    require_writable(directory.parent)
    with (
        full_disk_told(directory.parent),
        locked(directory.with_name(f".{directory.name}.lock"), directory),
    ):
        folder.mkdir(exist_ok=True)
        _remove_half_written(folder)
        try:
            yield folder
        except BaseException:
            with contextlib.suppress(OSError):
                folder.rmdir()  # nothing was written
            raise
        _remove_half_written(folder)
        replace(folder, directory)
        _remove_stale(directory)


@contextlib.contextmanager
def locked(lock: Path, directory: Path) -> Iterator[None]:
    """Hold a lock file, which a killed process loses; it is removed at the end."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise MidframeError(
            f"{directory}: another process is writing it; wait for it, or stop it"
        ) from None
    try:
        yield
    finally:
        # While it is held: a waiting process notices that it is gone, and makes another. Windows
        # removes an open file only after its release.
        with contextlib.suppress(PermissionError):
            lock.unlink(missing_ok=True)
        held.release()


def _remove_half_written(folder: Path) -> None:
    for file in list(folder.rglob("*.partial")):
        file.unlink(missing_ok=True)


def _remove_stale(directory: Path) -> None:
    for kind in ("progress", "old"):
        pattern = glob.escape(f".{directory.name}.{kind}-") + "*"
        for stale in directory.parent.glob(pattern):
            shutil.rmtree(stale)
