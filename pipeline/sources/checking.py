"""Decode every frame of a dataset once, spread by Dask, before any other work.

The same decoding makes the index of a video, finds the frames that cannot be used, and measures
what `cuts` will need.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster import connect
from pipeline.errors import MidframeError
from pipeline.frames.decoding import BadFrameError, LeftOutError, image_files
from pipeline.frames.on_demand import OnDemand
from pipeline.frames.sequence_list import CHANGES, INDEX, describe, kept_file, write_list
from pipeline.frames.sequences import FrameSequence, check_sequence, sequence_digest
from pipeline.progress import notice, progress
from pipeline.provenance import digest
from pipeline.reading import reading
from pipeline.selection.measures import KEPT_BINS, FrameMeter
from pipeline.settings import DatasetSettings
from pipeline.sources.lists import Part

# Folder of a dataset directory, until it is complete: the findings of the checks.
CHECKED = "checked"
# Of the files that a task checks, at most: a second of work or so.
BATCH_BYTES, BATCH_FILES = 2**20, 32
# And at least so many batches where there are as many files, for all workers to have some.
LEAST_BATCHES = 64
# Copies that are named.
SHOWN = 8
# Seconds by which a time may differ from that of a frame.
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Place:
    """A file, or a folder of images, that a dataset is made of.

    Attributes
    ----------
    name : unique in the dataset.
    inside : the path below the dataset's root.
    shown : the user's own path, for messages, where it is not that in the user's folder.
    parts : sequences that are made of it; none: one, of its name.
    """

    name: str
    inside: str
    shown: str | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """All files that a dataset is made of.

    Attributes
    ----------
    folder : dataset directory, not yet published.
    root : the folder in it that holds them.
    shown : what the user calls that folder.
    settings : of the dataset.
    places : the files, sorted by name.
    """

    folder: Path
    root: Path
    shown: Path
    settings: DatasetSettings
    places: Sequence[Place]

    def state(self, number: int) -> tuple[int, int]:
        """Digest of all that the check of a file depends on, of 64 bits; bytes to be read."""
        place = self.places[number]
        return _state(self.root / place.inside, place.parts or (Part(place.name),))

    def check(self, number: int, state: int) -> "Check":
        """The check of a file in the state that it had."""
        place = self.places[number]
        return Check(
            folder=self.folder,
            name=place.name,
            path=self.root / place.inside,
            shown=Path(place.shown) if place.shown else self.shown / place.inside,
            inside=place.inside,
            parts=place.parts or (Part(place.name),),
            settings=self.settings,
            state=state,
        )


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
    """

    folder: Path
    name: str
    path: Path
    shown: Path
    inside: str
    parts: tuple[Part, ...]
    settings: DatasetSettings
    state: int

    def __str__(self) -> str:
        return f"check of {self.name}"

    @property
    def record(self) -> Path:
        """What the check found, as JSON; it exists when the check is done."""
        return self.folder / CHECKED / f"{self.name}.{self.state:016x}.json"

    def found(self) -> dict[str, Any]:
        """What the record says."""
        with reading(self.record, "delete it and run again"):
            found: dict[str, Any] = json.loads(self.record.read_text(encoding="utf-8"))
            return {name: found[name] for name in ("entries", "left_out", "bad")}


@dataclass(frozen=True)
class Batch:
    """Files that a task checks one after the other: short ones together.

    To hand a worker a task costs as much as to check a clip of some frames.
    """

    checks: tuple[Check, ...]

    def __str__(self) -> str:
        # Asked when the task has killed its workers.
        return str(next((one for one in self.checks if not one.record.exists()), self.checks[-1]))


def _state(path: Path, parts: Sequence[Part]) -> tuple[int, int]:
    """Digest of the size and time of a file or of a folder's images, and the bytes of all."""
    files = [path, *image_files(path)] if path.is_dir() else [path]
    states = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    asked = [[part.name, part.start, part.end] for part in parts]
    return int(digest([states, asked])[:16], 16), sum(size for size, _ in states)


def check_batch(batch: Batch) -> bool:
    """Check the files of a batch that are not yet; whether any of them cannot be used in part.

    Where that is an error, the files behind it are left.
    """
    any_bad = False
    for task in batch.checks:
        # A batch begins anew if its worker dies.
        if not task.record.exists():
            any_bad |= check(task)
            if any_bad and task.settings.on_bad_frame == "error":
                break
    return any_bad


def check(task: Check) -> bool:
    """Read a file from end to end, and write down what it is, or why it cannot be used.

    Returns whether any of it cannot, though the settings do not leave it out.
    """
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
        measured = _keep(task, file, meter)
        sha256 = {"sha256": sequence_digest(task.path)}
        for part in task.parts:
            try:
                sequence = _cut_out(file, part)
            except BadFrameError as error:
                bad.append((part.name, None, _at(part, error)))
                continue
            entries.append(describe(sequence, task.inside, task.name, measured) | sha256)
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
    return bool(bad) and not left_out


def _at(part: Part, error: BadFrameError) -> str:
    return f"{part.place}: {error}" if part.place else str(error)


