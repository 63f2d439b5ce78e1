"""What lies under an ``s3://`` URL, as files on this machine, for code that reads files.

A mirror is a folder of the same name: the files of a published directory, of any other prefix, or a
single object. Pixels of a patch store stay where they are; `pipeline.store.patch_store` reads them
sample by sample. Mirrors are kept, so that the next command finds them; another generation takes
the place of the one before.
"""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.caches import user_cache
from pipeline.disk_space import require_free, require_writable
from pipeline.errors import MidframeError
from pipeline.locations import Url
from pipeline.objects import Objects, all_at_once
from pipeline.progress import notice
from pipeline.provenance import digest, file_digest
from pipeline.publication import GENERATION, Publication, find_publication

FOLDER = "MIDFRAME_OBJECTS"
ORIGIN = "midframe-origin.json"
# Files that are read in part, where they are.
READ_IN_PLACE = re.compile(r"patches\.zarr/triplet/c/.*")


@dataclass(frozen=True)
class Origin:
    """Where a mirror comes from: the URL, and below it the folder of its generation, if any."""

    bucket: str
    key: str
    generation: str

    @property
    def url(self) -> Url:
        """What the user named."""
        return Url(self.bucket, self.key)

    @property
    def files(self) -> Url:
        """Where the files lie."""
        return self.url.below(self.generation) if self.generation else self.url


@dataclass(frozen=True)
class _Version:
    """What a URL holds at a time: files by name with size and, if published, SHA-256.

    The name of a single object is empty.
    """

    name: str  # tells it from what was or will be there
    origin: Origin
    files: dict[str, tuple[int, str | None]]

    def path(self, place: Path, name: str) -> Path:
        """Where a file lies in the mirror at ``place``."""
        return place / name if name else place


def folder_for_objects() -> Path:
    """The folder of mirrors and of what waits to be uploaded: ``$MIDFRAME_OBJECTS``, if set."""
    given = os.environ.get(FOLDER)
    return Path(given).absolute() if given else user_cache() / "objects"


def origin_of(path: Path) -> Origin | None:
    """Where a mirror comes from; ``None`` if the directory is no mirror."""
    try:
        text = (path.absolute().parent / ORIGIN).read_text(encoding="utf-8")
    except OSError:
        return None
    return Origin(**json.loads(text))


def shown(path: Path) -> str:
    """A path as the user knows it: the URL of a mirror."""
    origin = origin_of(path)
    return str(origin.url if origin else path)


def pull_beside(path: Path, mirrored: Path) -> None:
    """Bring a file beside a mirror to what lies beside its URL in the store; other paths stay."""
    if origin := origin_of(mirrored):
        content = _beside(origin, path).read("")
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)


def push_beside(path: Path, mirrored: Path) -> None:
    """Put a file beside a mirror beside its URL in the store; other paths stay."""
    if origin := origin_of(mirrored):
        _beside(origin, path).write("", path.read_bytes())


def _beside(origin: Origin, path: Path) -> Objects:
    above = origin.key.rpartition("/")[0]
    return Objects(Url(origin.bucket, f"{above}/{path.name}" if above else path.name))


def mirror(url: Url, folder: Path | None = None, without: frozenset[str] = frozenset()) -> Path:
    """The mirror of a URL, with what is missing in it downloaded.

    Parameters
    ----------
    folder : of mirrors; default: that of `folder_for_objects`, where they are kept.
    without : names of files that are not needed.

    Returns
    -------
    The directory, or the file if the URL names a single object.

    Raises
    ------
    MidframeError
        if there is nothing, it is damaged, or the disk is full.
    """
    objects = Objects(url)
    publication = find_publication(objects)
    version = _unpublished(objects) if publication is None else _published(url, publication)
    folder = folder or folder_for_objects() / "in"
    home = folder / digest(str(url))[:16]
    require_writable(home)
    place = home / version.name / url.name
    with FileLock(home / "lock"):
        _fill(objects, version, place, without)
        (place.parent / ORIGIN).write_text(json.dumps(asdict(version.origin)), encoding="utf-8")
        for other in home.iterdir():
            if other.is_dir() and other.name != version.name:
                shutil.rmtree(other)
    return place


def _published(url: Url, publication: Publication) -> _Version:
    files: dict[str, tuple[int, str | None]] = {
        name: (entry.bytes, entry.sha256)
        for name, entry in publication.files.items()
        if not READ_IN_PLACE.fullmatch(name)
    }
    origin = Origin(url.bucket, url.key, publication.generation)
    return _Version(publication.generation, origin, files)


def _unpublished(objects: Objects) -> _Version:
    """An object of the very name, or all below the prefix."""
    url = objects.url
    alone = objects.find()
    found = objects.names() if alone is None else {"": alone}
    if not found:
        raise MidframeError(f"{url}: there is nothing here")
    if any(GENERATION.fullmatch(name.partition("/")[0]) for name in found):
        raise MidframeError(
            f"{url}: is not published yet; is it being written? If the command that wrote it was "
            "stopped, run it again"
        )
    for name in found:
        if {".", ".."} & set(name.split("/")) or "\\" in name:
            raise MidframeError(f"{url.below(name)}: is no name of a file on this machine")
    name = digest({name: [one.size, one.etag] for name, one in found.items()})[:16]
    files: dict[str, tuple[int, str | None]] = {
        name: (one.size, None) for name, one in found.items()
    }
    return _Version(name, Origin(url.bucket, url.key, ""), files)


def _fill(objects: Objects, version: _Version, place: Path, without: frozenset[str]) -> None:
    """Download the files that are not there yet; each appears when it is whole."""
    missing = [
        name
        for name, (size, _) in version.files.items()
        if name not in without and not _is_whole(version.path(place, name), size)
    ]
    needed = sum(version.files[name][0] for name in missing)
    require_free(place.parents[1], needed)
    for folder in {version.path(place, name).parent for name in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    if missing:
        notice(f"{objects.url}: {len(missing)} files to download, {needed / 1e6:,.1f} MB")

    def download(name: str) -> None:
        path = version.path(place, name)
        partial = path.with_name(f"{path.name}.partial")
        size, sha256 = version.files[name]
        source = "/".join(part for part in (version.origin.generation, name) if part)
        objects.download(source, partial)
        if partial.stat().st_size != size or sha256 not in (None, file_digest(partial)):
            partial.unlink()
            raise MidframeError(
                f"{objects.url}/{source}: damaged (another size or SHA-256 than published)"
            )
        os.replace(partial, path)

    all_at_once(download, missing, "download", lambda name: version.files[name][0])


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
