"""Decode every frame of a dataset once, spread by Dask, before any other work.

The same decoding makes the index of a video, finds the frames that cannot be used, and measures
what `cuts` will need.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster import connect
from pipeline.errors import MidframeError
from pipeline.frames.decoding import BadFrameError, LeftOutError, image_files
from pipeline.frames.sequences import FrameSequence, check_sequence, sequence_digest
from pipeline.progress import notice, progress
from pipeline.provenance import digest
from pipeline.reading import reading
from pipeline.selection.measures import KEPT_BINS, FrameMeter
from pipeline.settings import DatasetSettings
from pipeline.sources.lists import Part

# Folders of a dataset directory: the indices of its files, what was measured of their frames, and,
# until it is complete, the findings of the checks.
INDEX, CHANGES, CHECKED = "index", "changes", "checked"
# Seconds by which a time may differ from that of a frame.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """One file to be checked by a task, whose result is kept in the unpublished dataset.

    Attributes
    ----------
    folder : dataset directory, not yet published.
    name, path : of the file, or of a folder of images.
    shown : the user's own path, for messages.
    inside : the path below the dataset's root.
    parts : sequences that are made of it.
    settings : of the dataset.
    state : digest of all that the result depends on, so that a changed file is checked again.
    size : bytes.
    """

    folder: Path
    name: str
    path: Path
    shown: Path
    inside: str
    parts: tuple[Part, ...]
    settings: DatasetSettings
    state: str
    size: int

    def __str__(self) -> str:
        return f"check of {self.name}"

    @property
    def record(self) -> Path:
        """What the check found, as JSON; it exists when the check is done."""
        return self.folder / CHECKED / f"{self.name}.{self.state}.json"

    def found(self) -> dict[str, Any]:
        """What the record says."""
        with reading(self.record, "delete it and run again"):
            found: dict[str, Any] = json.loads(self.record.read_text(encoding="utf-8"))
            return {name: found[name] for name in ("entries", "left_out", "bad")}


def make_check(
    folder: Path,
    root: Path,
    place: tuple[str, Path],
    shown: Path,
    settings: DatasetSettings,
    parts: Sequence[Part] = (),
) -> Check:
    """A check of the file or folder that ``place`` names, at its path below ``root``."""
    name, path = place
    parts = tuple(parts) or (Part(name),)
    inside = "." if path == root else path.relative_to(root).as_posix()
    state, size = _state(path, parts)
    return Check(folder, name, path, shown, inside, parts, settings, state, size)


def _state(path: Path, parts: Sequence[Part]) -> tuple[str, int]:
    """Digest of the size and time of a file or of a folder's images, and the bytes of all."""
    files = [path, *image_files(path)] if path.is_dir() else [path]
    states = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    asked = [[part.name, part.start, part.end] for part in parts]
    return digest([states, asked])[:16], sum(size for size, _ in states)


def check(task: Check) -> None:
    """Read a file from end to end, and write down what it is, or why it cannot be used."""
    meter = None
    if task.settings.measure != "nothing":
        meter = FrameMeter(KEPT_BINS, fits=task.settings.measure == "flow")
    entries: list[dict[str, Any]] = []
    bad: list[tuple[str, list[int] | None, str]] = []
    left_out = False
    try:
        file = check_sequence(
            task.name,
            task.path,
            task.settings.stream,
            None if meter is None else meter.add,
            task.settings.interlaced,
        )
    except BadFrameError as error:
        first = task.parts[0]
        bad.append((first.name if len(task.parts) == 1 else task.name, None, _at(first, error)))
        left_out = isinstance(error, LeftOutError)
    else:
        kept = _keep(task, file, meter)
        for part in task.parts:
            try:
                sequence = _cut_out(file, part)
            except BadFrameError as error:
                bad.append((part.name, None, _at(part, error)))
                continue
            entries.append(_entry(sequence) | {"path": task.inside} | kept)
            bad += [(part.name, [run.first, run.last], run.reason) for run in sequence.bad]
    found = {
        "entries": entries,
        "left_out": left_out,
        "bad": [
            [name, frames, reason.replace(str(task.path), str(task.shown))]
            for name, frames, reason in bad
        ],
    }
    if _state(task.path, task.parts)[0] != task.state:
        raise MidframeError(f"{task.shown}: changed while it was checked; run again")
    task.record.parent.mkdir(parents=True, exist_ok=True)
    partial = task.record.with_name(f"{task.record.name}.partial")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(task.record)


