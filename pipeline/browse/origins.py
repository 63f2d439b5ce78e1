"""Where the frames and the motion of a patch directory lie, by what its manifest says of them."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import MidframeError
from pipeline.frames.sequences import FrameSequence, open_frames
from pipeline.provenance import MANIFEST, input_digest
from pipeline.store.motion_store import MotionStore

# Directories beside a store that are looked at.
MOST = 500


def find_inputs(path: Path, manifest: dict[str, Any], given: Sequence[Path]) -> dict[str, Path]:
    """The directories of a store's ``inputs``, as far as they are found.

    Looked for among ``given``, and in the folders around the store, where an experiment keeps them.
    What is found has the very digest that the manifest names.
    """
    wanted = {digest: name for name, digest in manifest["inputs"].items()}
    found: dict[str, Path] = {}
    for directory in (*given, *_around(path.absolute())):
        if len(found) == len(wanted):
            break
        if (directory / MANIFEST).is_file():
            name = wanted.get(input_digest(directory))
            if name is not None:
                found.setdefault(name, directory)
    return found


def _around(path: Path) -> Iterator[Path]:
    seen = 0
    for root, pattern in ((path.parent, "*"), (path.parent, "*/*"), (path.parent.parent, "*/*")):
        for directory in sorted(root.glob(f"{pattern}/{MANIFEST}")):
            seen += 1
            if seen > MOST:
                return
            yield directory.parent


class Origins:
    """Access to the frames and motion that a patch directory was made from.

    They are opened when they are first asked for; ``given`` are directories to look at before those
    around the store.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], given: Sequence[Path] = ()) -> None:
        self._path, self._manifest, self._given = path, manifest, given

    @cached_property
    def _inputs(self) -> dict[str, Path]:
        return find_inputs(self._path, self._manifest, self._given)

    @cached_property
    def _sequences(self) -> dict[str, FrameSequence]:
        found: dict[str, FrameSequence] = {}
        for name, path in sorted(self._inputs.items()):
            if name.endswith("/frames"):
                for sequence in open_frames(path):
                    found.setdefault(sequence.name, sequence)
        return found

    @cached_property
    def _motion(self) -> dict[str, tuple[MotionStore, dict[int, int]]]:
        found: dict[str, tuple[MotionStore, dict[int, int]]] = {}
        for name, path in sorted(self._inputs.items()):
            if name.endswith("/motion"):
                store = MotionStore(path)
                for sequence in store.manifest["sequences"]:
                    rows = {first: i for i, first in enumerate(store.first_frames(sequence))}
                    found.setdefault(sequence, (store, rows))
        return found

    def sequence(self, name: str) -> FrameSequence:
        """The sequence of this name.

        Raises
        ------
        MidframeError
            if its dataset is not found.
        """
        if name not in self._sequences:
            raise MidframeError(
                f"the frames of '{name}' are not found near {self._path}; give their dataset "
                "directory to browse too"
            )
        return self._sequences[name]

    def motion(self, name: str, first_frame: int) -> tuple[MotionStore, int]:
        """The motion store that holds a triplet, and its row.

        Raises
        ------
        MidframeError
            if it is not found.
        """
        store, rows = self._motion.get(name, (None, {}))
        if store is None or first_frame not in rows:
            raise MidframeError(
                f"the motion of '{name}' is not found near {self._path}; give its motion "
                "directory to browse too"
            )
        # What is missing of a Zarr array reads as its fill value, without an error.
        if not (store.path / MANIFEST).is_file():
            raise MidframeError(f"{store.path}: is gone; score the motion again")
        return store, rows[first_frame]
