"""``midframe``: one command line for everything, from videos to tables and smoother videos.

Heavy imports are inside the commands, so that ``--help`` answers at once.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import model.__main__
import pipeline.__main__
from pipeline.command_line import run

EXAMPLES = """\
examples:
  midframe score my-videos --out motion
  midframe train training --validation validation --out stage
  midframe interpolate clip.mp4 smooth.mp4 --model weights.safetensors
  midframe COMMAND --help
"""


class _Version(argparse.Action):
    """``--version``, which looks the version up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from midframe.doctor import version

        print(f"midframe {version()}")
        parser.exit()


def _doctor(arguments: argparse.Namespace) -> None:
    from midframe.doctor import examine, report
    from pipeline.errors import MidframeError

    findings = examine()
    print(report(findings))
    if broken := [finding.subject for finding in findings if finding.state == "broken"]:
        raise MidframeError(f"doctor: fix this first: {', '.join(broken)}")


def _completion(arguments: argparse.Namespace) -> None:
    from midframe.completion import script

    print(script(build_parser(), arguments.shell))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands of both packages."""
    parser = argparse.ArgumentParser(
        prog="midframe",
        description="Frames between frames: build datasets of triplets, train SepConv, measure it "
        "and raise the frame rate of videos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pipeline.__main__.add_commands(commands)
    model.__main__.add_commands(commands)

    doctor = commands.add_parser(
        "doctor", help="what this machine has (GPU, codecs, SLURM, space), and how to get the rest"
    )
    doctor.set_defaults(command=_doctor)

    completion = commands.add_parser("completion", help="print the completion script of a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"))
    completion.set_defaults(command=_completion)
    return parser


def main() -> int:
    """Run the command that was typed, and return the exit status."""
    return run(build_parser())


if __name__ == "__main__":
    sys.exit(main())
