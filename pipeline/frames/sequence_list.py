"""The list of a dataset's sequences: a JSON line for each, sorted by name, in ``sequences.jsonl``.

Lines are kept as bytes and parsed when their sequence is asked for, so that a corpus of many files
takes a process some hundred bytes each.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import MidframeError
from pipeline.frames.frame_sequence import BadFrames, FrameSequence
from pipeline.frames.on_demand import OnDemand
from pipeline.provenance import MANIFEST, json_bytes
from pipeline.reading import reading

SEQUENCES = "sequences.jsonl"
FETCH_AGAIN = "fetch the dataset again"
# Folders of a dataset directory, with a file for each video or folder of images: their indices, and
# what was measured of their frames.
INDEX, CHANGES = "index", "changes"


def kept_file(dataset: Path, kind: str, name: str) -> Path:
    """Where a dataset keeps the index or the measures (``kind``) of the file of this name."""
    return dataset / kind / f"{name}.npz"


def describe(sequence: FrameSequence, inside: str, file: str, measured: bool) -> dict[str, Any]:
    """What the list says of a sequence.

    Parameters
    ----------
    inside : path of its file or folder below the dataset's root.
    file : name by which the index and the measures of that file are kept.
    measured : whether there are measures.
    """
    return {
        "name": sequence.name,
        "path": inside,
        "file": file,
        "measured": measured,
        "offset": sequence.offset,
        "frame_count": sequence.frame_count,
        "height": sequence.height,
        "width": sequence.width,
        "deinterlace": sequence.deinterlace,
        "fps": None if sequence.fps is None else str(sequence.fps),
        "notes": list(sequence.notes),
    }


def write_list(dataset: Path, entries: Iterable[dict[str, Any]]) -> str:
    """Write the entries of all sequences, which come sorted by name; the SHA-256 of the file."""
    total = hashlib.sha256()
    with open(dataset / SEQUENCES, "wb") as file:
        for entry in entries:
            line = json_bytes(entry) + b"\n"
            total.update(line)
            file.write(line)
    return total.hexdigest()


def read_list(
    dataset: Path, manifest: Mapping[str, Any], bad: Mapping[str, Sequence[BadFrames]]
) -> Sequence[FrameSequence]:
    """The sequences of a dataset directory, each made when it is asked for.

    Parameters
    ----------
    manifest : that of the dataset.
    bad : frames to be skipped, by name of the sequence.

    Raises
    ------
    MidframeError
        if the list is missing, or not the one that the manifest names.
    """
    file = dataset / SEQUENCES
    with reading(dataset / MANIFEST, FETCH_AGAIN):
        known = str(manifest["sequences_sha256"])
        root = dataset / manifest["root"]
        link = root.readlink() if root.is_symlink() else None
        skip_bad = manifest["settings"]["on_bad_frame"] == "skip"
    if not file.is_file():
        raise MidframeError(f"{file}: is gone; {FETCH_AGAIN}")
    lines = file.read_bytes()
    if hashlib.sha256(lines).hexdigest() != known:
        raise MidframeError(f"{file}: has changed; {FETCH_AGAIN}")
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n"))

    def make(number: int) -> FrameSequence:
        with reading(file, FETCH_AGAIN):
            entry = json.loads(lines[ends[number - 1] + 1 if number else 0 : ends[number]])
            return FrameSequence(
                name=str(entry["name"]),
                path=_users_path(root, link, entry["path"]),
                frame_count=int(entry["frame_count"]),
                height=int(entry["height"]),
                width=int(entry["width"]),
                fps=None if entry["fps"] is None else Fraction(entry["fps"]),
                bad=tuple(bad.get(entry["name"], ())),
                index=kept_file(dataset, INDEX, entry["file"]),
                notes=tuple(entry["notes"]),
                skip_bad=skip_bad,
                offset=int(entry["offset"]),
                deinterlace=entry["deinterlace"],
                changes=kept_file(dataset, CHANGES, entry["file"]) if entry["measured"] else None,
            )

    return OnDemand(len(ends), make)


def _users_path(root: Path, link: Path | None, inside: str) -> Path:
    """Where a sequence lies: in the user's own folder if the dataset only links to it."""
    if link is not None:
        return link / inside
    path = root / inside
    return path.readlink() if path.is_symlink() else path
