"""The patch store gives back what was put in, to every reader, and tells where it is damaged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from pipeline.errors import MidframeError
from pipeline.patch_store import PatchStore, verify


@pytest.fixture
def copy(patches: Path, tmp_path: Path) -> Path:
    """A patch directory that a test may damage."""
    return Path(shutil.copytree(patches, tmp_path / "copy"))


def shard(directory: Path) -> Path:
    return directory / "patches.zarr" / "triplet" / "c" / "0" / "0" / "0" / "0" / "0"


def test_reads_are_in_the_order_asked_for(patches: Path) -> None:
    store = PatchStore.open(patches)
    everything = store.read(range(len(store)))
    assert everything.shape == (len(store), 3, 48, 48, 3)
    np.testing.assert_array_equal(store.read([5, 0, 5]), everything[[5, 0, 5]])
    assert store.read([]).shape == (0, 3, 48, 48, 3)


def test_an_index_outside_the_store_is_refused(patches: Path) -> None:
    store = PatchStore.open(patches)
    for index in (-1, len(store)):
        with pytest.raises(IndexError, match=f"sample {index} of a store of {len(store)}"):
            store.read([index])


def test_zarr_python_reads_the_same_pixels(patches: Path) -> None:
    array = zarr.open_array(patches / "patches.zarr" / "triplet", mode="r")
    store = PatchStore.open(patches)
    np.testing.assert_array_equal(np.asarray(array[:]), store.read(range(len(store))))


def test_xarray_shows_labelled_dimensions_and_coordinates(patches: Path) -> None:
    data = xarray.open_zarr(patches / "patches.zarr", consolidated=False)
    assert data["triplet"].dims == ("sample", "frame", "y", "x", "channel")
    assert set(data["triplet"].coords) == {
        "sequence",
        "first_frame",
        "top",
        "left",
        "motion",
        "cut_distance",
        "split",
    }
    assert data["motion"].attrs["units"] == "pixel"


def test_the_table_has_one_row_a_sample(patches: Path) -> None:
    store = PatchStore.open(patches)
    table = store.table()
    assert len(table) == len(store)
    assert set(table["split"]) == {"train"}
    assert set(table["sequence"]) <= {"cut", "ride"}


def test_a_sound_store_verifies(patches: Path) -> None:
    assert verify(patches) == []


def test_a_flipped_bit_is_found_and_its_file_named(copy: Path) -> None:
    data = bytearray(shard(copy).read_bytes())
    data[len(data) // 3] ^= 1
    shard(copy).write_bytes(data)
    (damage,) = verify(copy)
    assert str(shard(copy)) in damage
    store = PatchStore.open(copy)
    with pytest.raises(MidframeError, match=r"sample \d+ is damaged .* run `python -m pipeline"):
        store.read(range(len(store)))


def test_a_truncated_shard_is_found(copy: Path) -> None:
    shard(copy).write_bytes(shard(copy).read_bytes()[:-100])
    (damage,) = verify(copy)
    assert str(shard(copy)) in damage


def test_a_missing_shard_is_found(copy: Path) -> None:
    shard(copy).unlink()
    assert verify(copy) == [f"{shard(copy)}: missing"]


def test_a_store_of_another_version_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(MidframeError, match="format version 99, but this program reads version 1"):
        PatchStore.open(copy)


def test_an_unfinished_store_is_refused(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(MidframeError, match="is it still being written"):
        PatchStore.open(copy)


def test_another_kind_of_directory_is_refused(dataset: Path) -> None:
    with pytest.raises(MidframeError, match="is a frames directory, not a patches directory"):
        PatchStore.open(dataset)
