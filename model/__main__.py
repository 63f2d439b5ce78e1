"""Commands that train, evaluate and use a network: ``python -m model --help``.

Heavy imports are inside the commands, so that ``--help`` answers at once.
"""

import argparse
import sys
from pathlib import Path

from model.evaluation.commands import evaluation_commands, model_arguments
from model.settings import CACHE_GIGABYTES, STATE_MINUTES
from model.sharing.commands import sharing_commands
from pipeline.command_line import (
    Commands,
    output_argument,
    run,
    settings_argument,
    threads_argument,
)
from pipeline.locations import location
from pipeline.progress import notice


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("patches", type=location, metavar="PATCHES", help="patches to train on")
    parser.add_argument(
        "--validation",
        type=location,
        required=True,
        metavar="PATCHES",
        help="patches to validate on; must share no frame with those to train on",
    )
    output_argument(parser, "directory to write: weights, metrics.csv, TensorBoard events")
    parser.add_argument(
        "--init",
        type=location,
        metavar="WEIGHTS",
        help="weights to start from (default: from scratch)",
    )
    parser.add_argument(
        "--vgg",
        type=location,
        metavar="FILE",
        help="torchvision's VGG-19 weights; the losses vgg and combined need them",
    )
    parser.add_argument(
        "--frames",
        type=location,
        metavar="FRAMES",
        help="the dataset that the triplets of the setting visual_tests are in",
    )
    parser.add_argument(
        "--state-minutes",
        type=float,
        default=STATE_MINUTES,
        metavar="M",
        help="minutes between two states that a killed run can resume from (default: %(default)g)",
    )
    parser.add_argument(
        "--cache",
        type=float,
        default=CACHE_GIGABYTES,
        metavar="GB",
        help="of patches under an s3:// URL, keep at most this many gigabytes (of either store) on "
        "this disk once they were read; 0: none (default: %(default)g)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="processes on this machine that share every batch, one a GPU (default: %(default)d)",
    )
    threads_argument(parser)
    settings_argument(parser, "the stage's settings")
    # Nothing that training reads; of a large store it is large (`pipeline.store.patch_store`).
    parser.set_defaults(command=_train, without=["candidates.parquet"])


def _train(arguments: argparse.Namespace) -> None:
    from model.training.launch import is_launched, launch

    if arguments.processes > 1 and not is_launched():
        launch(arguments.processes, sys.argv[1:])
        return
    from model.settings import TrainingSettings
    from pipeline.extras import needs
    from pipeline.settings import load

    with needs("train", "train"):
        from model.training.train import train
    train(
        arguments.patches,
        arguments.validation,
        arguments.out,
        load(TrainingSettings, arguments.settings),
        init=arguments.init,
        vgg=arguments.vgg,
        frames=arguments.frames,
        state_minutes=arguments.state_minutes,
        cache_gigabytes=arguments.cache,
    )


def _tables_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "evaluations",
        type=location,
        nargs="*",
        metavar="EVALUATION",
        help="directories that evaluate has written, one a row",
    )
    parser.add_argument(
        "--skipped",
        metavar="WHY",
        help="write a table without rows that says why there are none",
    )
    output_argument(parser, "directory to write: table.md and table.csv")
    settings_argument(parser, "settings of the table")
    parser.set_defaults(command=_tables)


def _tables(arguments: argparse.Namespace) -> None:
    from model.reporting.tables import make_table, skip_table
    from model.settings import TableSettings
    from pipeline.errors import MidframeError
    from pipeline.settings import load

    settings = load(TableSettings, arguments.settings)
    if bool(arguments.evaluations) == bool(arguments.skipped):
        raise MidframeError("tables: give evaluations, or --skipped and why there are none")
    if arguments.skipped:
        skip_table(arguments.skipped, settings, arguments.out)
        notice(f"{settings.title}: skipped: {arguments.skipped}")
    else:
        make_table(arguments.evaluations, settings, arguments.out)


def _figures_arguments(parser: argparse.ArgumentParser) -> None:
    for name, what in (
        ("training", "trained stages: their losses over the epochs"),
        ("evaluation", "evaluations of the same triplets: true frames beside the predictions"),
        ("resolutions", "evaluations of one model on the same triplets at several resolutions"),
    ):
        parser.add_argument(
            f"--{name}", type=location, nargs="+", default=[], metavar="DIR", help=what
        )
    output_argument(parser, "directory to write: PNG and SVG files")
    settings_argument(parser, "settings of the figures")
    parser.set_defaults(command=_figures)


