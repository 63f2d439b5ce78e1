"""Completion of commands, options and paths in the shell."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

# Arguments that name files, beside those whose type is a path.
FILES = ("model", "path", "settings")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that makes ``shell`` complete the command of ``parser``.

    The script is static: pressing the tab key starts no Python.
    """
    for action in _actions(parser):
        if action.type is Path or action.dest in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
