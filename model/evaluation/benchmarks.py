"""Published benchmarks, as they lie on disk when unpacked: where the frames of each triplet are.

None of them is downloaded: their licences and addresses are their authors'. Each layout says
where it is to be had if it is not found.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pipeline.errors import MidframeError
from pipeline.frames.decoding import IMAGE_MODES, IMAGE_SUFFIXES
from pipeline.reading import explain, reading

SNU_FILM_SUBSETS = ("easy", "medium", "hard", "extreme")


@dataclass(frozen=True)
class ImageTriplet:
    """Three image files: the first frame, the true frame in the middle, the third frame."""

    sequence: str
    first_frame: int
    paths: tuple[Path, Path, Path]

    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the headers of the three files.

        Raises
        ------
        MidframeError
            if one of them is missing, no image, of another size, or not 8-bit RGB or grey.
        """
        sizes = [self._size(path) for path in self.paths]
        for path, (width, height) in zip(self.paths, sizes, strict=True):
            if (width, height) != sizes[0]:
                raise MidframeError(
                    f"{path}: is {width}x{height}, but {self.paths[0].name} is "
                    f"{sizes[0][0]}x{sizes[0][1]}; a triplet needs frames of one size"
                )
        return sizes[0]

    def _size(self, path: Path) -> tuple[int, int]:
        if not path.is_file():
            raise MidframeError(f"{path}: is missing, so {self.sequence} is no whole triplet")
        try:
            with Image.open(path) as image:
                mode, size = image.mode, (image.width, image.height)
        except (UnidentifiedImageError, OSError):
            raise MidframeError(f"{path}: not an image that can be read") from None
        if mode not in IMAGE_MODES:
            raise MidframeError(f"{path}: colour mode {mode}; 8-bit RGB or grey images are needed")
        return size


def find_triplets(folder: Path, layout: str, subset: str | None = None) -> list[ImageTriplet]:
    """The triplets of a benchmark, in the order of its list or of their names.

    Parameters
    ----------
    folder : where the benchmark is unpacked.
    layout : ``"middlebury"``, ``"vimeo-90k"``, ``"ucf101"``, ``"snu-film"``, or ``"triplets"``
        for any folder of folders of three images.
    subset : of SNU-FILM: ``"easy"``, ``"medium"``, ``"hard"`` or ``"extreme"``.

    Raises
    ------
    MidframeError
        if the benchmark is not there, with where to get it.
    """
    if absent := absence(folder, layout):
        raise MidframeError(absent)
    find, what = LAYOUTS[layout]
    triplets = find(folder, subset)
    if not triplets:
        raise MidframeError(f"{folder}: holds no triplet in the layout '{layout}'; {what}")
    return triplets


def absence(folder: Path, layout: str) -> str | None:
    """Say that a benchmark is not there and where to get it; ``None`` if it is there.

    Parameters
    ----------
    folder : where it should be unpacked; of ``"sequences"`` also a video file.
    layout : as in `find_triplets`, or ``"sequences"``.
    """
    what = SEQUENCES if layout == "sequences" else LAYOUTS[layout][1]
    if folder.is_dir():
        return None if any(folder.iterdir()) else f"{folder}: is empty; {what}"
    if folder.is_file():
        return None if layout == "sequences" else f"{folder}: is a file, not a folder; {what}"
    return f"{folder}: no such folder; {what}"


def _middlebury(folder: Path, subset: str | None) -> list[ImageTriplet]:
    """``other-data/NAME/frame10.png`` with ``other-gt-interp/NAME/frame10i11.png``, or all three
    files in one folder, as sepconv-slomo has them."""
    triplets = []
    for truth in sorted(folder.rglob("frame10i11.png")):
        name = truth.parent.name
        beside = truth.parent
        if truth.parent.parent.name == "other-gt-interp":
            beside = truth.parent.parent.parent / "other-data" / name
        paths = (beside / "frame10.png", truth, beside / "frame11.png")
        triplets.append(ImageTriplet(name, 10, paths))
    return triplets


