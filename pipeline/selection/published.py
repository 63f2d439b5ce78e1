"""What the paper took from DAVIS (Kartasev et al. 2018, section 3.1), to stand beside a store."""

from collections.abc import Mapping
from typing import Any

# Stride-3 triplets of the archives; windows, 30 tried in each; patches, as the paper states them.
DAVIS_COUNTS: dict[str, dict[str, int]] = {
    "davis-2016": {"triplets": 1135, "windows": 34050, "patches": 9952},
    "davis-2017-trainval": {"triplets": 2037, "windows": 61110, "patches": 16768},
}


def beside_paper(manifest: Mapping[str, Any]) -> dict[str, dict[str, int]] | None:
    """Counts of a patch directory beside the paper's; ``None`` if it is not of one of its datasets.

    Parameters
    ----------
    manifest : that of the patch directory.

    Returns
    -------
    For ``triplets``, ``windows`` (tried) and ``patches``: ``paper``, ``here``, ``difference``.
    """
    settings, sources = manifest["settings"], manifest["dataset_sources"]
    whole = settings["sequences"] == ["*"] and settings["part"] == [0.0, 1.0]
    if not whole or settings["count"] is not None or settings["window"] != "random":
        return None
    if len(sources) != 1 or sources[0] not in DAVIS_COUNTS:
        return None
    here = {
        "triplets": manifest["triplets"],
        "windows": sum(manifest["windows"].values()),
        "patches": manifest["samples"],
    }
    return {
        what: {"paper": paper, "here": here[what], "difference": here[what] - paper}
        for what, paper in DAVIS_COUNTS[sources[0]].items()
    }


def describe(manifest: Mapping[str, Any]) -> str:
    """One line: triplets, windows and patches of a store, beside the paper's where it has them."""
    paper = beside_paper(manifest)
    counts = {
        "triplets": manifest["triplets"],
        "windows": sum(manifest["windows"].values()),
        "patches": manifest["samples"],
    }
    return ", ".join(
        f"{count:,} {what}" + (f" (paper: {paper[what]['paper']:,})" if paper else "")
        for what, count in counts.items()
    )
