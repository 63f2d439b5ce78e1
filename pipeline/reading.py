"""Files that others made, or that a disk or a copy has damaged: an error in one line."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import MidframeError

LONGEST_REASON = 300  # characters; libraries like to quote what they were given


@contextlib.contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Name the file if what is read from it in this block is not what it ought to be.

    Libraries raise anything on damaged data: a key that is missing, a type, an index, a recursion
    too deep, too much memory. So the block must do nothing but parse.

    Parameters
    ----------
    path : the file.
    remedy : what to do if it is damaged.

    Raises
    ------
    MidframeError
        instead of every other error.
    """
    reason = ""
    try:
        yield
    except MidframeError:
        raise
    except FileNotFoundError as error:
        if error.filename is not None and Path(error.filename) != path:
            reason = f"{error.filename} is missing"
        else:
            reason = "missing"
    except Exception as error:
        reason = f"damaged ({explain(error)})"
    # Raised out here: a library's exception, kept as context, may not survive the way from a
    # worker to this process.
    if reason:
        raise MidframeError(f"{path}: {reason}; {remedy}")


def explain(error: Exception) -> str:
    """What an error says, in one line of bounded length, with its type where it says little."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    if isinstance(error, KeyError):
        text = f"lacks {text}"
    if isinstance(error, (TypeError, AttributeError, IndexError, MemoryError)) or not text:
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} ..."
