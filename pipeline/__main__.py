"""``python -m pipeline``: the data stages, from videos to a patch store."""

import argparse
import sys
from pathlib import Path

from pipeline.command_line import (
    Commands,
    cluster_arguments,
    output_argument,
    run,
    settings_argument,
)
from pipeline.errors import MidframeError
from pipeline.locations import location
from pipeline.settings import (
    CutSettings,
    DatasetSettings,
    MotionSettings,
    PatchSettings,
    load,
)

FRAMES = "dataset directory, or any folder of videos and folders of images, or its s3:// URL"


def _fetch(arguments: argparse.Namespace) -> None:
    from pipeline.sources.datasets import fetch

    given = {} if arguments.dataset is None else {"source": arguments.dataset}
    if arguments.path is not None:
        given["path"] = arguments.path
    fetch(
        load(DatasetSettings, arguments.settings, **given),
        arguments.out,
        arguments.archives,
        arguments.workers,
        arguments.scheduler,
    )


def _score(arguments: argparse.Namespace) -> None:
    from pipeline.selection.motion import score

    score(
        arguments.frames,
        arguments.out,
        load(MotionSettings, arguments.settings),
        arguments.workers,
        arguments.scheduler,
    )


def _cuts(arguments: argparse.Namespace) -> None:
    from pipeline.selection.cuts import measure

    measure(
        arguments.frames,
        arguments.out,
        load(CutSettings, arguments.settings),
        arguments.workers,
        arguments.scheduler,
    )


def _sample(arguments: argparse.Namespace) -> None:
    from pipeline.selection.patches import sample
    from pipeline.selection.triplets import Source

    if not len(arguments.frames) == len(arguments.motion) == len(arguments.cuts):
        raise MidframeError("sample: give as many --motion and --cuts directories as FRAMES")
    sample(
        [
            Source(*paths)
            for paths in zip(arguments.frames, arguments.motion, arguments.cuts, strict=True)
        ],
        arguments.out,
        load(PatchSettings, arguments.settings),
        arguments.workers,
        arguments.scheduler,
        arguments.apart_from,
        arguments.exclude,
    )


def _verify(arguments: argparse.Namespace) -> None:
    from pipeline.mirrors import shown
    from pipeline.provenance import manifest_kind
    from pipeline.store import motion_store, patch_store

    verify = {motion_store.KIND: motion_store.verify, patch_store.KIND: patch_store.verify}
    damage = verify[manifest_kind(arguments.directory, list(verify))](arguments.directory)
    if damage:
        raise MidframeError("\n".join(damage))
    print(f"{shown(arguments.directory)}: intact")


def _inspect(arguments: argparse.Namespace) -> None:
    from pipeline.look.inspection import inspect

    inspect(arguments.directory, arguments.out)


def _browse(arguments: argparse.Namespace) -> None:
    from pipeline.extras import needs

    with needs("browse", "browse"):
        from pipeline.browse.server import browse
    browse(arguments.directories, arguments.port, not arguments.no_open)


def _export(arguments: argparse.Namespace) -> None:
    from pipeline.store.export import export

    export(
        arguments.directories,
        arguments.out,
        arguments.format,
        arguments.workers,
        arguments.scheduler,
        arguments.exclude,
    )


def _exclude_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exclude",
        type=location,
        nargs="+",
        default=[],
        metavar="FLAGS",
        help="skip the windows that these files of flags (see browse) mark as bad",
    )


