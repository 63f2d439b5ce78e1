"""The tutorial can be typed from its first line to its last."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import commands

# The same way in less time: fewer triplets, and one epoch.
SHORTER = {'"stride": 12': '"stride": 48', '"epochs": 4': '"epochs": 1', "epoch-0004": "epoch-0001"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_of_the_tutorial_runs(tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands("docs/tutorial.md"):
        for long, short in SHORTER.items():
            command = command.replace(long, short)
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
    for made in ("look/index.html", "table/table.md", "smooth.mp4", "stage/metrics.csv"):
        assert (tmp_path / "tutorial" / made).is_file(), made
