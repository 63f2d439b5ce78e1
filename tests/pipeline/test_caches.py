"""Compiled code has a place also where the installation and HOME cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.caches import COMPILED, DRAWING, PACKAGE, prepare_caches

# A folder that no user can write in, root neither: it cannot be made below a file.
NOWHERE = Path(__file__) / "nowhere"


def prepare(package: Path, environment: dict[str, str]) -> list[str]:
    told: list[str] = []
    prepare_caches(package, environment, told.append)
    return told


def test_an_installation_that_can_be_written_keeps_its_own(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    assert prepare(tmp_path / "package", environment) == []
    assert COMPILED not in environment
    assert DRAWING not in environment


def test_a_read_only_installation_compiles_into_the_users_cache(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert prepare(NOWHERE, environment) == []
    kept = Path(environment[COMPILED])
    assert kept.is_dir()
    assert kept.is_relative_to(tmp_path / "cache" / "midframe" / "compiled")


def test_without_a_home_a_temporary_folder_is_used_and_told_in_one_line() -> None:
    environment = {"HOME": str(NOWHERE)}
    (told,) = prepare(NOWHERE, environment)
    assert "will be compiled again next time" in told
    assert Path(environment[COMPILED]).is_dir()
    assert Path(environment[DRAWING]).is_dir()


def test_what_the_user_has_set_stays() -> None:
    given = {"HOME": str(NOWHERE), COMPILED: "/mine", DRAWING: "/mine"}
    environment = dict(given)
    assert prepare(NOWHERE, environment) == []
    assert environment == given


@pytest.mark.slow
def test_a_kernel_runs_in_a_read_only_installation_under_a_read_only_home(tmp_path: Path) -> None:
    """Read only by Python's own hand, as file permissions do not bind root."""
    program = f"""
import os, sys
root = {str(PACKAGE.parent)!r}
def refuse(event, arguments):
    if event in ("open", "os.mkdir") and str(arguments[0]).startswith((root, "/nowhere")):
        writes = event == "os.mkdir" or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes:
            raise OSError(30, "Read-only file system", arguments[0])
sys.addaudithook(refuse)
from pipeline.caches import prepare_caches
prepare_caches()
import numpy as np
from pipeline.flow.optical_flow import compute_flow
frame = np.zeros((32, 32, 3), np.uint8)
print(compute_flow(frame, frame).shape)
"""
    environment = {
        name: value for name, value in os.environ.items() if name not in (COMPILED, DRAWING)
    } | {"HOME": "/nowhere", "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("XDG_CACHE_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "(32, 32, 2)\n", done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "will be compiled again next time" in done.stderr
