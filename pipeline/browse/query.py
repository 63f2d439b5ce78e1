"""Queries as they stand in an address, so that a view can be shared.

``reason=taken,overlap&motion=2~8.5&sort=-motion`` asks for two reasons, motion from 2 to 8.5 and
the strongest first; ``what_if=motion_scale:10,tries:20&change=gained`` for what other settings
would take.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from pipeline.browse.collection import NUMBERS, Query
from pipeline.errors import MidframeError
from pipeline.settings import plain_data

NAMES = ("sequence", "split", "reason", "flag", "change")


def parse(parameters: Mapping[str, str]) -> Query:
    """The query of an address; what it does not know it passes over.

    Raises
    ------
    MidframeError
        if a range holds no numbers.
    """
    return Query(
        ranges={
            name: _range(name, parameters[name])
            for name in (*NUMBERS, "sample")
            if parameters.get(name)
        },
        choices={
            # Commas stand between names; one within a name is written %2C.
            name: frozenset(map(unquote, parameters[name].split(",")))
            for name in NAMES
            if parameters.get(name)
        },
        sort=parameters.get("sort", ""),
        what_if=parse_changes(parameters.get("what_if", "")),
    )


def _range(name: str, text: str) -> tuple[float | None, float | None]:
    low, tilde, high = text.partition("~")
    try:
        ends = tuple(float(end) if end else None for end in (low, high))
    except ValueError:
        ends = ()
    if not tilde or len(ends) != 2:
        raise MidframeError(f"{name}: a range such as 2~8.5, 2~ or ~8.5 is needed, not {text!r}")
    return ends[0], ends[1]


def parse_changes(text: str) -> dict[str, Any]:
    """Settings and their values of ``name:value,name:value``.

    Raises
    ------
    MidframeError
        if it is something else.
    """
    changes: dict[str, Any] = {}
    for part in text.split(",") if text else ():
        name, colon, value = part.partition(":")
        if not colon:
            raise MidframeError(f"what_if: name:value is needed, not {part!r}")
        changes[name] = plain_data(value, f"what_if: {name}")
    return changes
