import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.training.patches import (
    Augmentation,
    ReadAhead,
    batches,
    centre_crop,
    check_usable,
    epoch_order,
)
from pipeline.errors import MidframeError
from pipeline.store.patch_store import PatchStore

Triplet = NDArray[np.uint8]


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, write_patches: Callable[..., Path]
) -> PatchStore:
    """13 patches of 40 pixels."""
    path = write_patches(
        tmp_path_factory.mktemp("patches") / "train", [*range(0, 27, 3), *[27] * 4]
    )
    return PatchStore.open(path)


def augmentation(**changes: object) -> Augmentation:
    values = {"crop": 4, "crop_position": "centre", "augment": True, "temporal_swap": True}
    return Augmentation(**({"seed": 0} | values | changes))  # type: ignore[arg-type]


def numbered() -> Triplet:
    """A triplet in which every pixel of every frame is another."""
    return np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4, 1).repeat(3, axis=3)


def same(triplet: Triplet, _: int) -> Triplet:
    return triplet


def outcomes(samples: int, **changes: object) -> Counter[bytes]:
    apply = augmentation(**changes).apply
    return Counter(apply(numbered(), 1, sample).tobytes() for sample in range(samples))


def test_each_transform_has_the_probability_of_the_paper() -> None:
    triplet = numbered()
    expected = {
        "none": (triplet, 1 / 4),
        "vertical flip": (triplet[:, ::-1], 1 / 4),
        "horizontal flip": (triplet[:, :, ::-1], 1 / 4),
        "quarter turn left": (np.rot90(triplet, 1, (1, 2)), 1 / 8),
        "quarter turn right": (np.rot90(triplet, -1, (1, 2)), 1 / 8),
    }
    count = 4000
    found = outcomes(count, temporal_swap=False)
    assert sum(found[transformed.tobytes()] for transformed, _ in expected.values()) == count
    for name, (transformed, probability) in expected.items():
        deviation = (probability * (1 - probability) / count) ** 0.5
        share = found[transformed.tobytes()] / count
        assert share == pytest.approx(probability, abs=4 * deviation), name


def test_half_of_the_samples_are_swapped_in_time() -> None:
    count = 2000
    found = outcomes(count, augment=False)
    forward, backward = found[numbered().tobytes()], found[numbered()[::-1].tobytes()]
    assert forward + backward == count
    assert backward / count == pytest.approx(1 / 2, abs=4 * (1 / 4 / count) ** 0.5)


@given(sample=st.integers(0, 2**40), epoch=st.integers(0, 10_000))
def test_frames_of_a_triplet_get_the_same_transform(sample: int, epoch: int) -> None:
    triplet = np.stack([numbered()[0]] * 3)
    first, middle, third = augmentation(crop=3, crop_position="random").apply(
        triplet, epoch, sample
    )
    assert np.array_equal(first, middle)
    assert np.array_equal(middle, third)


def test_middle_frame_stays_in_the_middle() -> None:
    triplet = numbered()
    for sample in range(20):
        middle = augmentation().apply(triplet, 0, sample)[1]
        assert set(middle.flat) == set(triplet[1].flat)


def test_nothing_is_done_where_all_is_off() -> None:
    assert outcomes(50, augment=False, temporal_swap=False) == {numbered().tobytes(): 50}


def test_random_crops_reach_every_place_and_the_centre_crop_one() -> None:
    triplet = numbered()
    values = {"augment": False, "temporal_swap": False, "crop": 2}
    random = augmentation(crop_position="random", **values)
    centre = augmentation(crop_position="centre", **values)
    corners = {int(random.apply(triplet, 0, sample)[0, 0, 0, 0]) for sample in range(300)}
    assert corners == {row * 4 + column for row in range(3) for column in range(3)}
    assert {int(centre.apply(triplet, 0, sample)[0, 0, 0, 0]) for sample in range(9)} == {5}


def test_switching_the_swap_off_leaves_crops_and_transforms_as_they_were() -> None:
    for sample in range(30):
        one = augmentation(crop=2, crop_position="random").apply(numbered(), 3, sample)
        two = augmentation(crop=2, crop_position="random", temporal_swap=False).apply(
            numbered(), 3, sample
        )
        assert np.array_equal(one, two) or np.array_equal(one[::-1], two)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 2}])
