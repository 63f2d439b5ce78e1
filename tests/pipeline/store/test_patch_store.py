"""The patch store gives back what was put in, to every reader, and tells where it is damaged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from pipeline.errors import MidframeError
from pipeline.provenance import write_manifest
from pipeline.store.patch_store import (
    Codec,
    PatchStore,
    create,
    shard_file,
    small_files,
    verify,
    write_shard,
)


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


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_batches_come_one_after_the_other_as_they_are_asked_for(patches: Path, count: int) -> None:
    store = PatchStore.open(patches)
    asked = [[number, number + 3] for number in range(count)]
    found = list(store.read_batches(iter(asked)))
    assert len(found) == count
    for indices, triplets in zip(asked, found, strict=True):
        np.testing.assert_array_equal(triplets, store.read(indices))


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
    with pytest.raises(MidframeError, match=r"sample \d+ is damaged .* run `midframe verify"):
        store.read(range(len(store)))


def test_a_flipped_bit_is_found_in_whichever_file_it_is(
    copy: Path, noise: np.random.Generator
) -> None:
    files = [file for file in copy.rglob("*") if file.is_file() and file.name != "manifest.json"]
    assert len(files) > 15
    for file in files:
        sound = file.read_bytes()
        data = bytearray(sound)
        data[noise.integers(len(data))] ^= 1 << noise.integers(8)
        file.write_bytes(data)
        assert [line.split(": ")[0] for line in verify(copy)] == [str(file)]
        file.write_bytes(sound)
    assert verify(copy) == []


def test_a_sample_that_has_gone_is_not_read_as_black(copy: Path) -> None:
    shard(copy).unlink()
    with pytest.raises(MidframeError, match="sample 1 is damaged"):
        PatchStore.open(copy).read([1, 0])


@pytest.mark.parametrize("codec", ["uncompressed", "lz4", "zstd"])
def test_every_codec_gives_back_the_same_pixels_to_every_reader(
    codec: Codec, tmp_path: Path, noise: np.random.Generator
) -> None:
    triplets = noise.integers(0, 256, (7, 3, 16, 16, 3), dtype=np.uint8)
    triplets[3] = 0
    create(tmp_path / "patches.zarr", 7, 16, 4, codec)
    for first in (4, 0):
        write_shard(tmp_path / "patches.zarr", first, triplets[first : first + 4])
    write_manifest(tmp_path, "patches", 2, {"shard_samples": 4}, files=small_files(tmp_path))
    store = PatchStore.open(tmp_path)
    np.testing.assert_array_equal(store.read([6, 3, 0]), triplets[[6, 3, 0]])
    np.testing.assert_array_equal(zarr.open_array(store.path / "patches.zarr/triplet")[:], triplets)
    assert verify(tmp_path) == []
    assert shard_file(tmp_path / "patches.zarr", 1).is_file()


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
    with pytest.raises(MidframeError, match="format version 99, but this program reads version 2"):
        PatchStore.open(copy)


def test_an_unfinished_store_is_refused(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(MidframeError, match="is it still being written"):
        PatchStore.open(copy)


def test_another_kind_of_directory_is_refused(dataset: Path) -> None:
    with pytest.raises(MidframeError, match="is a frames directory, not a patches directory"):
        PatchStore.open(dataset)
