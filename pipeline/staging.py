"""Commands whose arguments are ``s3://`` URLs, by way of files on this machine.

What a URL given as input holds is mirrored first (`pipeline.mirrors`). A directory to write is
built on this machine, as any other, and published (`pipeline.publication`) when it is finished. A
command therefore only ever sees paths.
"""

import contextlib
import json
import os
import secrets
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.disk_space import require_writable
from pipeline.errors import MidframeError
from pipeline.locations import Url
from pipeline.mirrors import folder_for_objects, mirror
from pipeline.objects import Objects
from pipeline.progress import notice
from pipeline.provenance import (
    digest,
    input_digest,
    package_versions,
    partial_path,
    remove_abandoned,
)
from pipeline.publication import check_replaceable, publish_objects
from pipeline.resume import code_digest, locked

BUILT, LOCK = "built.json", "lock"
Command = Callable[[Namespace], None]


@dataclass(frozen=True)
class _Built:
    """A directory that was built and may have been uploaded in part.

    Attributes
    ----------
    identity : of the command, its settings and its inputs.
    nonce : see `publish_objects`.
    """

    identity: str
    nonce: str


def run_staged(command: Command, arguments: Namespace) -> None:
    """Run a command, with a path on this machine for every URL among its arguments.

    Raises
    ------
    MidframeError
        as the command does, with URLs in place of these paths; also if a store cannot be read or
        written.
    """
    if _starts_others(arguments):
        command(arguments)
        return
    places: dict[Path, Url] = {}
    without = frozenset(getattr(arguments, "without", ()))
    out = getattr(arguments, "out", None)

    def place(value: Any, folder: Path | None) -> Any:
        if isinstance(value, list):
            return [place(one, folder) for one in value]
        if not isinstance(value, Url) or value is out:
            return value
        path = mirror(value, folder, without)
        places[path] = value
        return path

    with _named(places), _folder(getattr(arguments, "fresh", False)) as folder:
        objects = None
        if isinstance(out, Url):
            # What is wrong with it is said before the work.
            objects = Objects(out)
            check_replaceable(objects)
        given = {name: place(value, folder) for name, value in vars(arguments).items()}
        if objects is None:
            command(Namespace(**given))
        else:
            _build(command, Namespace(**given), objects, places)


@contextlib.contextmanager
def _folder(fresh: bool) -> Iterator[Path | None]:
    """Where mirrors go; if ``fresh``, a folder of this process, which holds none and is removed."""
    if not fresh:
        yield None
        return
    remove_abandoned(folder_for_objects() / "fresh")
    folder = partial_path(folder_for_objects() / "fresh")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _starts_others(arguments: Namespace) -> bool:
    """Whether the command does nothing but start itself in several processes."""
    return getattr(arguments, "processes", 1) > 1 and "LOCAL_RANK" not in os.environ


@contextlib.contextmanager
def _named(places: dict[Path, Url]) -> Iterator[None]:
    """Name URLs in errors, in place of the paths that stand for them."""
    try:
        yield
    except MidframeError as error:
        text = str(error)
        for path, url in places.items():
            text = text.replace(str(path), str(url))
        raise MidframeError(text) from None


def _build(
    command: Command, arguments: Namespace, objects: Objects, places: dict[Path, Url]
) -> None:
    """Build the output on this machine, if it is not there from an earlier run, and publish it."""
    url = objects.url
    home = folder_for_objects() / "out" / digest(str(url))[:16]
    require_writable(home)
    arguments.out = out = home / url.name
    places[out] = url
    if os.environ.get("RANK", "0") != "0":
        command(arguments)  # the first of the processes publishes
        return
    with locked(home / LOCK, out):
        identity = _identity(command, arguments)
        built = _read_built(home / BUILT)
        if built is None or built.identity != identity or not out.is_dir():
            (home / BUILT).unlink(missing_ok=True)
            if out.exists():
                shutil.rmtree(out)
            command(arguments)
            built = _Built(identity, secrets.token_hex(4))
            (home / BUILT).write_text(json.dumps(asdict(built)), encoding="utf-8")
        else:
            notice(f"{url}: was built by an earlier run, which did not upload all of it")
        publish_objects(out, objects, built.nonce)
        notice(f"{url}: published")
        # Also what commands leave beside their output: archives, unfinished work of other settings.
        for left in home.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != LOCK:
                left.unlink()
    with contextlib.suppress(OSError):
        home.rmdir()  # unless another run has begun


def _read_built(file: Path) -> _Built | None:
    try:
        return _Built(**json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # a run was killed before it had finished


def _identity(command: Command, arguments: Namespace) -> str:
    """Digest of all that the output depends on."""
    module = sys.modules[command.__module__].__file__
    assert module is not None
    package = Path(module).parents[len(command.__module__.split(".")) - 2]
    named = {
        name: _identified(value)
        for name, value in vars(arguments).items()
        if name not in ("out", "command") and value is not None
    }
    return digest(
        [
            f"{command.__module__}.{command.__qualname__}",
            named,
            code_digest(),
            code_digest(package),
            package_versions(),
        ]
    )


def _identified(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_identified(one) for one in value]
    if isinstance(value, Path):
        return [str(value), input_digest(value) if value.exists() else None]
    if isinstance(value, str) and os.path.exists(value):
        return [value, input_digest(Path(value))]
    return value  # a JSON value, as all that commands are given
