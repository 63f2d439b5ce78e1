"""Motion of every triplet: the optical flow between its first and third frame.

The flow is computed once and stored; the motion of any window, of any size and under either
statistic, is then a matter of four look-ups in a summed-area table. The motion store therefore
depends on the frames and the flow's settings, never on how patches are sampled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from pipeline.cluster import connect
from pipeline.errors import MidframeError
from pipeline.frames import Frame, FrameSequence, open_frames, triplet_starts
from pipeline.optical_flow import Flow, compute_flow
from pipeline.progress import progress
from pipeline.provenance import publish, read_manifest, write_manifest
from pipeline.settings import MotionSettings

KIND = "motion"
FORMAT_VERSION = 1
STORE = "motion.zarr"
# Triplets in one task: some seconds of work, so that the tasks' overhead does not count and the
# cores run out of work at the same time.
PARTITION_TRIPLETS = 4

Statistic = Literal["mean_magnitude", "norm_of_mean"]


class WindowMotion:
    """Motion of the windows of one triplet, from summed-area tables of its flow.

    Parameters
    ----------
    flow : ``[H, W, 2]``, (dx, dy) in pixels; pixels whose flow is unknown (NaN) count nowhere.
    """

    def __init__(self, flow: NDArray[np.floating]) -> None:
        dx, dy = np.moveaxis(flow.astype(np.float64), -1, 0)
        known = np.isfinite(dx) & np.isfinite(dy)
        dx, dy = np.where(known, dx, 0.0), np.where(known, dy, 0.0)
        planes = np.stack([dx, dy, np.hypot(dx, dy), known])
        self._table = np.zeros((4, flow.shape[0] + 1, flow.shape[1] + 1))
        self._table[:, 1:, 1:] = planes.cumsum(axis=1).cumsum(axis=2)

    def score(self, top: int, left: int, size: int, statistic: Statistic) -> float:
        """Motion in pixels of the window of ``size`` x ``size`` pixels at (``top``, ``left``).

        ``mean_magnitude`` is the mean length of the flow vectors, ``norm_of_mean`` the length of
        the mean vector. NaN if the flow of no pixel in the window is known.
        """
        table, bottom, right = self._table, top + size, left + size
        dx, dy, magnitude, known = (
            table[:, bottom, right]
            - table[:, top, right]
            - table[:, bottom, left]
            + table[:, top, left]
        )
        if known < 0.5:
            return float("nan")
        if statistic == "mean_magnitude":
            return float(magnitude / known)
        return float(np.hypot(dx, dy) / known)


@dataclass(frozen=True)
class _Partition:
    """Neighbouring triplets of one sequence: what one task computes."""

    sequence: FrameSequence
    store: Path
    row: int
    first_frames: tuple[int, ...]
    settings: MotionSettings


def _partitions(
    sequence: FrameSequence, store: Path, settings: MotionSettings
) -> Iterator[_Partition]:
    starts = triplet_starts(sequence, settings.stride)
    for row in range(0, len(starts), PARTITION_TRIPLETS):
        part = tuple(starts[row : row + PARTITION_TRIPLETS])
        yield _Partition(sequence, store, row, part, settings)


def _compute_partition(partition: _Partition) -> None:
    """Compute the flow of a partition's triplets and write it into its rows of the store."""
    settings, first_frames = partition.settings, partition.first_frames
    array = zarr.open_array(partition.store / partition.sequence.name / "flow", mode="r+")
    firsts: dict[int, Frame] = {}
    for index, frame in partition.sequence.read_good(first_frames[0], first_frames[-1] + 3):
        if index in first_frames:
            firsts[index] = frame
        if index - 2 in first_frames:
            row = partition.row + first_frames.index(index - 2)
            array[row] = compute_flow(
                firsts.pop(index - 2), frame, settings.method, **settings.parameters()
            )


def score(
    frames: Path,
    out: Path,
    settings: MotionSettings,
    workers: int | None = None,
    scheduler: str | None = None,
) -> None:
    """Compute the flow of every triplet of a dataset and publish it as a motion store.

    Parameters
    ----------
    frames : a dataset directory, or a folder of videos and image folders.
    out : the motion directory, replaced as a whole.
    settings : stride of the triplets and parameters of the flow.
    workers, scheduler : see `pipeline.cluster.connect`.
    """
    sequences = open_frames(frames)
    with publish(out) as partial:
        store = partial / STORE
        zarr.open_group(store, mode="w-", attributes=settings.model_dump(mode="json"))
        partitions: list[_Partition] = []
        for sequence in sequences:
            _create_arrays(store, sequence, triplet_starts(sequence, settings.stride))
            partitions += _partitions(sequence, store, settings)
        total = sum(len(partition.first_frames) for partition in partitions)
        with connect(workers, scheduler) as cluster:
            for _ in progress(
                cluster.map(_compute_partition, partitions),
                total,
                "optical flow",
                "triplets",
                amount=lambda done: len(done[0].first_frames),
            ):
                pass
        write_manifest(partial, KIND, FORMAT_VERSION, settings, {"frames": frames}, triplets=total)


def _create_arrays(store: Path, sequence: FrameSequence, first_frames: list[int]) -> None:
    group = zarr.open_group(store, mode="r+").require_group(sequence.name)
    group.create_array("first_frame", data=np.array(first_frames, np.int64))
    group.create_array(
        "flow",
        shape=(len(first_frames), sequence.height, sequence.width, 2),
        chunks=(1, sequence.height, sequence.width, 2),
        dtype="float16",
        fill_value=float("nan"),
        compressors=BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", typesize=2),
        dimension_names=("triplet", "y", "x", "component"),
        attributes={"units": "pixel", "component": ["dx", "dy"]},
    )


class MotionStore:
    """Read access to a motion directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path, KIND, FORMAT_VERSION)

    def first_frames(self, sequence: str) -> list[int]:
        """First frames of a sequence's triplets, ascending.

        Raises
        ------
        MidframeError
            if the store does not hold the sequence.
        """
        path = self.path / STORE / sequence / "first_frame"
        if not path.is_dir():
            raise MidframeError(
                f"{self.path}: holds no motion of sequence '{sequence}'; was it made from other "
                "frames?"
            )
        return [int(frame) for frame in np.asarray(zarr.open_array(path, mode="r")[:])]

    def flow(self, sequence: str, row: int) -> Flow:
        """Flow ``[H, W, 2]`` of the triplet at position ``row`` of `first_frames`, in pixels."""
        array = zarr.open_array(self.path / STORE / sequence / "flow", mode="r")
        return np.asarray(array[row], np.float32)
