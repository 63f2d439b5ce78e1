"""Decode every frame of a dataset once, spread by Dask, before any other work."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster import connect
from pipeline.errors import MidframeError
from pipeline.frames.decoding import BadFrameError, image_files
from pipeline.frames.discovery import find_sequences, passed_over
from pipeline.frames.sequences import FrameSequence, check_sequence, sequence_digest
from pipeline.frames.video_index import VideoIndex
from pipeline.progress import notice, progress
from pipeline.provenance import digest
from pipeline.settings import DatasetSettings

# Folders of a dataset directory: the indices of its videos, and, until it is complete, the findings
# of the checks.
INDEX, CHECKED = "index", "checked"


@dataclass(frozen=True)
class Check:
    """One sequence to be checked by a task, whose result is kept in the unpublished dataset.

    Attributes
    ----------
    folder : dataset directory, not yet published.
    root : the folder in it that holds the sequences.
    name, path : of the sequence.
    stream : see `DatasetSettings.stream`.
    state : digest of the size and time of its files, so that a changed one is checked again.
    """

    folder: Path
    root: Path
    name: str
    path: Path
    stream: int | None
    state: str

    def __str__(self) -> str:
        return f"check of {self.name}"

    @property
    def record(self) -> Path:
        """What the check found, as JSON; it exists when the check is done."""
        return self.folder / CHECKED / f"{self.name}.{self.state}.json"


def check(task: Check) -> None:
    """Read a sequence from end to end, and write down what it is, or why it cannot be used."""
    found: dict[str, Any]
    try:
        sequence = check_sequence(task.name, task.path, task.stream)
    except BadFrameError as error:
        found = {"entry": None, "bad": [[None, str(error)]]}
    else:
        bad = [[[run.first, run.last], run.reason] for run in sequence.bad]
        found = {"entry": _entry(sequence, task.folder, task.root), "bad": bad}
    if _state(task.path) != task.state:
        raise MidframeError(
            f"{task.path}: changed while it was checked; run again when it is still"
        )
    task.record.parent.mkdir(parents=True, exist_ok=True)
    partial = task.record.with_name(f"{task.record.name}.partial")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(task.record)


def check_sequences(
    folder: Path,
    inside: str,
    settings: DatasetSettings,
    workers: int | None = None,
    scheduler: str | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Manifest entries of the sequences in a folder's ``inside``, and of skipped ones, by name.

    Skipped are whole sequences (``frames`` is ``None``) and frames of a sequence (the first and the
    last of a run), with the reason. The indices of videos are written below ``index``.

    Raises
    ------
    MidframeError
        if no sequence can be used, or a frame cannot and the settings do not skip it.
    """
    root = folder / inside
    tasks = [
        Check(folder, root, name, path, settings.stream, _state(path))
        for name, path in find_sequences(root)
    ]
    # Messages name the user's file, not its link.
    shown = Path(settings.path) if settings.source == "folder" and settings.path else root
    _tell_passed_over(root, shown)
    missing = [task for task in tasks if not task.record.exists()]
    if len(missing) < len(tasks):
        notice(f"checking frames: {len(tasks) - len(missing)} of {len(tasks)} sequences are done")
    with connect(workers, scheduler) as cluster:
        for task, _ in progress(
            cluster.map(check, missing), len(missing), "checking frames", "sequences"
        ):
            if settings.on_bad_frame == "error":
                _refuse_bad(task, shown)
    sequences: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    for task in tasks:
        if settings.on_bad_frame == "error":
            _refuse_bad(task, shown)
        found = json.loads(task.record.read_text(encoding="utf-8"))
        if found["entry"] is not None:
            sequences.append(found["entry"])
            for note in found["entry"]["notes"]:
                notice(f"{task.name}: {note}")
        for bad, reason in found["bad"]:
            reason = reason.replace(f"{task.root}", f"{shown}")
            notice(f"skipped {task.name}: {reason}")
            reason = reason.replace(f"{shown / task.path.relative_to(root)}", task.name)
            skipped.append({"sequence": task.name, "frames": bad, "reason": reason})
    # Those of files that are gone since an earlier run.
    kept = {entry["index"] for entry in sequences}
    for file in (folder / INDEX).rglob("*.npz"):
        if file.relative_to(folder).as_posix() not in kept:
            file.unlink()
    if not sequences:
        raise MidframeError(f"{shown}: no sequence can be used; the reasons are above")
    return sequences, skipped


def _state(path: Path) -> str:
    files = [path, *image_files(path)] if path.is_dir() else [path]
    return digest([[file.stat().st_size, file.stat().st_mtime_ns] for file in files])[:16]


def _refuse_bad(task: Check, shown: Path) -> None:
    for _, reason in json.loads(task.record.read_text(encoding="utf-8"))["bad"]:
        reason = reason.replace(f"{task.root}", f"{shown}")
        raise MidframeError(f"{reason}; fix or remove it, or set on_bad_frame: skip")


def _tell_passed_over(root: Path, shown: Path) -> None:
    others = passed_over(root)
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(8))
        more = ", ..." if len(others) > 8 else ""
        notice(
            f"{shown}: skipped {others.total()} files that are neither video nor image: "
            f"{kinds}{more}"
        )


def _entry(sequence: FrameSequence, folder: Path, root: Path) -> dict[str, Any]:
    index = None
    if isinstance(sequence.index, VideoIndex):
        index = f"{INDEX}/{sequence.name}.npz"
        sequence.index.save(folder / index)
    return {
        "name": sequence.name,
        "path": "." if sequence.path == root else sequence.path.relative_to(root).as_posix(),
        "frame_count": sequence.frame_count,
        "height": sequence.height,
        "width": sequence.width,
        "fps": None if sequence.fps is None else str(sequence.fps),
        "sha256": sequence_digest(sequence.path),
        "index": index,
        "notes": list(sequence.notes),
    }