def test_another_seed_or_epoch_draws_other_transforms(other: dict[str, int]) -> None:
    def draw(seed: int = 0, epoch: int = 1) -> list[bytes]:
        apply = augmentation(seed=seed).apply
        return [apply(numbered(), epoch, sample).tobytes() for sample in range(20)]

    assert draw() == draw()
    assert draw() != draw(**other)


def test_every_epoch_has_every_sample_once_in_another_order() -> None:
    one, two = epoch_order(50, 0, 1), epoch_order(50, 0, 2)
    assert sorted(one) == sorted(two) == list(range(50))
    assert list(one) != list(two)
    assert list(one) == list(epoch_order(50, 0, 1))


def test_batches_hold_the_samples_of_the_order_and_the_last_one_is_smaller(
    store: PatchStore,
) -> None:
    order = epoch_order(len(store), 0, 1)
    found = list(batches(store, order, 4, same))
    assert [batch.total for batch in found] == [4, 4, 4, 1]
    assert np.array_equal(np.concatenate([batch.samples for batch in found]), order)
    assert np.array_equal(np.concatenate([b.triplets for b in found]), store.read(order))


def test_batches_after_an_interruption_are_those_that_were_left(store: PatchStore) -> None:
    order = epoch_order(len(store), 0, 1)
    whole, rest = list(batches(store, order, 4, same)), list(batches(store, order, 4, same, 2))
    assert len(rest) == 2
    for one, two in zip(whole[2:], rest, strict=True):
        assert np.array_equal(one.triplets, two.triplets)


@settings(max_examples=15, deadline=None)
@given(processes=st.integers(1, 5), batch_size=st.integers(5, 13))
def test_processes_share_the_batches_of_one(
    store: PatchStore, processes: int, batch_size: int
) -> None:
    order = epoch_order(len(store), 0, 1)
    shares = [
        list(batches(store, order, batch_size, same, process=p, processes=processes))
        for p in range(processes)
    ]
    for number, one in enumerate(batches(store, order, batch_size, same)):
        parts = [share[number] for share in shares]
        counted = [part.samples for part in parts if part.share > 0]
        assert sorted(np.concatenate(counted)) == sorted(one.samples)
        assert sum(part.share for part in parts) == pytest.approx(1)
        assert all(len(part.triplets) for part in parts)


def test_centre_crop_is_the_middle() -> None:
    assert np.array_equal(centre_crop(numbered(), 2), numbered()[:, 1:3, 1:3])


def test_reading_ahead_keeps_the_order() -> None:
    with ReadAhead(iter(range(20))) as reader:
        assert list(reader) == list(range(20))


def test_reading_ahead_passes_errors_on() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise MidframeError("sample 7 is damaged")

    with ReadAhead(broken()) as reader, pytest.raises(MidframeError, match="sample 7"):
        list(reader)


def test_reading_ahead_stops_with_its_reader() -> None:
    threads = threading.active_count()
    with ReadAhead(iter(range(1000))) as reader:
        assert next(iter(reader)) == 0
    assert threading.active_count() == threads


def test_stores_that_share_a_frame_are_refused(
    store: PatchStore, tmp_path: Path, write_patches: Callable[..., Path]
) -> None:
    other = PatchStore.open(write_patches(tmp_path / "validation", [29, 40]))
    with pytest.raises(MidframeError, match="share frames: bikes, frame 29"):
        check_usable(store, other, 32)


def test_stores_of_neighbouring_frames_are_accepted(
    store: PatchStore, tmp_path: Path, write_patches: Callable[..., Path]
) -> None:
    other = PatchStore.open(write_patches(tmp_path / "validation", [30, 33]))
    check_usable(store, other, 40)


def test_crop_larger_than_the_patches_is_refused(
    store: PatchStore, tmp_path: Path, write_patches: Callable[..., Path]
) -> None:
    other = PatchStore.open(write_patches(tmp_path / "validation", [30]))
    with pytest.raises(MidframeError, match="patches of 40 pixels are smaller than the crop of 41"):
        check_usable(store, other, 41)