def _figures(arguments: argparse.Namespace) -> None:
    from model.reporting.figures import make_figures
    from model.settings import FigureSettings
    from pipeline.settings import load

    make_figures(
        arguments.training,
        arguments.evaluation,
        arguments.resolutions,
        load(FigureSettings, arguments.settings),
        arguments.out,
    )


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the page to write, .html"
    )
    parser.add_argument("--title", default="Midframe", help="heading of the page")
    for name, what in (
        ("inspection", "directories that inspect has written"),
        ("training", "trained stages"),
        ("evaluation", "evaluations"),
        ("table", "tables"),
        ("figures", "figures"),
        ("video", "videos, which the page links to"),
    ):
        parser.add_argument(
            f"--{name}", type=Path, nargs="+", default=[], metavar="PATH", help=what
        )
    parser.add_argument(
        "--skipped",
        nargs="+",
        default=[],
        metavar="WHY",
        help="lines that say what was skipped, and why",
    )
    parser.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> None:
    from model.reporting.report import Parts, write_report

    parts = Parts(
        inspections=arguments.inspection,
        trainings=arguments.training,
        evaluations=arguments.evaluation,
        tables=arguments.table,
        figures=arguments.figures,
        videos=arguments.video,
        skipped=arguments.skipped,
    )
    write_report(parts, arguments.out, arguments.title)


def _interpolate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        f"{parser.prog} [-h] --model WEIGHTS [--times N | --rate R] [--between B] [--codec C]\n"
        "       [--image-rate R] [--device D] [--threads N] [--settings S]\n"
        "       (IN OUT | IN ... --out DIR | FIRST THIRD OUT)"
    )
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="a video or a folder of images, and the video (.mp4, .mov, .mkv, .webm) or new folder "
        "of PNG files to write; or two images and the image to write",
    )
    model_arguments(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="do every PATH, and write what is made of it here under its own name",
    )
    parser.add_argument(
        "--times",
        type=int,
        metavar="N",
        help="frames to make of one: any whole number from 2 (default: 2); weights make the middle "
        "only, so for other than 2, 4 and 8 they give the nearest of the halved positions, unless "
        "--between flow",
    )
    parser.add_argument(
        "--rate",
        metavar="R",
        help="frames a second of the new video instead: 60, 60000/1001, 59.94; weights give the "
        "nearest of the positions that halving makes (eighths of the time between two frames), "
        "unless --between flow",
    )
    parser.add_argument(
        "--between",
        choices=("halves", "flow"),
        default="halves",
        help="what weights, which make the middle of two frames, give at other times: the nearest "
        "halved position, or flow between that middle and the two frames (default: halves)",
    )
    parser.add_argument(
        "--codec",
        metavar="C",
        help="h264 (default), hevc, av1, vp9, prores or ffv1, or an encoder of the hardware, such "
        "as hevc_nvenc, hevc_qsv, hevc_amf, hevc_videotoolbox (the setting codec)",
    )
    parser.add_argument(
        "--image-rate",
        default="25",
        metavar="R",
        help="frames a second of a folder of images (default: 25)",
    )
    threads_argument(parser)
    settings_argument(parser, "settings of the video")
    parser.set_defaults(command=_interpolate)


def _interpolate(arguments: argparse.Namespace) -> None:
    from model.video.command import interpolate

    interpolate(arguments)


def _import_weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="network-l1.pytorch or network-lf.pytorch (Niklaus), or pretrained.pth (Kartasev)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="WEIGHTS", help="weights file to write"
    )
    parser.set_defaults(command=_import_weights)


def _import_weights(arguments: argparse.Namespace) -> None:
    from model.network.checkpoints import import_weights

    publication = import_weights(arguments.file, arguments.out)
    notice(
        f"{arguments.file}: {publication.name}, module order {publication.module_order}, "
        f"{publication.colours}; written to {arguments.out}"
    )


def _fetch_vgg_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="file to write (548 MB)"
    )
    parser.set_defaults(command=_fetch_vgg)


def _fetch_vgg(arguments: argparse.Namespace) -> None:
    from model.network.vgg import fetch_vgg

    fetch_vgg(arguments.out)


def add_commands(commands: Commands) -> None:
    """Add the commands of networks, in the order in which they are used."""
    _train_arguments(commands.add_parser("train", help="train one stage"))
    evaluation_commands(commands)
    _tables_arguments(commands.add_parser("tables", help="compare evaluations in a table"))
    _figures_arguments(commands.add_parser("figures", help="draw losses and predictions"))
    _report_arguments(commands.add_parser("report", help="one page about an experiment"))
    _interpolate_arguments(
        commands.add_parser("interpolate", help="raise a video's frame rate, or join two images")
    )
    _import_weights_arguments(
        commands.add_parser("import-weights", help="convert published weights")
    )
    _fetch_vgg_arguments(
        commands.add_parser("fetch-vgg", help="download the VGG-19 that some losses need")
    )
    sharing_commands(commands)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__.split(":")[0])
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return parser


if __name__ == "__main__":
    sys.exit(run(_parser()))