def _vimeo(folder: Path, subset: str | None) -> list[ImageTriplet]:
    """``tri_testlist.txt`` and ``sequences/00001/0001/im1.png`` to ``im3.png``."""
    return [
        ImageTriplet(
            name,
            1,
            tuple(folder / "sequences" / name / f"im{i}.png" for i in (1, 2, 3)),  # type: ignore[arg-type]
        )
        for name in _lines(folder / "tri_testlist.txt")
    ]


def _ucf101(folder: Path, subset: str | None) -> list[ImageTriplet]:
    """Numbered folders with ``frame_00.png``, ``frame_01_gt.png`` and ``frame_02.png``."""
    found = sorted(folder.rglob("frame_01_gt.png"), key=lambda path: _natural(path.parent.name))
    return [
        ImageTriplet(
            truth.parent.name,
            0,
            (truth.with_name("frame_00.png"), truth, truth.with_name("frame_02.png")),
        )
        for truth in found
    ]


def _snu_film(folder: Path, subset: str | None) -> list[ImageTriplet]:
    """``test-easy.txt`` and so on, three paths a line, and ``test/GOPRO_test/NAME/000001.png``.

    The lists begin their paths with the place they had at their authors', up to ``test/``.
    """
    if subset not in SNU_FILM_SUBSETS:
        raise MidframeError(f"subset: of SNU-FILM, one of {', '.join(SNU_FILM_SUBSETS)} is needed")
    lists = [folder / f"test-{subset}.txt", folder / "eval_modes" / f"test-{subset}.txt"]
    file = next((path for path in lists if path.is_file()), lists[0])
    triplets = []
    for line in _lines(file):
        names = [re.sub(r"^.*?(?=test/)", "", name, count=1) for name in line.split()]
        if len(names) != 3:
            raise MidframeError(f"{file}: '{line}' does not name three images")
        first, truth, third = (folder / name for name in names)
        with reading(file, f"'{names[0]}' is not test/…/NUMBER.png"):
            sequence = Path(names[0]).parent.relative_to("test").as_posix()
            triplets.append(ImageTriplet(sequence, int(first.stem), (first, truth, third)))
    return triplets


def _folders(folder: Path, subset: str | None) -> list[ImageTriplet]:
    """Folders of three images each, which in the order of their names are the three frames."""
    triplets = []
    for inner in sorted(path for path in folder.rglob("*") if path.is_dir()):
        images = sorted(p for p in inner.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            continue
        name = inner.relative_to(folder).as_posix()
        if len(images) != 3:
            raise MidframeError(f"{inner}: holds {len(images)} images, but a triplet is three")
        triplets.append(ImageTriplet(name, 0, (images[0], images[1], images[2])))
    return triplets


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MidframeError(
            f"{file}: the list of triplets cannot be read ({explain(error)})"
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _natural(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)


SEQUENCES = "a folder of videos or of image folders is needed, or one video"

# Each layout's reader, and what to do if the benchmark is not there.
LAYOUTS: dict[str, tuple[Callable[[Path, str | None], list[ImageTriplet]], str]] = {
    "middlebury": (
        _middlebury,
        "Middlebury's other-color-allframes.zip and other-gt-interp.zip, unpacked side by side, "
        "are at https://vision.middlebury.edu/flow/data/",
    ),
    "vimeo-90k": (
        _vimeo,
        "the triplet test set of Vimeo-90K (tri_testlist.txt, sequences/) is at "
        "http://toflow.csail.mit.edu/",
    ),
    "ucf101": (
        _ucf101,
        "the 379 triplets of Deep Voxel Flow (ucf101_interp_ours) are at "
        "https://github.com/liuziwei7/voxel-flow",
    ),
    "snu-film": (
        _snu_film,
        "SNU-FILM (test-easy.txt and so on, test/) is at https://myungsub.github.io/CAIN/",
    ),
    "triplets": (_folders, "folders of three images each are needed"),
}
