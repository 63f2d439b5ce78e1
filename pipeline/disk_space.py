"""Errors about a disk that is full or cannot be written, as the user sees them."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import MidframeError

# The disk, or the user's share of it.
FULL = (errno.ENOSPC, errno.EDQUOT)


def require_writable(folder: Path) -> None:
    """Create ``folder`` if it is missing; raise `MidframeError` if nothing can be put there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise write_error(folder, error) from None


def require_free(folder: Path, needed: int) -> None:
    """Raise `MidframeError` unless ``needed`` more bytes fit on the disk that holds ``folder``."""
    if needed > shutil.disk_usage(folder).free:
        raise write_error(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), needed)


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Turn a full disk, met while the block writes in ``folder``, into a `MidframeError`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise write_error(folder, error) from None
        raise


def write_error(folder: Path, error: OSError, needed: int | None = None) -> MidframeError:
    """Say in one line why ``needed`` bytes (None: not known) cannot be written in ``folder``."""
    if error.errno not in FULL:
        return MidframeError(
            f"{folder}: cannot write here ({error.strerror}); choose another folder"
        )
    wanted = "more" if needed is None else f"{needed / 1e6:,.1f} MB"
    free = shutil.disk_usage(folder).free / 1e6
    return MidframeError(
        f"{folder}: not enough space: {wanted} needed, {free:,.1f} MB free; free some, "
        "or choose another folder"
    )
