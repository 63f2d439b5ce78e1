"""Patch stores in the layouts that other frame-interpolation code reads.

``vimeo90k`` is the triplet data set of Xue et al. (2019, http://toflow.csail.mit.edu):
``sequences/00001/0001/im1.png`` to ``im3.png``, at most 1,000 triplets in a folder, and
``tri_trainlist.txt`` and ``tri_testlist.txt``, which name them. ``webdataset`` is tar files of
1,000 samples, each with ``im1.png`` to ``im3.png`` and its coordinates as ``json``. Both are
lossless.
"""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.cluster import connect
from pipeline.progress import progress
from pipeline.provenance import publish, write_manifest
from pipeline.store.flags import Window, read_excluded
from pipeline.store.patch_store import PatchStore

Layout = Literal["vimeo90k", "webdataset"]
FORMAT_VERSION = 1
# Triplets in one folder of Vimeo-90K, and samples in one tar file.
GROUP = 1000
TRAIN_LIST, TEST_LIST, COORDINATES = "tri_trainlist.txt", "tri_testlist.txt", "coordinates.csv"
# Samples that are in memory at once.
BATCH = 64


@dataclass(frozen=True)
class _Group:
    """Samples of one store that become one folder or one tar file."""

    patches: Path
    samples: tuple[int, ...]
    target: Path
    first_key: int  # number of the first sample in the whole split


def export(
    stores: Sequence[Path],
    out: Path,
    layout: Layout,
    workers: int | None = None,
    scheduler: str | None = None,
    exclude: Sequence[Path] = (),
) -> None:
    """Write patch directories in another layout.

    Parameters
    ----------
    stores : patch directories, such as one for training and one for validation.
    out : the directory to write, replaced as a whole.
    layout : ``vimeo90k``: patches whose split is ``train`` are listed in `TRAIN_LIST`, all others
        in `TEST_LIST`; `COORDINATES` has a row for every triplet. ``webdataset``: files are named
        by split.
    exclude : files of flags; windows that they mark as bad are skipped.
    workers, scheduler : see `pipeline.cluster.connect`.

    Raises
    ------
    MidframeError
        if a store is missing or damaged, or ``out`` cannot be written.
    """
    opened = [PatchStore.open(path) for path in stores]
    with publish(out) as folder, connect(workers, scheduler) as cluster:
        groups = list(_groups(opened, folder, layout, read_excluded(exclude)))
        for group in groups:
            group.target.parent.mkdir(parents=True, exist_ok=True)
        write = {"vimeo90k": _write_folders, "webdataset": _write_tar}[layout]
        for _ in progress(
            cluster.map(write, groups),
            sum(len(group.samples) for group in groups),
            f"export {layout}",
            "patches",
            amount=lambda done: len(done[0].samples),
        ):
            pass
        if layout == "vimeo90k":
            _write_lists(opened, groups, folder)
        inputs: dict[str, Path | str] = {str(index): path for index, path in enumerate(stores)}
        inputs |= {f"exclude/{index}": path for index, path in enumerate(exclude)}
        write_manifest(
            folder,
            f"export-{layout}",
            FORMAT_VERSION,
            {"format": layout},
            inputs,
            samples=sum(len(group.samples) for group in groups),
        )


def _groups(
    stores: Sequence[PatchStore], folder: Path, layout: Layout, excluded: Set[Window]
) -> Iterator[_Group]:
    folders = 0
    tars: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    for store in stores:
        split = store.manifest["settings"]["split"]
        samples = _kept(store, excluded)
        for first in range(0, len(samples), GROUP):
            if layout == "vimeo90k":
                folders += 1
                target = folder / "sequences" / f"{folders:05d}"
            else:
                target = folder / f"{split}-{tars[split]:06d}.tar"
                tars[split] += 1
            group = tuple(samples[first : first + GROUP])
            yield _Group(store.path.absolute(), group, target, keys[split])
            keys[split] += len(group)


def _kept(store: PatchStore, excluded: Set[Window]) -> Sequence[int]:
    """The samples that are not excluded."""
    if not excluded:
        return range(len(store))
    columns = store.table()[list(Window._fields)]
    return [
        sample
        for sample, place in enumerate(columns.itertuples(index=False, name=None))
        if place not in excluded
    ]


def _samples(group: _Group) -> Iterator[tuple[int, list[bytes]]]:
    """Position in the group, and the three frames as PNG files."""
    store = PatchStore.open(group.patches)
    for start in range(0, len(group.samples), BATCH):
        positions = range(start, min(start + BATCH, len(group.samples)))
        triplets = store.read(group.samples[start : start + BATCH])
        for position, triplet in zip(positions, triplets, strict=True):
            yield position, [_png(frame) for frame in triplet]


def _png(frame: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def _write_folders(group: _Group) -> None:
    for position, frames in _samples(group):
        folder = group.target / f"{position + 1:04d}"
        folder.mkdir(parents=True)
        for number, png in enumerate(frames, start=1):
            (folder / f"im{number}.png").write_bytes(png)


def _write_tar(group: _Group) -> None:
    table = PatchStore.open(group.patches).table()
    rows = table.iloc[list(group.samples)].to_dict("records")
    with tarfile.open(group.target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for position, frames in _samples(group):
            key = f"{group.first_key + position:08d}"
            for number, png in enumerate(frames, start=1):
                _add(archive, f"{key}.im{number}.png", png)
            # Motion that is unknown becomes null.
            row = {
                name: None if pd.isna(value) else value for name, value in rows[position].items()
            }
            _add(archive, f"{key}.json", json.dumps(row).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    # No times and no owners: the same patches give the same bytes.
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _write_lists(stores: Sequence[PatchStore], groups: Sequence[_Group], folder: Path) -> None:
    names = [
        f"{group.target.name}/{position + 1:04d}"
        for group in groups
        for position in range(len(group.samples))
    ]
    tables = {store.path.absolute(): store.table() for store in stores}
    table = pd.concat(
        [tables[group.patches].iloc[list(group.samples)] for group in groups], ignore_index=True
    )
    table.insert(0, "triplet", names)
    table.to_csv(folder / COORDINATES, index=False)
    for file, rows in (
        (TRAIN_LIST, table[table["split"] == "train"]),
        (TEST_LIST, table[table["split"] != "train"]),
    ):
        (folder / file).write_text("".join(f"{name}\n" for name in rows["triplet"]))
