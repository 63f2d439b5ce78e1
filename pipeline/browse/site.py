"""What is served: the directories that were given, opened, and opened again when replaced."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.browse.collection import Collection, generation
from pipeline.browse.evaluations import EvaluationView
from pipeline.browse.origins import Origins
from pipeline.browse.pictures import Pictures
from pipeline.errors import MidframeError
from pipeline.provenance import manifest_kind
from pipeline.selection.cuts import KIND as CUTS
from pipeline.store.evaluation_files import KIND as EVALUATION
from pipeline.store.motion_store import KIND as MOTION
from pipeline.store.patch_store import KIND as PATCHES

KINDS = (PATCHES, EVALUATION, "frames", MOTION, CUTS)


@dataclass(frozen=True)
class Opened:
    """A patch directory as it is now."""

    collection: Collection
    pictures: Pictures


class Shelf:
    """A patch directory that may be replaced while it is served."""

    def __init__(self, path: Path, given: Sequence[Path]) -> None:
        self.path, self._given = path, given
        self._lock = threading.Lock()
        self._opened = self._open()

    def _open(self) -> Opened:
        collection = Collection(self.path)
        # Every page asks for these first.
        _ = collection.columns
        origins = Origins(self.path, collection.store.manifest, self._given)
        return Opened(collection, Pictures(collection, origins))

    def opened(self) -> Opened:
        """The directory, opened anew if another one has taken its name.

        Raises
        ------
        MidframeError
            if it has gone, or what has taken its name cannot be opened.
        """
        with self._lock:
            if generation(self.path) != self._opened.collection.generation:
                self._opened = self._open()
            return self._opened


class Site:
    """All directories of a page.

    Parameters
    ----------
    paths : patch and evaluation directories to show; frames and motion directories, to which those
        of the patches are matched.

    Raises
    ------
    MidframeError
        if one cannot be opened, or there is nothing to show.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        kinds = [manifest_kind(path, KINDS) for path in paths]
        given = [
            path for path, kind in zip(paths, kinds, strict=True) if kind in ("frames", MOTION)
        ]
        self.shelves = [
            Shelf(path, given) for path, kind in zip(paths, kinds, strict=True) if kind == PATCHES
        ]
        self._evaluations = [
            EvaluationView(path)
            for path, kind in zip(paths, kinds, strict=True)
            if kind == EVALUATION
        ]
        if not self.shelves and not self._evaluations:
            raise MidframeError("browse: give a patch directory or an evaluation directory")

    @property
    def evaluations(self) -> list[EvaluationView]:
        """The evaluations, opened anew where another one has taken the name.

        Raises
        ------
        MidframeError
            if one has gone, or what has taken its name cannot be opened.
        """
        self._evaluations = [
            view if view.generation == generation(view.path) else EvaluationView(view.path)
            for view in self._evaluations
        ]
        return self._evaluations
