"""Files that several tests of reading share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.frames.made_files import ffmpeg


@pytest.fixture(scope="session")
def make(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a file of 40 frames by FFmpeg, from 0.4 s of bikes on so that a jump cut lies in it."""
    folder = tmp_path_factory.mktemp("videos")

    def encode(name: str, options: str) -> Path:
        file = folder / name
        if not file.exists():
            small = ["-s", "160x96"] if "-s " not in options else []
            source = ["-ss", "0.4", "-i", clips / "bikes.mp4", "-frames:v", "40", "-an"]
            ffmpeg(*source, *small, *options.split(), file)
        return file

    return encode
