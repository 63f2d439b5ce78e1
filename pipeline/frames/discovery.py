"""Which sequences a folder holds: videos, and folders of images."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath

from pipeline.errors import MidframeError
from pipeline.frames.decoding import IMAGE_SUFFIXES, VIDEO_SUFFIXES


def find_sequences(path: Path) -> list[tuple[str, str]]:
    """Names of the sequences in a folder and the folders below it, sorted, and their paths in it.

    A sequence is a video file, or a folder that holds images. Its name is the path inside the
    folder without suffix, or with it if two would have one name; bytes of a name that are not
    UTF-8 are written as ``%E9``. Linked folders are followed, hidden ones skipped. The path of
    ``path`` itself is ``.``.

    Raises
    ------
    MidframeError
        if the folder is missing or holds no sequence.
    """
    if path.is_file():
        return [(as_text(path.stem), ".")]
    if not path.is_dir():
        raise MidframeError(f"{path}: no such folder; give a folder of videos or of image folders")
    videos: list[str] = []
    found: dict[str, str] = {}
    for file in _files_below(path):
        inside = file.relative_to(path)
        if file.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(inside.as_posix())
        elif file.suffix.lower() in IMAGE_SUFFIXES:
            folder = inside.parent.as_posix()
            found[as_text(folder if folder != "." else path.resolve().name)] = folder
    shared = Counter([*found, *map(_name, videos)])
    for video in videos:
        name = _name(video)
        found[name + PurePath(video).suffix if shared[name] > 1 else name] = video
    if not found:
        raise MidframeError(
            f"{path}: holds neither videos ({_list(VIDEO_SUFFIXES)}) nor folders of images "
            f"({_list(IMAGE_SUFFIXES)})"
        )
    return sorted(found.items())


def passed_over(path: Path) -> Counter[str]:
    """How many files in a folder, by suffix, are neither videos nor images."""
    if not path.is_dir():
        return Counter()
    suffixes = (file.suffix.lower() or file.name for file in _files_below(path))
    return Counter(one for one in suffixes if one not in VIDEO_SUFFIXES | IMAGE_SUFFIXES)


def _files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files below a folder; links are followed, but not back to a folder that holds them."""
    inside = folder.resolve()
    if inside in above:
        return
    with os.scandir(folder) as entries:
        found = sorted((one for one in entries if one.name[0] != "."), key=lambda one: one.name)
    for entry in found:
        if entry.is_dir():
            yield from _files_below(folder / entry.name, above | {inside})
        else:
            yield folder / entry.name


def _name(video: str) -> str:
    return as_text(PurePath(video).with_suffix("").as_posix())


def as_text(name: str) -> str:
    """A name of a file as text that every format can hold."""
    return "".join(
        f"%{ord(letter) - 0xDC00:02X}" if 0xDC80 <= ord(letter) <= 0xDCFF else letter
        for letter in name
    )


def _list(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffixes))
