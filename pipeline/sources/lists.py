"""A list of files as a dataset: text, CSV or Parquet, with times where only a part is wanted.

A text file has a path a line; a start and an end in seconds may follow, each behind a tab. CSV and
Parquet have the columns ``path``, ``start`` and ``end``, the last two of which may be missing or
empty. Relative paths are relative to the list.
"""

import csv
import difflib
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.errors import MidframeError
from pipeline.frames.decoding import IMAGE_SUFFIXES, image_files
from pipeline.frames.discovery import as_text
from pipeline.progress import notice
from pipeline.reading import explain, reading

SUFFIXES = (".txt", ".csv", ".parquet")
COLUMNS = ("path", "start", "end")
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Part:
    """What one row asks for.

    Attributes
    ----------
    name : of the sequence: that of the file, followed by ``@START-END`` where there are times.
    start, end : in seconds from the file's first frame; ``None``: from its beginning, to its end.
    place : where the list says so, for messages; empty if no list does.
    """

    name: str
    start: float | None = None
    end: float | None = None
    place: str = ""


@dataclass(frozen=True)
class ListedFile:
    """A file or folder of a list, with the parts of it that are wanted.

    ``name`` is its path below the list's folder (or below the root, where it lies elsewhere),
    without suffix unless two files would have one name.
    """

    name: str
    path: Path
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class _Row:
    place: str
    written: str
    path: Path
    start: float | None
    end: float | None


def read_list(file: Path) -> tuple[list[ListedFile], list[tuple[str, str]]]:
    """The files of a list, sorted by name, and its problems: path as written, and what is wrong.

    Raises
    ------
    MidframeError
        if the list cannot be read, or lacks the column of paths.
    """
    rows: list[_Row] = []
    problems: list[tuple[str, str]] = []
    folder = file.parent.absolute()
    seen: dict[tuple[Path, float, float | None], str] = {}
    for place, values in _rows(file):
        try:
            row = _checked(folder, place, values)
        except MidframeError as problem:
            problems.append((str(values["path"] or ""), str(problem)))
            continue
        key = (row.path, row.start or 0.0, row.end)
        if key in seen:
            problems.append((row.written, f"{place}: {row.written} again, as in {seen[key]}"))
            continue
        seen[key] = place
        rows.append(row)
    if not rows and not problems:
        raise MidframeError(f"{file}: lists no file")
    by_path: dict[Path, list[_Row]] = {}
    for row in rows:
        by_path.setdefault(row.path, []).append(row)
    stems = {path: _stem(folder, path) for path in by_path}
    shared = Counter(stems.values())
    files: dict[str, ListedFile] = {}
    for path, wanted in by_path.items():
        name = stems[path] + path.suffix if shared[stems[path]] > 1 else stems[path]
        if name in files:
            place = wanted[0].place
            problems.append((wanted[0].written, f"{place}: has the name of {files[name].path}"))
            continue
        parts = (Part(_part_name(name, row), row.start, row.end, row.place) for row in wanted)
        files[name] = ListedFile(name, path, tuple(parts))
    return [files[name] for name in sorted(files)], problems


def refuse(problems: list[tuple[str, str]]) -> None:
    """Raise `MidframeError` with a line for each problem of a list, if there are any."""
    lines = [what for _, what in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"... and {len(problems) - SHOWN_PROBLEMS} more rows")
    if lines:
        raise MidframeError("\n".join([*lines, "mend the list, or set on_bad_frame: skip"]))


def _stem(folder: Path, path: Path) -> str:
    """The path below the list's folder, or else below the root, without a video's suffix."""
    inside = path.relative_to(folder if path.is_relative_to(folder) else path.anchor)
    return as_text((inside if path.is_dir() else inside.with_suffix("")).as_posix())


def _part_name(name: str, row: _Row) -> str:
    if row.start is None and row.end is None:
        return name
    return f"{name}@{_number(row.start or 0.0)}-{'end' if row.end is None else _number(row.end)}"


def _number(seconds: float) -> str:
    return str(seconds).removesuffix(".0")


def _checked(folder: Path, place: str, values: dict[str, Any]) -> _Row:
    """A row whose file is there and whose times make sense."""
    written = str(values["path"] or "").strip()
    if not written:
        raise MidframeError(f"{place}: names no path")
    path = Path(os.path.normpath(folder / written))
    times = [_seconds(place, column, values.get(column)) for column in ("start", "end")]
    start, end = times
    if end is not None and (start or 0.0) >= end:
        raise MidframeError(f"{place}: start {start or 0:g} is not before end {end:g}")
    try:
        there = path.exists()
    except OSError as error:  # longer than a path can be, or in a folder that must not be read
        reason = explain(error)
        raise MidframeError(f"{place}: {written[:200]} cannot be found ({reason})") from None
    if not there:
        raise MidframeError(f"{place}: {written} is missing ({path})")
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        raise MidframeError(f"{place}: {written} is one image; list the folder that holds it")
    if path.is_dir():
        if not image_files(path):
            raise MidframeError(f"{place}: {written} is a folder without images")
        if times != [None, None]:
            raise MidframeError(f"{place}: {written} is a folder of images, which has no times")
    return _Row(place, written, path, start, end)


def _seconds(place: str, column: str, value: Any) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(value, float) and math.isnan(value):
        return None  # how tables write what is missing
    if not 0.0 <= seconds < math.inf:
        raise MidframeError(f"{place}: {column} is {value!r}, not a time in seconds")
    return seconds


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a list with its place, as it stands there."""
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise MidframeError(f"{file}: a list of files is {', '.join(SUFFIXES)}")
    if not file.is_file():
        raise MidframeError(f"{file}: no such list of files")
    if suffix == ".parquet":
        yield from _parquet_rows(file)
        return
    # Bytes that are not UTF-8 may be those of a file's name.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        if suffix == ".csv":
            table = csv.DictReader(text)
            try:
                _check_columns(file, list(table.fieldnames or ()))
                for values in table:
                    if any(values.values()):
                        yield f"{file}, line {table.line_num}", values
            except csv.Error as error:
                raise MidframeError(f"{file}, line {table.line_num}: not CSV ({error})") from None
            return
        for number, line in enumerate(text, start=1):
            if line.strip() and not line.startswith("#"):
                place = f"{file}, line {number}"
                fields = line.rstrip("\r\n").split("\t")
                if len(fields) > len(COLUMNS):
                    raise MidframeError(f"{place}: more than a path, a start and an end")
                yield place, dict(zip(COLUMNS, fields, strict=False))


def _parquet_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with reading(file, "a list of files in Parquet is needed"):
        columns = pq.read_schema(file).names
        _check_columns(file, columns)
        rows = pq.read_table(
            file, columns=[name for name in COLUMNS if name in columns]
        ).to_pylist()
    for number, values in enumerate(rows, start=1):
        yield f"{file}, row {number}", values


def _check_columns(file: Path, columns: list[str]) -> None:
    if "path" not in columns:
        there = ", ".join(map(str, columns))[:300] or "none"
        raise MidframeError(f"{file}: has no column 'path'; columns: {there}")
    others = [name for name in columns if name not in COLUMNS]
    for name in others:
        meant = difflib.get_close_matches(str(name), COLUMNS, n=1, cutoff=0.7)
        if meant and meant[0] not in columns:
            raise MidframeError(f"{file}: column '{name}'; did you mean '{meant[0]}'?")
    if others:
        notice(f"{file}: columns that are not used: {', '.join(map(str, others))[:300]}")
