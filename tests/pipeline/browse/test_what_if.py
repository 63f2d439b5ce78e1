"""What other settings would take is what `sample` takes with them, window by window."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.browse.collection import Collection
from pipeline.browse.what_if import prepare
from pipeline.errors import MidframeError
from pipeline.selection.cuts import measure
from pipeline.selection.judging import REASONS, _judge
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.settings import CutSettings, PatchSettings
from pipeline.store.patch_store import PatchStore
from tests.conftest import SMALL_PATCHES


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"motion_scale": 6.0},
        {"cut_threshold": 1.0},
        {"tries": 5, "max_taken": 2},
        {"max_overlap": 0.3, "max_taken": 3},
        {"max_per_sequence": 4},
        {"repeat_threshold": 0.9},
        {"max_brightness_change": 10.0, "max_black_share": 0.5},
        {"max_black_share": 0.0},
        {"repeat_threshold": None, "motion_scale": 3.0},
        {"motion_scale": 3.0, "cut_threshold": 1.0, "max_overlap": 0.5, "max_per_sequence": 6},
    ],
)
def test_the_answer_is_what_sample_takes(
    source: Source, patches: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    collection = Collection(patches)
    settings = PatchSettings.model_validate(SMALL_PATCHES.model_dump() | changes)
    sample([source], tmp_path / "out", settings, workers=0)
    built = PatchStore.open(tmp_path / "out")
    codes = collection.what_if.outcomes(changes)
    answered = [REASONS[code].value for code in codes if code < len(REASONS)]
    assert answered == built.candidates()["reason"].tolist()
    told = collection.what_if.answer(changes)
    assert told["total"]["now"] == len(built)
    assert told["total"]["before"] == len(collection.store)
    assert told["total"]["now"] - told["total"]["before"] == (
        told["total"]["gained"] - told["total"]["lost"]
    )
    now = {row["name"]: row["now"] for row in told["sequences"] if row["now"]}
    assert now == built.table()["sequence"].value_counts().to_dict()


def test_cuts_and_misfits_by_flow_are_asked_where_they_were_measured(
    source: Source, patches: Path, tmp_path: Path
) -> None:
    measure(source.frames, tmp_path / "cuts", CutSettings(method="flow"), workers=0)
    by_flow = Source(source.frames, source.motion, tmp_path / "cuts")
    sample([by_flow], tmp_path / "before", SMALL_PATCHES, workers=0)
    collection = Collection(tmp_path / "before")
    misfits = collection.numbers["misfit"]
    changes = {"flow_cut_threshold": 1000.0, "max_misfit": float(np.nanmedian(misfits))}
    settings = SMALL_PATCHES.model_copy(update=changes)
    sample([by_flow], tmp_path / "after", settings, workers=0)
    told = collection.what_if.answer(changes)
    assert told["total"]["now"] == len(PatchStore.open(tmp_path / "after"))
    assert told["reasons"]["middle does not fit"] > 0
    for name in changes:
        with pytest.raises(MidframeError, match=f"{name}: needs cuts that were measured"):
            Collection(patches).what_if.answer({name: 2.0})


def test_all_is_compiled_before_the_first_question(patches: Path) -> None:
    prepare()
    Collection(patches).what_if.answer({"motion_scale": 2.0, "repeat_threshold": None})
    assert len(_judge.signatures) == 1


def test_what_cannot_be_answered_is_said(patches: Path) -> None:
    asked = Collection(patches).what_if
    with pytest.raises(MidframeError, match="'patch_size' cannot be asked"):
        asked.answer({"patch_size": 32})
    with pytest.raises(MidframeError, match="only the 8 windows that were tried"):
        asked.answer({"tries": 9})
    with pytest.raises(MidframeError, match="motion_scale"):
        asked.answer({"motion_scale": -1})
    with pytest.raises(MidframeError, match="a finite number is needed"):
        asked.answer({"motion_scale": float("inf")})


def test_changes_mark_what_is_gained_and_lost(patches: Path) -> None:
    collection = Collection(patches)
    changes = {"motion_scale": 4.0, "cut_threshold": 1.0}
    told = collection.what_if.answer(changes)["total"]
    counts = np.bincount(collection.what_if.changes(changes), minlength=3)
    assert counts[1:].tolist() == [told["gained"], told["lost"]]
    assert min(counts) > 0
