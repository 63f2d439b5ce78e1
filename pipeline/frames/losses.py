"""Frames that a dataset holds no longer: a file has changed, was cut short, or is gone.

Every frame could be read when the dataset was made. A later stage that cannot read one stops, or,
if the dataset skips bad frames, does without it and lists it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.frames.decoding import BadFrameError, Frame
from pipeline.frames.on_demand import OnDemand
from pipeline.frames.sequences import WHAT_TO_DO, BadFrames, FrameSequence
from pipeline.progress import notice
from pipeline.reading import reading

# Failures one after the other, without a frame between them, after which the rest is given up:
# where a video is cut short, each try would decode it from the beginning.
PATIENCE = 3


@dataclass(frozen=True)
class Loss:
    """Frames ``first`` to ``last`` of a sequence that cannot be read any more, and why.

    ``path`` is the user's file or folder; the reason names it.
    """

    sequence: str
    path: str
    first: int
    last: int
    reason: str

    @classmethod
    def from_entry(cls, entry: dict[str, Any], path: str = "") -> "Loss":
        """What `entry` has made, of a sequence whose user's file is ``path``."""
        first, last = entry["frames"]
        reason = entry["reason"]
        if path:
            reason = reason.replace(entry["sequence"], path, 1)
        return cls(entry["sequence"], path, first, last, reason)

    def entry(self) -> dict[str, Any]:
        """As a manifest lists it: without the path, by the name of the sequence."""
        return {
            "sequence": self.sequence,
            "frames": [self.first, self.last],
            "reason": self.reason.replace(self.path, self.sequence),
        }


def read_remaining(
    sequence: FrameSequence, start: int, stop: int | None, losses: list[Loss]
) -> Iterator[tuple[int, Frame]]:
    """Yield each frame from ``start`` to ``stop`` (excluded) that is not bad, with its index.

    After one that cannot be read, reading goes on at the next image, or behind the next key frame
    of a video; what is passed over is added to ``losses``.

    Raises
    ------
    BadFrameError
        if a frame cannot be read and the sequence's dataset does not skip bad frames.
    """
    failures = 0
    for first, last in sequence.good_runs(start, stop):
        position = first
        while position < last:
            began, reason = position, None
            try:
                for frame in sequence.read(position, last):
                    yield position, frame
                    position += 1
            except BadFrameError as error:
                reason = str(error)
            # Raised out here, so that the way from a worker to this process cannot break it.
            if reason is None:
                break
            if not sequence.skip_bad:
                raise BadFrameError(f"{reason}; {WHAT_TO_DO}")
            failures = failures + 1 if position == began else 1
            ready = sequence.next_entry(position) if failures < PATIENCE else None
            until = last if ready is None else min(ready, last)
            losses.append(Loss(sequence.name, str(sequence.path), position, until - 1, reason))
            position = until


def runs(frames: Iterable[tuple[int, Frame]]) -> Iterator[tuple[int, Iterator[Frame]]]:
    """Numbered frames in runs without a gap: the number of each run's first, and its frames.

    A run has to be read to its end before the next one is asked for.
    """
    remaining = iter(frames)
    following = next(remaining, None)

    def run() -> Iterator[Frame]:
        nonlocal following
        while following is not None:
            number, frame = following
            yield frame
            following = next(remaining, None)
            if following is not None and following[0] != number + 1:
                return

    while following is not None:
        yield following[0], run()


def merge(losses: Iterable[Loss]) -> list[Loss]:
    """Losses sorted by sequence and frame; those that touch or overlap as one, the first's."""
    merged: list[Loss] = []
    for loss in sorted(losses, key=lambda one: (one.sequence, one.first, one.last)):
        before = merged[-1] if merged else None
        if before and before.sequence == loss.sequence and loss.first <= before.last + 1:
            merged[-1] = replace(before, last=max(before.last, loss.last))
        else:
            merged.append(loss)
    return merged


def without(sequences: Sequence[FrameSequence], losses: Iterable[Loss]) -> Sequence[FrameSequence]:
    """The sequences with the frames lost as bad ones, which no triplet holds."""
    runs: dict[str, list[BadFrames]] = {}
    for loss in losses:
        runs.setdefault(loss.sequence, []).append(BadFrames(loss.first, loss.last, loss.reason))
    if not runs:
        return sequences

    def make(number: int) -> FrameSequence:
        sequence = sequences[number]
        if sequence.name not in runs:
            return sequence
        return replace(sequence, bad=_united([*sequence.bad, *runs[sequence.name]]))

    return OnDemand(len(sequences), make)


def _united(runs: Sequence[BadFrames]) -> tuple[BadFrames, ...]:
    """Runs of bad frames in ascending order, none of which overlap."""
    united: list[BadFrames] = []
    for run in sorted(runs, key=lambda one: (one.first, one.last)):
        first = max(run.first, united[-1].last + 1) if united else run.first
        if first <= run.last:
            united.append(replace(run, first=first))
    return tuple(united)


def list_once(losses: Iterable[Loss], sequences: Iterable[FrameSequence]) -> list[dict[str, Any]]:
    """Manifest entries of what is lost, one for each sequence, and a notice of each.

    The entry's frames reach from the first lost one to the last, with the reason of the first;
    `None` stands for all of the sequence. The notice names the user's file.
    """
    merged = merge(losses)
    names = {loss.sequence for loss in merged}
    lengths = {
        sequence.name: sequence.frame_count
        for sequence in (sequences if names else ())
        if sequence.name in names
    }
    entries = []
    for name, group in groupby(merged, key=lambda loss: loss.sequence):
        of_sequence = list(group)
        whole = replace(of_sequence[0], last=of_sequence[-1].last)
        notice(f"skipped {name}: {whole.reason}")
        entry = whole.entry()
        if (whole.first, whole.last) == (0, lengths.get(name, 0) - 1):
            entry["frames"] = None
        entries.append(entry)
    return entries


def save(losses: Iterable[Loss], file: Path) -> None:
    """Keep losses for another process; none, no file."""
    entries = [asdict(loss) for loss in losses]
    if entries:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.partial")
        partial.write_text(json.dumps(entries), encoding="utf-8")
        partial.replace(file)


def load(file: Path) -> list[Loss]:
    """What `save` has kept."""
    if not file.is_file():
        return []
    with reading(file, "delete it and run again"):
        return [Loss(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
