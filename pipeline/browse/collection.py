"""A patch directory in memory: its windows as columns, to be filtered and sorted.

Every window tried is a row, taken or refused, in the order of ``candidates.parquet``.
"""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.browse.columnar import order, spread
from pipeline.browse.what_if import CHANGES, WhatIf
from pipeline.errors import MidframeError
from pipeline.mirrors import pull_beside, push_beside
from pipeline.provenance import MANIFEST
from pipeline.reading import reading
from pipeline.selection.candidates import WHOLE_SCHEMA
from pipeline.selection.judging import REASONS
from pipeline.store.flags import Flag, Window, flags_file, read_flags, write_flags
from pipeline.store.patch_store import CANDIDATES, PatchStore

# In the order in which the page shows them.
NUMBERS = (
    "motion",
    "cut_distance",
    "flow_cut",
    "repeat",
    "brightness_change",
    "misfit",
    "black_share",
    "first_frame",
    "top",
    "left",
    "attempt",
    "draw",
    "lot",
)
MARKS = ("none", "bad", "interesting")
BINS = 40
# Answers that are kept: four bytes for each row that matches.
KEPT_QUERIES = 8


@dataclass(frozen=True)
class Query:
    """Which rows, in which order.

    Attributes
    ----------
    ranges : for a column of numbers the least and the largest value (``None``: any).
    choices : for a column of names those that are wanted.
    sort : name of a column, with ``-`` before it for descending; empty: order of the file.
    what_if : other settings, to which the column ``change`` belongs.
    """

    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    choices: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sort: str = ""
    what_if: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Text that tells queries apart."""
        named = sorted((name, sorted(values)) for name, values in self.choices.items())
        return repr((sorted(self.ranges.items()), named, self.sort, sorted(self.what_if.items())))


class Collection:
    """An opened patch directory.

    Raises
    ------
    MidframeError
        if it is missing, unfinished, of another version or damaged, or its flags are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = generation(path)
        self.store = PatchStore.open(path)
        self.numbers: dict[str, NDArray[Any]] = {}
        self.codes: dict[str, NDArray[np.int64]] = {}
        self.names: dict[str, tuple[str, ...]] = {}
        with reading(path / CANDIDATES, "sample it again"):
            self._read_columns()
        with reading(path / MANIFEST, "sample it again"):
            self.names["split"] = (str(self.store.manifest["settings"]["split"]),)
        self.codes["split"] = np.zeros(len(self), np.int64)
        self.flags_path = flags_file(path)
        pull_beside(self.flags_path, path)
        self.flags = read_flags(self.flags_path) if self.flags_path.exists() else {}
        self.names["flag"] = MARKS
        self._mark()
        self._times_flagged = 0
        self._answers: OrderedDict[str, NDArray[np.uint32]] = OrderedDict()
        # Of columns asked for, four bytes a row for a direction; not of the flags, which change.
        self._orders: dict[str, NDArray[np.uint32]] = {}
        self._lock = threading.Lock()

    def _read_columns(self) -> None:
        """The columns of the table of windows: numbers, and names by their code."""
        table = pq.read_table(self.path / CANDIDATES, read_dictionary=["sequence", "reason"])
        for name in (*NUMBERS, "sample"):
            column = table[name].cast(WHOLE_SCHEMA.field(name).type)
            if column.null_count and pa.types.is_integer(column.type):
                raise ValueError(f"numbers are missing in the column {name}")
            self.numbers[name] = column.to_numpy()
        for name in ("sequence", "reason"):
            column = table[name].unify_dictionaries().combine_chunks()
            names = column.dictionary.to_pylist()
            # In the order in which people look for them: by name, and as the rules ask.
            known = sorted(names) if name == "sequence" else [r.value for r in REASONS]
            if not set(names) <= set(known):
                unknown = sorted(set(names) - set(known))
                raise ValueError(f"unknown {name} {unknown[0]!r}")
            place = np.array([known.index(one) for one in names], np.int64)
            self.codes[name] = place[column.indices.to_numpy()]
            self.names[name] = tuple(known)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.numbers["motion"])

    @cached_property
    def triplets(self) -> NDArray[np.int64]:
        """Number of each row's triplet."""
        new = np.zeros(len(self), bool)
        for column in (self.codes["sequence"], self.numbers["first_frame"]):
            new[1:] |= column[1:] != column[:-1]
        return np.cumsum(new)

    @cached_property
    def what_if(self) -> WhatIf:
        """Answers to what other settings would take."""
        return WhatIf(
            self.store.manifest["settings"],
            self.triplets,
            self.codes["sequence"],
            self.names["sequence"],
            self.codes["reason"],
            self.numbers,
        )

    @cached_property
    def columns(self) -> list[dict[str, Any]]:
        """What can be asked for: names with their counts, numbers with a histogram; JSON values."""
        described: list[dict[str, Any]] = []
        for name in ("sequence", "reason", "split"):
            times = np.bincount(self.codes[name], minlength=len(self.names[name])).tolist()
            described.append({"name": name, "values": list(self.names[name]), "counts": times})
        for name, values in self.numbers.items():
            counts, low, high = spread(values, BINS)
            whole = bool(np.issubdtype(values.dtype, np.integer))
            described.append({"name": name, "whole": whole, "counts": counts.tolist()})
            described[-1] |= {"low": low, "high": high, "known": bool(counts.any())}
        return described

    def rows(self, query: Query) -> NDArray[np.uint32]:
        """Rows that match, in order.

        Raises
        ------
        MidframeError
            if a column is unknown, or the other settings are wrong.
        """
        with self._lock:
            # An answer that a new flag overtakes is not kept as one after it.
            key = f"{self._times_flagged} {query.key}"
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        mask = self._mask(query)
        places = self._order(query.sort)
        rows = np.flatnonzero(mask).astype(np.uint32) if places is None else places[mask[places]]
        with self._lock:
            self._answers[key] = rows
            while len(self._answers) > KEPT_QUERIES:
                self._answers.popitem(last=False)
        return rows

    def _mask(self, query: Query) -> NDArray[np.bool_]:
        mask = np.ones(len(self), bool)
        for name, (low, high) in query.ranges.items():
            values = self._column(name, self.numbers)
            if low is not None:
                mask &= values >= low
            if high is not None:
                mask &= values <= high
        for name, wanted in query.choices.items():
            if name == "change":
                codes = self.what_if.changes(query.what_if)
            else:
                codes = self._column(name, self.codes)
            names = CHANGES if name == "change" else self.names[name]
            mask &= np.array([one in wanted for one in names], bool)[codes]
        return mask

    def _order(self, sort: str) -> NDArray[np.uint32] | None:
        """All rows in the order of a column; ``None``: as in the file."""
        name = sort.removeprefix("-")
        if not name:
            return None
        if sort in self._orders:
            return self._orders[sort]
        places = order(self._column(name, {**self.codes, **self.numbers}), sort != name)
        if name != "flag":
            self._orders[sort] = places
        return places

    def _column(self, name: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        if name not in columns:
            raise MidframeError(f"no column '{name}' of this kind; there are: {', '.join(columns)}")
        return columns[name]

    def window(self, row: int) -> Window:
        """The place of a row."""
        first, top, left = (int(self.numbers[name][row]) for name in Window._fields[1:])
        return Window(self.names["sequence"][self.codes["sequence"][row]], first, top, left)

    def describe(self, row: int) -> dict[str, Any]:
        """All that is known of a row, as JSON values (``None``: unknown)."""
        return self.describe_all(np.array([row]))[0]

    def describe_all(self, rows: NDArray[Any]) -> list[dict[str, Any]]:
        """All that is known of some rows; see `describe`."""
        told: dict[str, list[Any]] = {"row": rows.tolist()}
        for name in ("sequence", "reason", "split", "flag"):
            told[name] = [self.names[name][code] for code in self.codes[name][rows].tolist()]
        for name, values in self.numbers.items():
            chosen = values[rows]
            known = zip(chosen.tolist(), np.isfinite(chosen).tolist(), strict=True)
            told[name] = [value if finite else None for value, finite in known]
        places = zip(*(told[name] for name in Window._fields), strict=True)
        flags = [self.flags.get(Window(*place)) for place in places]
        told["note"] = [flag.note if flag else "" for flag in flags]
        return [dict(zip(told, row, strict=True)) for row in zip(*told.values(), strict=True)]

    def set_flag(self, row: int, flag: Flag | None) -> None:
        """Set or take off the flag of a row's window, and write the file of flags at once.

        Raises
        ------
        MidframeError
            if the file cannot be written.
        """
        window = self.window(row)
        with self._lock:
            # What somebody else wrote meanwhile stays.
            pull_beside(self.flags_path, self.path)
            flags = read_flags(self.flags_path) if self.flags_path.exists() else {}
            flags.pop(window, None)
            if flag is not None:
                flags[window] = flag
            try:
                write_flags(self.flags_path, flags)
                push_beside(self.flags_path, self.path)
            except OSError as error:
                raise MidframeError(
                    f"{self.flags_path}: cannot write here ({error.strerror})"
                ) from None
            self.flags = flags
            self._mark()
            self._times_flagged += 1

    def _mark(self) -> None:
        """Bring the column of flags up to date."""
        codes = np.zeros(len(self), np.int64)
        number = {name: code for code, name in enumerate(self.names["sequence"])}
        first, top, left = (self.numbers[name] for name in Window._fields[1:])
        # Each triplet that holds flags is found by one number, whatever their count.
        width = int(first.max(initial=0)) + 1
        flagged: defaultdict[int, list[tuple[Window, Flag]]] = defaultdict(list)
        for window, flag in self.flags.items():
            if window.sequence in number and 0 <= window.first_frame < width:
                key = number[window.sequence] * width + window.first_frame
                flagged[key].append((window, flag))
        starts = np.flatnonzero(np.diff(self.triplets, prepend=-1))
        ends = np.append(starts[1:], len(self))
        keys = self.codes["sequence"][starts] * width + first[starts]
        for triplet in np.flatnonzero(np.isin(keys, np.array(list(flagged), np.int64))):
            here = slice(starts[triplet], ends[triplet])
            for window, flag in flagged[int(keys[triplet])]:
                # None of the windows, or as many as were drawn at this place.
                match = (top[here] == window.top) & (left[here] == window.left)
                codes[here][match] = MARKS.index(flag.mark)
        self.codes["flag"] = codes


def generation(path: Path) -> str:
    """Text that changes when a directory is replaced by another one.

    Raises
    ------
    MidframeError
        if it has gone.
    """
    try:
        status = (path / MANIFEST).stat()
    except OSError as error:
        raise MidframeError(f"{path}: not there, or unfinished ({error.strerror})") from None
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"