def _at(part: Part, error: BadFrameError) -> str:
    return f"{part.place}: {error}" if part.place else str(error)


def _keep(task: Check, file: FrameSequence, meter: FrameMeter | None) -> dict[str, Any]:
    """Write what later stages need of a file; its entries in the manifest."""
    index, changes = f"{INDEX}/{task.name}.npz", None
    file.frame_index().save(task.folder / index)
    # Where some frames are bad, `cuts` measures what lies between them; and that a video is
    # interlaced is known only at its end.
    if meter is not None and meter.usable and not file.bad and not file.deinterlace:
        changes = f"{CHANGES}/{task.name}.npz"
        meter.measures().save(task.folder / changes)
    return {"index": index, "changes": changes, "sha256": sequence_digest(task.path)}


def _cut_out(file: FrameSequence, part: Part) -> FrameSequence:
    """The frames of a file that are shown between the times of a part."""
    if part.start is None and part.end is None:
        return file
    if len(file.seconds) < 2:
        raise BadFrameError(f"{file.path}: no times can be found in it, for it states no rate")
    start, times = part.start or 0.0, file.seconds
    step = (times[-1] - times[0]) / (len(times) - 1)
    length = times[-1] + step
    if start >= length or (part.end or 0.0) >= length + step:
        end = "the end" if part.end is None else f"{part.end:g}"
        raise BadFrameError(
            f"{file.path}: {start:g} to {end} s lies outside, for it lasts {length:.3f} s"
        )
    first = bisect_left(times, start - TOLERANCE)
    stop = len(times) if part.end is None else bisect_left(times, part.end - TOLERANCE)
    return file.part(part.name, first, stop)


def check_files(
    tasks: Sequence[Check],
    settings: DatasetSettings,
    workers: int | None = None,
    scheduler: str | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Manifest entries of the sequences that files hold, and of what is skipped, by name.

    Skipped are whole sequences (``frames`` is ``None``) and frames of a sequence (the first and the
    last of a run), with the reason. The indices of the files are written below ``index``, what was
    measured below ``changes``.

    Raises
    ------
    MidframeError
        if no sequence can be used, or a frame cannot and the settings do not skip it.
    """
    # The largest first, so that all workers finish at about the same time.
    missing = sorted(
        (task for task in tasks if not task.record.exists()), key=lambda one: -one.size
    )
    if len(missing) < len(tasks):
        notice(f"checking frames: {len(tasks) - len(missing)} of {len(tasks)} sequences are done")
    with connect(workers, scheduler) as cluster:
        for task, _ in progress(
            cluster.map(check, missing), len(missing), "checking frames", "sequences"
        ):
            if settings.on_bad_frame == "error":
                _refuse_bad(task)
    sequences: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    for task in tasks:
        if settings.on_bad_frame == "error":
            _refuse_bad(task)
        found = task.found()
        for entry in found["entries"]:
            sequences.append(entry)
            for note in entry["notes"]:
                notice(f"{entry['name']}: {note}")
        for name, frames, reason in found["bad"]:
            notice(f"skipped {name}: {reason}")
            reason = reason.replace(str(task.shown), task.name)
            skipped.append({"sequence": name, "frames": frames, "reason": reason})
    sequences.sort(key=lambda entry: str(entry["name"]))
    _remove_stale(tasks, sequences)
    if not sequences:
        raise MidframeError(
            f"{settings.path or settings.source}: no sequence can be used; the reasons are above"
        )
    return sequences, skipped


def _remove_stale(tasks: Sequence[Check], sequences: Iterable[dict[str, Any]]) -> None:
    """Remove what an earlier run kept of files that are gone since."""
    kept = {entry[key] for entry in sequences for key in ("index", "changes")}
    for folder in {task.folder for task in tasks}:
        for inside in (INDEX, CHANGES):
            for file in (folder / inside).rglob("*.npz"):
                if file.relative_to(folder).as_posix() not in kept:
                    file.unlink()


def _refuse_bad(task: Check) -> None:
    found = task.found()
    for _, _, reason in [] if found["left_out"] else found["bad"]:
        raise MidframeError(f"{reason}; fix or remove it, or set on_bad_frame: skip")


def _entry(sequence: FrameSequence) -> dict[str, Any]:
    return {
        "name": sequence.name,
        "offset": sequence.offset,
        "frame_count": sequence.frame_count,
        "height": sequence.height,
        "width": sequence.width,
        "deinterlace": sequence.deinterlace,
        "fps": None if sequence.fps is None else str(sequence.fps),
        "notes": list(sequence.notes),
    }
