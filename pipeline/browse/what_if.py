"""What other settings would take of the windows that were tried, by the rules of `sample`."""

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.errors import MidframeError
from pipeline.selection.candidates import WHOLE_SCHEMA
from pipeline.selection.judging import (
    CODES,
    UNTRIED,
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
    "flow_cut_threshold",
    "repeat_threshold",
    "max_brightness_change",
    "max_misfit",
    "max_black_share",
    "tries",
    "max_taken",
    "max_overlap",
    "max_per_sequence",
)
CHANGES = ("same", "gained", "lost")
# Settings that need a column which not every store has.
MEASURED = {"flow_cut_threshold": "flow_cut", "max_misfit": "misfit"}
COLUMNS = tuple(field.name for field in fields(Windows))[1:]
# Answers that are kept: a byte a window each.
KEPT = 8
_TAKEN = CODES[Reason.TAKEN]


def prepare() -> None:
    """Compile what judges windows, which takes seconds once after an installation, or load it."""
    nothing = (np.zeros(0, WHOLE_SCHEMA.field(name).type.to_pandas_dtype()) for name in COLUMNS)
    judge(Windows(np.zeros(0, np.int64), *nothing), PatchSettings())


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
        self._sequences, self._numbers = sequences, numbers
        self._windows = Windows(triplets, **{name: numbers[name] for name in COLUMNS})
        self._before, self._excluded = reasons == _TAKEN, reasons == CODES[Reason.EXCLUDED]
        self._kept: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

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
            column = MEASURED.get(name)
            if column and changes[name] is not None and np.isnan(self._numbers[column]).all():
                raise MidframeError(
                    f"what if: {name}: needs cuts that were measured with the method 'flow', which "
                    "those of this store were not"
                )
        changed = validate(PatchSettings, self._settings | dict(changes), "what if")
        for name in changes:
            value = getattr(changed, name)
            # Answers are JSON, which has no word for infinity.
            if isinstance(value, float) and not math.isfinite(value):
                raise MidframeError(f"what if: {name}: a finite number is needed, not {value}")
        if changed.tries > self._settings["tries"]:
            raise MidframeError(
                f"what if: tries: only the {self._settings['tries']} windows that were tried in "
                "each triplet are known; build a store with more to see those"
            )
        return changed

    def outcomes(self, changes: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The code (see `REASONS`) of every window, as `sample` with these settings gives it.

        Windows that would not be tried have the code `UNTRIED`. The last answers are kept.
        """
        settings = self.settings(changes)
        key = settings.model_dump_json()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        tried = None
        if settings.tries < self._settings["tries"]:
            tried = self._numbers["attempt"] < settings.tries
        codes = judge(self._windows, settings, tried)
        limit_sequences(codes, self._sequences, self._numbers["lot"], settings.max_per_sequence)
        # What a user has excluded stays so.
        codes[self._excluded & (codes == _TAKEN)] = CODES[Reason.EXCLUDED]
        codes.flags.writeable = False
        with self._lock:
            self._kept[key] = codes
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return codes

    def changes(self, changes: Mapping[str, Any]) -> NDArray[np.uint8]:
        """For each window whether it is taken as before (0), too (1) or no more (2)."""
        now = self.outcomes(changes) == _TAKEN
        return (now & ~self._before) + 2 * (self._before & ~now).astype(np.uint8)

    def answer(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Counts in total, by sequence and by reason, and the settings as YAML; JSON values."""
        codes = self.outcomes(changes)
        # Of each sequence: windows taken neither before nor now, only before, only now, both times.
        kinds = self._sequences * 4 + 2 * (codes == _TAKEN) + self._before
        counts = np.bincount(kinds, minlength=4 * len(self._names)).reshape(-1, 4)
        sequences = {
            "before": counts[:, 1] + counts[:, 3],
            "now": counts[:, 2] + counts[:, 3],
            "gained": counts[:, 2],
            "lost": counts[:, 1],
        }
        reasons = np.bincount(codes, minlength=UNTRIED + 1)
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
