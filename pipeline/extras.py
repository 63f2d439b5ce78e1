"""What only some commands need, and how to get it: the extras of pyproject.toml."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util

from pipeline.errors import MidframeError

EXTRAS = {
    "train": ("accelerate", "tensorboard"),
    "cluster": ("dask", "distributed"),
    "browse": ("starlette", "uvicorn"),
    "s3": ("obstore",),
    "workflow": ("snakemake", "skvideo", "yt_dlp"),
}
"""The packages of each extra, as they are imported."""


def missing(extra: str) -> list[str]:
    """Packages of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if util.find_spec(name) is None]


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """A ``with`` block of imports that need an extra.

    Parameters
    ----------
    what : what the user asked for, as the error names it.

    Raises
    ------
    MidframeError
        if one of its packages is not installed, with the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS[extra]:
            raise
        raise MidframeError(
            f"{what}: needs {package}, which is not installed: pip install 'midframe[{extra}]'"
        ) from None
