"""Everything about one window: its numbers, why it is (not) in the data, and its neighbours."""

from typing import Any

import numpy as np

from pipeline.browse.collection import Collection
from pipeline.selection.judging import Reason


def describe(collection: Collection, row: int) -> dict[str, Any]:
    """A window with its explanation and neighbours, as JSON values."""
    told = collection.describe(row)
    triplets = collection.triplets
    first, last = np.searchsorted(triplets, [triplets[row], triplets[row] + 1])
    return told | {
        "generation": collection.generation,
        "because": explain(told, collection.store.manifest["settings"]),
        "triplet": [
            {"row": other["row"], "reason": other["reason"]}
            for other in collection.describe_all(np.arange(first, last))
        ],
        "previous_triplet": _first_of(collection, row, int(first) - 1),
        "next_triplet": _first_of(collection, row, int(last)),
    }


def _first_of(collection: Collection, row: int, other: int) -> int | None:
    """The first row of the triplet that ``other`` belongs to, if it is of the same sequence."""
    sequence = collection.codes["sequence"]
    if not 0 <= other < len(collection) or sequence[other] != sequence[row]:
        return None
    return int(np.searchsorted(collection.triplets, collection.triplets[other]))


def explain(window: dict[str, Any], settings: dict[str, Any]) -> str:
    """Why a window was taken or refused: the rule, with the numbers that led to it."""
    reason, draw = Reason(window["reason"]), f"its draw is {window['draw']:.4f}"
    scale, threshold = settings["motion_scale"], settings["cut_threshold"]
    if reason is Reason.JUMP_CUT:
        if window["flow_cut"] is None:
            return (
                "a jump cut lies in the triplet: the histograms differ by "
                f"{window['cut_distance']:.3g}, more than {threshold:g}"
            )
        return (
            f"a jump cut lies in the triplet: a pair of its frames fits {window['flow_cut']:.3g} "
            f"times worse than those around it, more than {settings['flow_cut_threshold']:g}"
        )
    if reason is Reason.REPEATED_FRAME:
        return (
            f"a frame repeats the one before it: it changes {window['repeat']:.3g} times as much "
            f"as the other pair does, less than {settings['repeat_threshold']:g}"
        )
    if reason is Reason.BRIGHTNESS:
        return (
            f"its brightness changes by {window['brightness_change']:.3g} levels, more than "
            f"{settings['max_brightness_change']:g}"
        )
    if reason is Reason.MISFIT:
        return (
            f"its middle frame differs by {window['misfit']:.3g} levels from what motion makes of "
            f"the outer two, more than {settings['max_misfit']:g}"
        )
    if reason is Reason.BLACK_BARS:
        return (
            f"black bars cover {window['black_share']:.0%} of it, more than "
            f"{settings['max_black_share']:.0%}"
        )
    if reason is Reason.UNKNOWN_MOTION:
        return "its motion is not known: the flow holds places without a vector"
    if settings["window"] == "centre":
        chance = "the window in the centre is always accepted"
    else:
        share = min(window["motion"] / scale, 1)
        chance = (
            f"it moves by {window['motion']:.3g} px and {scale:g} px are always accepted, so its "
            f"chance is {share:.4f}; {draw}"
        )
    after = {
        Reason.LITTLE_MOTION: ", which is not below",
        Reason.ENOUGH_TAKEN: f", but {settings['max_taken']} of its triplet were taken before it",
        Reason.OVERLAP: (
            f", but it shares more than {settings['max_overlap']:.0%} of its area with one taken "
            "before it"
        ),
        Reason.ENOUGH_OF_SEQUENCE: (
            f", but its sequence may give {settings['max_per_sequence']}, and its lot "
            f"{window['lot']:.4f} is not among the smallest"
        ),
        Reason.EXCLUDED: ", but somebody marked it bad (--exclude)",
    }
    if reason is Reason.TAKEN and settings["window"] != "centre":
        return f"{chance}, which is below"
    return chance + after.get(reason, "")
