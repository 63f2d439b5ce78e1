"""The reference of commands, made from their parser when the site is built."""

import os

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from midframe.__main__ import build_parser
from midframe.completion import commands_of

WIDTH = "96"


def commands() -> str:
    """A page in Markdown with what ``--help`` says, of every command."""
    os.environ["COLUMNS"] = WIDTH
    parser = build_parser()
    parts = [
        "# Commands",
        "`python -m midframe` is the same command. A command writes one directory, whole or not "
        "at all; an error is one line and a status other than zero.",
    ]
    for name, command in commands_of(parser).items():
        parts += [f"## midframe {name}", f"```text\n{command.format_help().rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to those on disk."""
    files.append(File.generated(config, "commands.md", content=commands()))
    return files
