"""What an evaluation directory holds: written by a measurement, read by tables and pages."""

from pathlib import Path

KIND = "evaluation"
FORMAT_VERSION = 4
SCORES = "scores.csv"
PICTURES = "predictions"


def picture_path(directory: Path, sequence: str, first_frame: int, what: str) -> Path:
    """Where the PNG of a triplet lies: ``what`` is ``"truth"`` or ``"prediction"``."""
    return directory / sequence / f"{first_frame:05d}-{what}.png"
