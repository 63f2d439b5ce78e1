"""Manifests, digests and atomic publishing: why a directory with the right name can be trusted.

Every stage writes its data under a temporary name in the same folder, adds a ``manifest.json``, and
renames the directory when it is complete. A manifest holds no time and no absolute path, so the
same inputs and settings give the same bytes.
"""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from pipeline.disk_space import full_disk_told
from pipeline.errors import MidframeError

MANIFEST = "manifest.json"

# The libraries that can change a result; the rest of the environment is in requirements.lock.
TRACKED_PACKAGES = ("numpy", "opencv-contrib-python-headless", "av", "zarr", "numba", "torch")


def canonical_json(value: Any) -> str:
    """JSON text that depends on the content of ``value`` only (sorted keys, no spaces)."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of :func:`canonical_json` of ``value``."""
    return hashlib.sha256(_encoded(canonical_json(value))).hexdigest()


def _encoded(text: str) -> bytes:
    """JSON text as UTF-8; what a name of a file holds beside that, as JSON's escapes."""
    return text.encode("utf-8", errors="backslashreplace")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a result."""
    versions = {}
    for name in TRACKED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            # A local label such as "+cpu" names a build of the same version.
            versions[name] = metadata.version(name).partition("+")[0]
    return versions


def write_manifest(
    directory: Path,
    kind: str,
    format_version: int,
    settings: BaseModel | Mapping[str, Any],
    inputs: Mapping[str, Path | str] | None = None,
    **content: Any,
) -> None:
    """Write ``directory/manifest.json``.

    Parameters
    ----------
    kind : what the directory is, for example ``"motion"`` or ``"patches"``.
    format_version : version of the layout of this kind; readers refuse others.
    settings : the settings of the stage.
    inputs : for each input a name and the directory (or file) whose manifest (or bytes) it is
        identified by; or its `input_digest`.
    content : counts and whatever else readers of this kind need; JSON values.
    """
    if isinstance(settings, BaseModel):
        settings = settings.model_dump(mode="json")
    manifest = {
        "kind": kind,
        "format_version": format_version,
        "settings": dict(settings),
        "settings_digest": digest(settings),
        "inputs": {
            name: given if isinstance(given, str) else input_digest(given)
            for name, given in (inputs or {}).items()
        },
        "packages": package_versions(),
        **content,
    }
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (directory / MANIFEST).write_bytes(_encoded(text))


def input_digest(path: Path) -> str:
    """Digest that identifies an input.

    That of the manifest of a published directory; of a file's bytes; or, for any other folder, of
    the names and bytes of all files in it.
    """
    if path.is_file():
        return file_digest(path)
    if (path / MANIFEST).is_file():
        return file_digest(path / MANIFEST)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return digest([[file.relative_to(path).as_posix(), file_digest(file)] for file in files])


def read_manifest(directory: Path, kind: str, format_version: int) -> dict[str, Any]:
    """Read the manifest of a published directory.

    Raises
    ------
    MidframeError
        if there is no such directory, it is unfinished, of another kind or of another version.
    """
    manifest = _load_manifest(directory, [kind])
    if manifest["format_version"] != format_version:
        raise MidframeError(
            f"{directory}: {kind} format version {manifest['format_version']}, but this program "
            f"reads version {format_version}; build the directory again"
        )
    return manifest


def manifest_kind(directory: Path, kinds: Sequence[str]) -> str:
    """Which of several kinds of directory this is.

    Raises
    ------
    MidframeError
        if there is no such directory, it is unfinished or of another kind.
    """
    return str(_load_manifest(directory, kinds)["kind"])


def _load_manifest(directory: Path, kinds: Sequence[str]) -> dict[str, Any]:
    path, expected = directory / MANIFEST, " or ".join(kinds)
    if not directory.is_dir():
        raise MidframeError(f"{directory}: no such directory; a {expected} directory is expected")
    if not path.is_file():
        raise MidframeError(
            f"{directory}: no {MANIFEST}, so this is no finished {expected} directory; "
            "is it still being written, or the wrong folder?"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found, _ = manifest["kind"], manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MidframeError(f"{path}: not a manifest of this program ({error})") from None
    if found not in kinds:
        raise MidframeError(f"{directory}: this is a {found} directory, not a {expected} directory")
    return manifest


@contextlib.contextmanager
def publish(directory: Path) -> Iterator[Path]:
    """Yield a new folder beside ``directory`` that takes its name when the block ends well.

    A block that fails leaves nothing behind, and ``directory`` as it was. An existing directory is
    replaced; one without a manifest (so not ours) is refused unless it is empty.

    Raises
    ------
    MidframeError
        if the parent cannot be written, or ``directory`` holds something else.
    """
    directory = directory.absolute()
    check_replaceable(directory)
    partial = partial_path(directory)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(directory)
        partial.mkdir()
    except OSError as error:
        raise MidframeError(
            f"{directory}: cannot write here ({error.strerror}); choose another output folder"
        ) from None
    try:
        with full_disk_told(directory.parent):
            yield partial
            replace(partial, directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def partial_path(target: Path) -> Path:
    """Where this process writes a file or directory until it is whole: beside ``target``."""
    name = f".{target.stem}.partial-{socket.gethostname()}-{os.getpid()}{target.suffix}"
    return target.with_name(name)


def remove_abandoned(target: Path) -> None:
    """Remove what killed runs on this machine have left beside ``target``."""
    prefix = f".{target.stem}.partial-{socket.gethostname()}-"
    for left in target.parent.glob(f"{glob.escape(prefix)}*{glob.escape(target.suffix)}"):
        process = left.name.removeprefix(prefix).removesuffix(target.suffix)
        if process.isdigit() and not psutil.pid_exists(int(process)):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def check_replaceable(directory: Path) -> None:
    """Raise `MidframeError` if ``directory`` exists and is not one that a stage has written."""
    if directory.is_dir():
        if any(directory.iterdir()) and not (directory / MANIFEST).is_file():
            raise MidframeError(
                f"{directory}: holds files that this program did not write; "
                "choose another output folder"
            )
    elif directory.exists():
        raise MidframeError(f"{directory}: is a file; an output folder is needed")


def replace(partial: Path, directory: Path) -> None:
    """Rename ``partial`` to ``directory``, setting aside and removing what is there."""
    old = directory.with_name(f".{directory.name}.old-{os.getpid()}")
    while True:
        with contextlib.suppress(FileNotFoundError):
            os.rename(directory, old)
        try:
            os.rename(partial, directory)
            break
        except OSError as error:
            # Another process was faster; what it wrote is set aside, too.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(old, directory)
                raise
            shutil.rmtree(old, ignore_errors=True)
    if old.exists():
        shutil.rmtree(old)
