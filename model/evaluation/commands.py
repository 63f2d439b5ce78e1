"""Commands that measure: ``evaluate``, ``predict`` and ``fetch-lpips``.

Heavy imports are inside the commands, so that ``--help`` answers at once.
"""

import argparse
from pathlib import Path

from pipeline.command_line import Commands, output_argument, settings_argument, threads_argument
from pipeline.locations import location


def model_arguments(
    parser: argparse.ArgumentParser, command: bool = False, files: bool = False
) -> None:
    """The model; with ``command`` and ``files`` also what other programs predict, instead."""
    source = parser.add_mutually_exclusive_group(required=True)
    if files:
        source.add_argument(
            "--predictions",
            type=location,
            metavar="PATH",
            help="score what is made already: a folder with SEQUENCE/FIRST.png, a video numbered "
            "as the true frames, or what `predict` has kept",
        )
    if command:
        source.add_argument(
            "--command",
            dest="program",
            metavar="C",
            help="call another program for each triplet: 'prog {first} {third} {out}'",
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=600,
            metavar="S",
            help="seconds that a call of --command may take (default: %(default)g)",
        )
    source.add_argument(
        "--model",
        metavar="WEIGHTS",
        help="a weights file; or, without weights, 'flow' for warping along the motion, "
        "'flow-fast' for the same at twice the speed, 'linear' for the mean of the two frames",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where the network runs (default: auto, CUDA or else Apple's MPS if there is one)",
    )


def _frames_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "frames",
        type=location,
        metavar="FRAMES",
        help="a dataset, a folder of videos or image folders, or one video",
    )


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _frames_argument(parser)
    model_arguments(parser, command=True, files=True)
    output_argument(parser, "directory to write: scores.csv and the pictures asked for")
    parser.add_argument(
        "--label", metavar="NAME", help="name of the model in tables (default: that of its file)"
    )
    parser.add_argument(
        "--lpips",
        type=Path,
        metavar="DIR",
        help="folder of the weights of LPIPS, which `perceptual: [lpips]` needs",
    )
    threads_argument(parser)
    settings_argument(parser, "settings of the evaluation")
    parser.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    from model.evaluation.evaluate import evaluate
    from model.settings import EvaluationSettings
    from pipeline.settings import load

    evaluate(
        arguments.frames,
        arguments.model,
        load(EvaluationSettings, arguments.settings),
        arguments.out,
        label=arguments.label,
        device=arguments.device,
        predictions=arguments.predictions,
        command=arguments.program,
        timeout=arguments.timeout,
        lpips=arguments.lpips,
    )


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    _frames_argument(parser)
    model_arguments(parser, command=True)
    output_argument(parser, "directory to write: SEQUENCE/FIRST.npy or .png")
    parser.add_argument(
        "--label", metavar="NAME", help="name of the model in tables (default: that of its file)"
    )
    threads_argument(parser)
    settings_argument(parser, "settings of the evaluation; keep: float or png16")
    parser.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> None:
    from model.evaluation.kept import keep_predictions
    from model.evaluation.predictions import source_of
    from model.settings import EvaluationSettings
    from pipeline.settings import load

    source, label, inputs = source_of(
        arguments.model, arguments.program, arguments.device, arguments.timeout
    )
    settings = load(EvaluationSettings, arguments.settings)
    keep_predictions(
        arguments.frames, source, settings, arguments.out, arguments.label or label, inputs
    )


def _fetch_lpips_arguments(parser: argparse.ArgumentParser) -> None:
    output_argument(parser, "folder for the two files (233 MB)")
    parser.set_defaults(command=_fetch_lpips)


def _fetch_lpips(arguments: argparse.Namespace) -> None:
    from model.network.lpips import fetch_lpips

    fetch_lpips(arguments.out)


def evaluation_commands(commands: Commands) -> None:
    """Add the commands of this room."""
    _evaluate_arguments(commands.add_parser("evaluate", help="measure a model on triplets"))
    _predict_arguments(
        commands.add_parser("predict", help="keep a model's predictions, to be measured later")
    )
    _fetch_lpips_arguments(
        commands.add_parser("fetch-lpips", help="download the weights that LPIPS needs")
    )
