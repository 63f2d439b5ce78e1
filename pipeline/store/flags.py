"""Marks that people set on windows: bad or interesting, with a note.

They are in a JSON file beside a store, never in it: a store is what its settings make of its
inputs. `sample` and `export` can skip what is marked bad.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import MidframeError

KIND = "flags"
FORMAT_VERSION = 1

Mark = Literal["bad", "interesting"]


class Window(NamedTuple):
    """A place in a triplet: what a flag belongs to, whatever the order of the samples."""

    sequence: str
    first_frame: int
    top: int
    left: int


class Flag(NamedTuple):
    """A person's mark on a window."""

    mark: Mark
    note: str = ""


def flags_file(store: Path) -> Path:
    """Where the flags of a patch directory lie: ``NAME.flags.json`` beside it."""
    store = store.absolute()
    return store.with_name(f"{store.name}.flags.json")


class _Entry(NamedTuple):
    sequence: str
    first_frame: int
    top: int
    left: int
    mark: Mark
    note: str


_ENTRIES = TypeAdapter(list[_Entry])


def read_flags(path: Path) -> dict[Window, Flag]:
    """The flags of a file.

    Raises
    ------
    MidframeError
        if it is missing, or not a file that `write_flags` has written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["kind"], content["format_version"]) != (KIND, FORMAT_VERSION):
            raise MidframeError(
                f"{path}: {content['kind']} format version {content['format_version']}, but this "
                f"program reads {KIND} of version {FORMAT_VERSION}"
            )
        entries = _ENTRIES.validate_python(content["flags"])
    except OSError as error:
        raise MidframeError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise MidframeError(f"{path}: flags.{place}: {problem['msg']}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MidframeError(f"{path}: not a file of flags ({error})") from None
    return {Window(*entry[:4]): Flag(entry.mark, entry.note) for entry in entries}


def write_flags(path: Path, flags: dict[Window, Flag]) -> None:
    """Write a file of flags, sorted by window; it is replaced as a whole.

    Raises
    ------
    OSError
        if it cannot be written.
    """
    entries = [_Entry(*window, *flag)._asdict() for window, flag in sorted(flags.items())]
    content = {"kind": KIND, "format_version": FORMAT_VERSION, "flags": entries}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_excluded(paths: Iterable[Path]) -> frozenset[Window]:
    """The windows that are marked bad in any of several files."""
    return frozenset(
        window for path in paths for window, flag in read_flags(path).items() if flag.mark == "bad"
    )