def _keep(task: Check, file: FrameSequence, meter: FrameMeter | None) -> bool:
    """Write what later stages need of a file; whether its measures are of use to them."""
    file.frame_index().save(kept_file(task.folder, INDEX, task.name))
    # Where some frames are bad, `cuts` measures what lies between them; and that a video is
    # interlaced is known only at its end.
    if meter is None or not meter.usable or file.bad or file.deinterlace:
        return False
    meter.measures().save(kept_file(task.folder, CHANGES, task.name))
    return True


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
    corpus: Corpus, workers: int | None = None, scheduler: str | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Check all files, and list the sequences that they hold; see `pipeline.frames.sequence_list`.

    Returns
    -------
    What the manifest says of the list: ``sequence_count``, ``frames``, ``sequences_sha256``. And
    what is skipped: whole sequences (``frames`` is ``None``) and frames of a sequence (the first
    and the last of a run), with the reason.

    Raises
    ------
    MidframeError
        if no sequence can be used, or a frame cannot and the settings do not skip it.
    """
    settings, count = corpus.settings, len(corpus.places)
    states, sizes = np.empty(count, np.uint64), np.empty(count, np.int64)
    for number in range(count):
        states[number], sizes[number] = corpus.state(number)
    tasks = OnDemand(count, lambda number: corpus.check(number, int(states[number])))
    # The largest first, so that all workers finish at about the same time.
    missing = [
        int(one) for one in np.argsort(-sizes, kind="stable") if not tasks[int(one)].record.exists()
    ]
    if len(missing) < count:
        notice(f"checking frames: {count - len(missing)} of {count} sequences are done")
    with connect(workers, scheduler) as cluster:
        for batch, any_bad in progress(
            cluster.map(check_batch, _batches(tasks, missing, sizes)),
            len(missing),
            "checking frames",
            "sequences",
            amount=lambda done: len(done[0].checks),
        ):
            if any_bad and settings.on_bad_frame == "error":
                for task in batch.checks:
                    if task.record.exists():
                        _refuse_bad(task.found())
    skipped: list[dict[str, Any]] = []
    order: list[tuple[str, int, int]] = []  # name, number of the file, and of its entry
    kept: dict[str, set[str]] = {INDEX: set(), CHANGES: set()}
    first_of: dict[int, str] = {}  # by 64 bits of the SHA-256
    copies: list[tuple[str, str]] = []
    frames = 0
    for number, task in enumerate(tasks):
        found = task.found()
        if settings.on_bad_frame == "error":
            _refuse_bad(found)
        for entry in found["entries"][:1]:
            first = first_of.setdefault(int(entry["sha256"][:16], 16), task.name)
            if first != task.name:
                copies.append((task.name, first))
        for at, entry in enumerate(found["entries"]):
            # One text in memory where both names are alike.
            order.append((task.name if entry["name"] == task.name else entry["name"], number, at))
            frames += entry["frame_count"]
            kept[INDEX].add(task.name)
            if entry["measured"]:
                kept[CHANGES].add(task.name)
            for note in entry["notes"]:
                notice(f"{entry['name']}: {note}")
        for name, of_sequence in groupby(found["bad"], key=lambda one: one[0]):
            runs = [(run, reason) for _, run, reason in of_sequence]
            more = f"; and {len(runs) - 1} more, see the manifest" if len(runs) > 1 else ""
            notice(f"skipped {name}: {runs[0][1]}{more}")
            for run, reason in runs:
                reason = reason.replace(str(task.shown), task.name)
                skipped.append({"sequence": name, "frames": run, "reason": reason})
    _tell_copies(copies)
    _remove_stale(corpus.folder, kept)
    if not order:
        raise MidframeError(
            f"{settings.path or settings.source}: no sequence can be used; the reasons are above"
        )
    order.sort()
    # Records are read again and not kept, for they are many.
    entries = (tasks[number].found()["entries"][at] for _, number, at in order)
    content = {
        "sequences_sha256": write_list(corpus.folder, entries),
        "sequence_count": len(order),
        "frames": frames,
    }
    return content, skipped


def _batches(
    tasks: Sequence[Check], numbers: Sequence[int], sizes: NDArray[np.int64]
) -> Iterator[Batch]:
    """The tasks of these numbers, in order, in batches of `BATCH_BYTES` or one file."""
    most = min(BATCH_FILES, max(len(numbers) // LEAST_BATCHES, 1))
    batch: list[Check] = []
    size = 0
    for number in numbers:
        if batch and (size + sizes[number] > BATCH_BYTES or len(batch) == most):
            yield Batch(tuple(batch))
            batch, size = [], 0
        batch.append(tasks[number])
        size += int(sizes[number])
    if batch:
        yield Batch(tuple(batch))


def _remove_stale(dataset: Path, kept: Mapping[str, Set[str]]) -> None:
    """Remove what an earlier run kept of files that are gone since."""
    for kind, names in kept.items():
        for file in (dataset / kind).rglob("*.npz"):
            if file.relative_to(dataset / kind).as_posix().removesuffix(".npz") not in names:
                file.unlink()


def _tell_copies(copies: Sequence[tuple[str, str]]) -> None:
    if copies:
        named = ", ".join(f"{name} of {first}" for name, first in copies[:SHOWN])
        more = ", ..." if len(copies) > SHOWN else ""
        notice(
            f"{len(copies)} files are copies of others to the byte: {named}{more}; where one is "
            "trained on and the other tested, remove it"
        )


def _refuse_bad(found: Mapping[str, Any]) -> None:
    for _, _, reason in [] if found["left_out"] else found["bad"]:
        raise MidframeError(f"{reason}; fix or remove it, or set on_bad_frame: skip")
