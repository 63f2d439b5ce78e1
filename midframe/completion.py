"""Completion of commands, options and paths in the shell."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from pipeline.locations import location

# Arguments that name files, beside those whose type is a path.
FILES = ("model", "path", "settings")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that makes ``shell`` complete the command of ``parser``.

    The script is static: pressing the tab key starts no Python.
    """
    for action in _actions(parser):
        if action.type in (Path, location) or action.dest in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands that were added to a parser, by their names."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    yield from parser._actions
    for command in commands_of(parser).values():
        yield from _actions(command)
