"""Damaged copies of good files, and what a parser may do with one.

In the tests every run draws the same few examples. With ``MIDFRAME_FUZZ_EXAMPLES=N`` each run draws
N others for each parser (`make fuzz`).
"""

import contextlib
import copy
import io
import json
import os
import resource
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pipeline.errors import MidframeError

EXAMPLES = int(os.environ.get("MIDFRAME_FUZZ_EXAMPLES", "0"))
MEMORY = 1 << 30  # bytes that a parser may ask for beyond what the process has; files are tiny

HUGE = [b"\xff" * 4, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\x00" * 8, b"\x00\x00\x00\x40", b"9" * 40]


def examples(count: int) -> settings:
    """How a test is run: ``count`` examples, always the same, unless more are asked for."""
    return settings(
        max_examples=EXAMPLES or count,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Let what is asked for beyond `MEMORY` fail, and take no warning for an error."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def survives(parse: Callable[[Path], Any], file: Path, content: bytes) -> str | None:
    """Parse a file of these bytes: a value, or the one error that a user is meant to see.

    Returns
    -------
    The error's message, or None if there was a value. Any other exception is raised.
    """
    file.write_bytes(content)
    with bounded():
        try:
            value = parse(file)
            if isinstance(value, Iterator):
                list(value)
        except MidframeError as error:
            message = str(error)
            assert message.strip()
            assert len(message) < 20_000, f"a message of {len(message)} characters"
            return message
    return None


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A copy of one of several files with a few changes: cut, flipped, filled, doubled, mixed."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        # Heads and tails, where formats keep their numbers, as often as all the rest.
        end = len(content)
        first, last = st.integers(0, min(end, 64)), st.integers(max(end - 64, 0), end)
        place = draw(st.one_of(first, last, st.integers(0, end)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            del content[place:]
        elif kind == 1:
            content[place : place + 1] = draw(st.binary(min_size=1, max_size=2))
        elif kind == 2:
            filler = draw(st.sampled_from(HUGE))
            content[place : place + len(filler)] = filler
        elif kind == 3:
            del content[place : place + draw(st.integers(1, 16))]
        else:
            begin = draw(st.integers(0, end))
            content[place:place] = content[begin : begin + draw(st.integers(1, 100))]
    return bytes(content)


JSON_TEXTS = st.sampled_from(["", "x", "\0", "../../..", "/", "\ud800", "a" * 5000, "1/0", "-1"])
JSON_VALUES = st.one_of(
    JSON_TEXTS,
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1 << 31, 1 << 70, 10**400, 1e308, float("nan"), float("inf"), -0.5]),
    st.sampled_from([[], {}, [[]], [None], {"": None}, [1, 2], {"kind": 1}]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a tree of JSON."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


@st.composite
def damaged_json(draw: st.DrawFn, seed: bytes) -> bytes:
    """JSON in which one or two values are others, or gone, or have another key."""
    tree = json.loads(seed)
    for _ in range(draw(st.integers(1, 2))):
        where = draw(st.sampled_from(list(places(tree))))
        if not where:
            return text_of(draw(JSON_VALUES))
        inner = tree
        for key in where[:-1]:
            inner = inner[key]
        kind = draw(st.integers(0, 2))
        if kind == 0:
            del inner[where[-1]]
        elif kind == 1 and isinstance(inner, dict):
            inner[draw(JSON_TEXTS)] = inner.pop(where[-1])
        else:
            inner[where[-1]] = copy.deepcopy(draw(JSON_VALUES))
    return text_of(tree)


def text_of(tree: Any) -> bytes:
    """JSON as bytes, in which lone surrogates are escaped."""
    return json.dumps(tree).encode()


def json_like(seed: bytes) -> st.SearchStrategy[bytes]:
    """Damage to the bytes of JSON, to its values, and nesting that no stack is deep enough for."""
    extreme = st.sampled_from([b"[" * 200_000, b'{"a":' * 200_000, b"", b"\xff"])
    return st.one_of(damaged([seed]), damaged_json(seed), extreme)


def truncations(content: bytes, most: int = 4096) -> Iterator[bytes]:
    """A file cut after each of its bytes, or after ``most`` places where it is longer."""
    step = max(len(content) // most, 1)
    return (content[:length] for length in range(0, len(content), step))


def saved(write: Callable[[io.BytesIO], Any]) -> bytes:
    """What a function writes into a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()
