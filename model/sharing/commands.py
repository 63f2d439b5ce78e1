"""Commands that pass a result on: ``card``, ``export-network`` and ``crate``.

Heavy imports are inside the commands, so that ``--help`` answers at once.
"""

import argparse
from pathlib import Path

from pipeline.command_line import Commands
from pipeline.progress import notice


def _card_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a weights file")
    parser.add_argument(
        "--evaluation",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="evaluations of these weights, whose numbers the card gives",
    )
    parser.add_argument(
        "--license",
        default="mit",
        metavar="ID",
        help="licence of the weights, as the hub names it (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        metavar="TEXT",
        help="what the weights were trained on, and its licence, in a sentence",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the card (default: README.md beside the weights)"
    )
    parser.set_defaults(command=_card)


def _card(arguments: argparse.Namespace) -> None:
    from model.sharing.card import write_card

    path = write_card(
        arguments.weights, arguments.evaluation, arguments.license, arguments.data, arguments.out
    )
    notice(f"{arguments.weights}: card written to {path}")


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a weights file")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="the file to write: .onnx, or .pt2 of torch.export"
    )
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> None:
    from model.sharing.export import export

    export(arguments.weights, arguments.out)
    notice(f"{arguments.weights}: exported to {arguments.out}")


def _crate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of a finished run")
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the run's configuration"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the crate's folder, a new one"
    )
    parser.set_defaults(command=_crate)


def _crate(arguments: argparse.Namespace) -> None:
    from model.sharing.crate import write_crate

    files = write_crate(arguments.results, arguments.config, arguments.out)
    notice(f"{arguments.results}: {files} files in {arguments.out}")


def sharing_commands(commands: Commands) -> None:
    """Add the commands of this room."""
    _card_arguments(commands.add_parser("card", help="write a model card beside weights"))
    _export_arguments(
        commands.add_parser("export-network", help="write a network as ONNX or torch.export")
    )
    _crate_arguments(commands.add_parser("crate", help="pack a finished run as an RO-Crate"))
