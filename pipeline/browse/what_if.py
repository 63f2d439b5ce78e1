"""What other settings would take of the windows that were tried, by the rules of `sample`."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.errors import MidframeError
from pipeline.selection.judging import (
    CODES,
    REASONS,
    Reason,
    Windows,
    judge,
    limit_sequences,
)
from pipeline.settings import PatchSettings, validate

# What can be asked without computing motion anew or drawing other windows.
ADJUSTABLE = (
    "motion_scale",
    "cut_threshold",
    "repeat_threshold",
    "tries",
    "max_taken",
    "max_overlap",
    "max_per_sequence",
)
CHANGES = ("same", "gained", "lost")
COLUMNS = tuple(field.name for field in fields(Windows))[1:]
_TAKEN = CODES[Reason.TAKEN]


class WhatIf:
    """The windows of a patch directory, to be judged by other settings.

    Parameters
    ----------
    settings : with which the directory was made.
    triplets, sequences, reasons : numbers of each window's triplet and sequence, and code of its
        reason, int64 ``[n]``.
    names : of the sequences.
    numbers : the columns of numbers.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        triplets: NDArray[np.int64],
        sequences: NDArray[np.int64],
        names: Sequence[str],
        reasons: NDArray[np.int64],
        numbers: Mapping[str, NDArray[Any]],
    ) -> None:
        self._settings, self._names = dict(settings), names
        self._triplets, self._sequences, self._reasons = triplets, sequences, reasons
        self._numbers = numbers

    def settings(self, changes: Mapping[str, Any]) -> PatchSettings:
        """The directory's settings with some changed.

        Raises
        ------
        MidframeError
            if a change cannot be answered, or is out of range.
        """
        for name in changes:
            if name not in ADJUSTABLE:
                raise MidframeError(f"what if: '{name}' cannot be asked; {', '.join(ADJUSTABLE)}")
        changed = validate(PatchSettings, self._settings | dict(changes), "what if")
        if changed.tries > self._settings["tries"]:
            raise MidframeError(
                f"what if: tries: only the {self._settings['tries']} windows that were tried in "
                "each triplet are known; build a store with more to see those"
            )
        return changed

    def outcomes(self, changes: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The code (see `REASONS`) of every window, as `sample` with these settings gives it.

        Windows that would not be tried have the code ``len(REASONS)``.
        """
        settings = self.settings(changes)
        numbers = self._numbers
        codes = np.full(len(self._triplets), len(REASONS), np.uint8)
        tried: slice | NDArray[np.int64] = slice(None)
        if settings.tries < self._settings["tries"]:
            tried = np.flatnonzero(numbers["attempt"] < settings.tries)
        judged = judge(
            Windows(
                self._triplets[tried],
                **{name: numbers[name][tried] for name in COLUMNS},
            ),
            settings,
        )
        limit_sequences(
            judged, self._sequences[tried], numbers["lot"][tried], settings.max_per_sequence
        )
        # What a user has excluded stays so.
        excluded = self._reasons[tried] == CODES[Reason.EXCLUDED]
        judged[excluded & (judged == _TAKEN)] = CODES[Reason.EXCLUDED]
        codes[tried] = judged
        return codes

    def changes(self, changes: Mapping[str, Any]) -> NDArray[np.int64]:
        """For each window whether it is taken as before (0), too (1) or no more (2)."""
        now, before = self.outcomes(changes) == _TAKEN, self._reasons == _TAKEN
        return np.where(now == before, 0, np.where(now, 1, 2))

    def answer(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Counts in total, by sequence and by reason, and the settings as YAML; JSON values."""
        codes = self.outcomes(changes)
        now, before = codes == _TAKEN, self._reasons == _TAKEN
        count = len(self._names)
        sequences = {
            what: np.bincount(self._sequences[mask], minlength=count)
            for what, mask in (
                ("before", before),
                ("now", now),
                ("gained", now & ~before),
                ("lost", before & ~now),
            )
        }
        reasons = np.bincount(codes, minlength=len(REASONS) + 1)
        asked = self.settings(changes).model_dump(mode="json", include=set(ADJUSTABLE))
        return {
            "total": {what: int(counts.sum()) for what, counts in sequences.items()},
            "sequences": [
                {"name": name, **{what: int(counts[i]) for what, counts in sequences.items()}}
                for i, name in enumerate(self._names)
            ],
            "reasons": {reason.value: int(reasons[code]) for reason, code in CODES.items()},
            "settings": asked,
            "yaml": yaml.safe_dump(asked, sort_keys=False),
        }
