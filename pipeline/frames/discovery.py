"""Which sequences a folder holds: videos, and folders of images."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import MidframeError
from pipeline.frames.decoding import IMAGE_SUFFIXES, VIDEO_SUFFIXES


def find_sequences(path: Path) -> list[tuple[str, Path]]:
    """Names and paths of the sequences in a folder and the folders below it, sorted by name.

    A sequence is a video file, or a folder that holds images. Its name is the path inside the
    folder without suffix, or with it if two would have one name; bytes of a name that are not
    UTF-8 are written as ``%E9``. Linked folders are followed, hidden ones skipped.

    Raises
    ------
    MidframeError
        if the folder is missing or holds no sequence.
    """
    if path.is_file():
        return [(as_text(path.stem), path)]
    if not path.is_dir():
        raise MidframeError(f"{path}: no such folder; give a folder of videos or of image folders")
    videos: list[Path] = []
    found: dict[str, Path] = {}
    for file in _files_below(path):
        if file.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(file)
        elif file.suffix.lower() in IMAGE_SUFFIXES:
            folder = file.parent.relative_to(path).as_posix()
            found[as_text(folder if folder != "." else path.resolve().name)] = file.parent
    shared = Counter([*found, *(_name(path, video) for video in videos)])
    for video in videos:
        name = _name(path, video)
        found[name + video.suffix if shared[name] > 1 else name] = video
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


def _name(root: Path, video: Path) -> str:
    return as_text(video.relative_to(root).with_suffix("").as_posix())


def as_text(name: str) -> str:
    """A name of a file as text that every format can hold."""
    return "".join(
        f"%{ord(letter) - 0xDC00:02X}" if 0xDC80 <= ord(letter) <= 0xDCFF else letter
        for letter in name
    )


def _list(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffixes))
