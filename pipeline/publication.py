"""Directories published as objects, without a rename: files first, then the one that names them.

Below ``s3://bucket/prefix`` the files of a directory lie in a folder of their own for each time it
was published, ``generation-…``. One object, ``published.json``, says which generation is the
directory, and lists its files with their sizes and SHA-256. It is written last and replaced as a
whole, so a reader sees the old directory or the new one, and only files that are listed.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import MidframeError
from pipeline.objects import Found, Objects, all_at_once
from pipeline.progress import notice
from pipeline.provenance import digest, file_digest

FORMAT_VERSION = 1
PUBLISHED = "published.json"
GENERATION = re.compile(r"generation-[0-9a-f]{16}-[0-9a-f]{8}")
# Files of a generation that nothing names are removed when the newest of them is older than this:
# until then somebody may still be writing them.
ABANDONED = timedelta(days=1)


@dataclass(frozen=True)
class Entry:
    """A published file: its size and its SHA-256 (64 hexadecimal digits)."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Publication:
    """What a URL holds: the folder of the newest generation, and its files by name."""

    format_version: int
    generation: str
    files: dict[str, Entry]


_PUBLICATION = TypeAdapter(Publication)


def find_publication(objects: Objects) -> Publication | None:
    """What is published below a URL; ``None`` if nothing is.

    Raises
    ------
    MidframeError
        if the store cannot be asked, or ``published.json`` is not one that this program reads.
    """
    text = objects.read(PUBLISHED)
    if text is None:
        return None
    place = objects.url.below(PUBLISHED)
    try:
        found = _PUBLICATION.validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        at = ".".join(map(str, problem["loc"]))
        raise MidframeError(
            f"{place}: not written by this program ({at}: {problem['msg']})"
        ) from None
    if found.format_version != FORMAT_VERSION:
        raise MidframeError(
            f"{place}: format version {found.format_version}, but this program reads version "
            f"{FORMAT_VERSION}"
        )
    if not GENERATION.fullmatch(found.generation):
        raise MidframeError(f"{place}: not written by this program (generation)")
    for name in found.files:
        if {"", ".", ".."} & set(name.split("/")) or "\\" in name:
            raise MidframeError(f"{place}: '{name}' is no name of a file in a directory")
    return found


def check_replaceable(objects: Objects) -> None:
    """Raise `MidframeError` if something lies below a URL that `publish_objects` did not write."""
    others = [
        name
        for name in objects.first_names()
        if name != PUBLISHED and not GENERATION.fullmatch(name)
    ]
    if others and find_publication(objects) is None:
        raise MidframeError(
            f"{objects.url}: holds objects that this program did not write, such as "
            f"'{min(others)}'; choose another prefix"
        )


def publish_objects(folder: Path, objects: Objects, nonce: str) -> None:
    """Publish a directory below a URL, in place of what is published there.

    What an earlier call with the same ``nonce`` has written of the same files is not written
    again. The generation that is replaced, and abandoned ones, are removed.

    Parameters
    ----------
    folder : the directory; links are followed, hidden files left out.
    nonce : 8 hexadecimal digits, which no other writer uses.

    Raises
    ------
    MidframeError
        if the store cannot be written; what is published there stays as it was.
    """
    paths = dict(_files_below(folder, ""))
    with ThreadPoolExecutor() as pool:
        sums = list(pool.map(file_digest, paths.values()))
    files = {
        name: Entry(path.stat().st_size, sha256)
        for (name, path), sha256 in zip(paths.items(), sums, strict=True)
    }
    before = find_publication(objects)
    if before is not None and before.files == files:
        notice(f"{objects.url}: is the same already")
        return
    generation = f"generation-{digest({n: e.sha256 for n, e in files.items()})[:16]}-{nonce}"
    written = objects.names(generation)
    missing = [name for name in files if not _whole(generation, name, files, written)]
    if len(missing) < len(files):
        notice(
            f"{objects.url}: {len(files) - len(missing)} of {len(files)} files are there already"
        )
    all_at_once(
        lambda name: objects.write(f"{generation}/{name}", paths[name]),
        missing,
        "upload",
        lambda name: files[name].bytes,
    )
    # Whatever is named is there: nobody has taken this for an abandoned generation meanwhile.
    written = objects.names(generation)
    lost = [name for name in files if not _whole(generation, name, files, written)]
    if lost:
        raise MidframeError(
            f"{objects.url.below(generation)}/{lost[0]}: has gone since it was written; run the "
            "same command again"
        )
    publication = Publication(FORMAT_VERSION, generation, files)
    objects.write(PUBLISHED, json.dumps(asdict(publication), indent=0, sort_keys=True).encode())
    _clean(objects, generation, before.generation if before else None)


def _whole(generation: str, name: str, files: dict[str, Entry], written: dict[str, Found]) -> bool:
    found = written.get(f"{generation}/{name}")
    return found is not None and found.size == files[name].bytes


def _clean(objects: Objects, current: str, replaced: str | None) -> None:
    """Remove the generation that was replaced, and those that nobody has finished."""
    generations: dict[str, list[str]] = defaultdict(list)
    everything = objects.names()
    for name in everything:
        first, _, rest = name.partition("/")
        if rest and first != current and GENERATION.fullmatch(first):
            generations[first].append(name)
    # Times of the store's clock only.
    now = everything[PUBLISHED].modified
    for generation, names in generations.items():
        newest = max(everything[name].modified for name in names)
        if generation == replaced or now - newest > ABANDONED:
            objects.remove(names)


def _files_below(
    folder: Path, prefix: str, above: frozenset[Path] = frozenset()
) -> Iterator[tuple[str, Path]]:
    """Names and paths of all files, sorted; a link back to a folder that holds it is an error."""
    inside = folder.resolve()
    if inside in above:
        raise MidframeError(f"{folder}: links to a folder above it, and cannot be published")
    with os.scandir(folder) as entries:
        found = sorted((one for one in entries if one.name[0] != "."), key=lambda one: one.name)
    for entry in found:
        path = folder / entry.name
        if entry.is_dir():
            yield from _files_below(path, f"{prefix}{entry.name}/", above | {inside})
            continue
        if not entry.name.isprintable() or "\\" in entry.name:
            raise MidframeError(
                f"{path!r}: objects cannot have this name; rename the file, and run again"
            )
        yield prefix + entry.name, path
