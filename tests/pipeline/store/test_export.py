"""What is exported is what the store holds, in the layout that other code expects."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.__main__ import build_parser
from pipeline.command_line import run
from pipeline.errors import MidframeError
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.store.export import export
from pipeline.store.patch_store import PatchStore
from tests.conftest import SMALL_PATCHES, directory_bytes


@pytest.fixture(scope="module")
def validation(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second patch directory, for validation."""
    out = tmp_path_factory.mktemp("validation") / "patches"
    changes = {"split": "validation", "window": "centre", "sequences": ["ride"]}
    settings = SMALL_PATCHES.model_validate(SMALL_PATCHES.model_dump() | changes)
    sample([source], out, settings, workers=0)
    return out


def everything(path: Path) -> NDArray[np.uint8]:
    store = PatchStore.open(path)
    return store.read(range(len(store)))


def read_vimeo(folder: Path, list_file: str) -> NDArray[np.uint8]:
    """The triplets of a list file, as code written for Vimeo-90K reads them."""
    names = (folder / list_file).read_text().split()
    return np.stack(
        [
            [np.asarray(Image.open(folder / "sequences" / name / f"im{i}.png")) for i in (1, 2, 3)]
            for name in names
        ]
    )


def test_vimeo90k_gives_back_every_pixel_by_its_lists(
    patches: Path, validation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.export.GROUP", 7)
    export([patches, validation], tmp_path / "out", "vimeo90k", workers=0)
    train = (tmp_path / "out" / "tri_trainlist.txt").read_text().split()
    assert train[:8] == [*(f"00001/{number:04d}" for number in range(1, 8)), "00002/0001"]
    trained = read_vimeo(tmp_path / "out", "tri_trainlist.txt")
    np.testing.assert_array_equal(trained, everything(patches))
    tested = read_vimeo(tmp_path / "out", "tri_testlist.txt")
    np.testing.assert_array_equal(tested, everything(validation))
    coordinates = pd.read_csv(tmp_path / "out" / "coordinates.csv", dtype={"triplet": str})
    assert list(coordinates["triplet"][: len(train)]) == train
    assert list(coordinates["left"][: len(train)]) == list(PatchStore.open(patches).table()["left"])


def test_webdataset_gives_back_every_pixel_and_coordinate(
    patches: Path, validation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.export.GROUP", 7)
    export([patches, validation], tmp_path / "out", "webdataset", workers=0)
    for path, split in ((patches, "train"), (validation, "validation")):
        samples: dict[str, dict[str, bytes]] = {}
        for file in sorted((tmp_path / "out").glob(f"{split}-*.tar")):
            with tarfile.open(file) as archive:
                for entry in archive:
                    key, _, kind = entry.name.partition(".")
                    content = archive.extractfile(entry)
                    assert content is not None
                    samples.setdefault(key, {})[kind] = content.read()
        read = [
            [np.asarray(Image.open(io.BytesIO(files[f"im{i}.png"]))) for i in (1, 2, 3)]
            for files in samples.values()
        ]
        np.testing.assert_array_equal(read, everything(path))
        table = PatchStore.open(path).table().to_dict("records")
        assert [json.loads(files["json"]) for files in samples.values()] == table


@pytest.mark.parametrize("layout", ["vimeo90k", "webdataset"])
def test_the_command_writes_the_same_bytes_again(
    patches: Path, tmp_path: Path, layout: str
) -> None:
    for name in ("once", "again"):
        words = ["export", patches, "--format", layout, "--out", tmp_path / name, "--workers", 0]
        assert run(build_parser(), [str(word) for word in words]) == 0
    assert directory_bytes(tmp_path / "once") == directory_bytes(tmp_path / "again")


def test_a_damaged_store_is_not_exported(patches: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(patches, tmp_path / "copy"))
    shard = copy / "patches.zarr/triplet/c/0/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(MidframeError, match="sample 0 is damaged"):
        export([copy], tmp_path / "out", "vimeo90k", workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