def add_commands(commands: Commands) -> None:
    """Add the data commands, in the order in which a dataset is built."""
    fetch = commands.add_parser("fetch", help="get a dataset: download, or take a folder")
    fetch.add_argument(
        "dataset",
        nargs="?",
        metavar="DATASET",
        help="davis-2016, davis-2017-trainval, davis-2017-test-dev, sample-clips, folder (of "
        "videos and folders of images) or list (of such files)",
    )
    fetch.add_argument(
        "--path",
        help="the folder (folder), a .txt, .csv or .parquet file of paths, with a start and an end "
        "in seconds where only a part is wanted (list), or an archive on disk (davis-...)",
    )
    fetch.add_argument(
        "--archives",
        type=Path,
        metavar="DIR",
        help="where downloaded archives are kept (default: archives beside OUT)",
    )
    output_argument(fetch, "dataset directory to write")
    settings_argument(fetch, "dataset settings")
    cluster_arguments(fetch)
    fetch.set_defaults(command=_fetch)

    score = commands.add_parser(
        "score", help="optical flow of every triplet (resumes a run that stopped)"
    )
    score.add_argument("frames", type=location, metavar="FRAMES", help=FRAMES)
    output_argument(score, "motion directory to write")
    settings_argument(score, "motion settings")
    cluster_arguments(score)
    score.set_defaults(command=_score)

    cuts = commands.add_parser("cuts", help="histogram distance of all neighbouring frames")
    cuts.add_argument("frames", type=location, metavar="FRAMES", help=FRAMES)
    output_argument(cuts, "cuts directory to write")
    settings_argument(cuts, "cut settings")
    cluster_arguments(cuts)
    cuts.set_defaults(command=_cuts)

    sample = commands.add_parser("sample", help="choose windows and write the patch store")
    sample.add_argument("frames", type=location, nargs="+", metavar="FRAMES", help=FRAMES)
    sample.add_argument("--motion", type=location, nargs="+", required=True, metavar="DIR")
    sample.add_argument("--cuts", type=location, nargs="+", required=True, metavar="DIR")
    sample.add_argument(
        "--apart-from",
        type=location,
        nargs="+",
        default=[],
        metavar="PATCHES",
        help="patch directories that must share no frame with the new one, such as the training "
        "patches when validation patches are chosen",
    )
    _exclude_argument(sample)
    output_argument(sample, "patch directory to write")
    settings_argument(sample, "patch settings")
    cluster_arguments(sample)
    sample.set_defaults(command=_sample)

    verify = commands.add_parser("verify", help="read a whole store; exit 1 if it is damaged")
    verify.add_argument("directory", type=location, metavar="DIR", help="motion or patch directory")
    verify.set_defaults(command=_verify, fresh=True)

    inspect = commands.add_parser("inspect", help="summary and contact sheet of a patch store")
    inspect.add_argument("directory", type=location, metavar="DIR", help="patch directory")
    output_argument(inspect, "where summary.json, contact_sheet.png and index.html go")
    inspect.set_defaults(command=_inspect)

    browse = commands.add_parser(
        "browse", help="a local page to look at patches and candidates, and to compare models"
    )
    browse.add_argument(
        "directories",
        type=location,
        nargs="+",
        metavar="DIR",
        help="patch or evaluation directory; also the dataset and motion directories of the "
        "patches, where they do not lie beside them",
    )
    browse.add_argument(
        "--port",
        type=int,
        default=8750,
        metavar="P",
        help="of this machine only; 0: any free one (default: 8750)",
    )
    browse.add_argument("--no-open", action="store_true", help="do not open a browser")
    browse.set_defaults(command=_browse)

    export = commands.add_parser(
        "export", help="write patches in the layout of Vimeo-90K or as WebDataset shards"
    )
    export.add_argument(
        "directories",
        type=location,
        nargs="+",
        metavar="PATCHES",
        help="patch directory; several (training and validation) go into one export, kept apart "
        "by their split",
    )
    export.add_argument(
        "--format",
        required=True,
        choices=["vimeo90k", "webdataset"],
        help="vimeo90k: sequences/00001/0001/im1.png … im3.png and lists; webdataset: tar files",
    )
    _exclude_argument(export)
    output_argument(export, "directory to write")
    cluster_arguments(export)
    export.set_defaults(command=_export)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all data commands."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="From videos to a store of patches. Commands are listed in the order in "
        "which a dataset is built; each writes one directory, whole or not at all.",
    )
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return parser


if __name__ == "__main__":
    sys.exit(run(build_parser()))
