"""A wheel built from the repository's files, for the tests of what pip installs elsewhere."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKED = ("midframe", "pipeline", "model", "workflow")


def repository_files(*places: str) -> list[str]:
    """Files under version control, as far as they exist."""
    listed = subprocess.run(
        ["git", "ls-files", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the repository's files, so that nothing else gets in."""
    pytest.importorskip("setuptools", minversion="77", reason="pyproject.toml asks for it")
    copy = tmp_path_factory.mktemp("wheel")
    for name in repository_files(*PACKED, "*.toml", "*.md", "LICENSE"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", build],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return copy / "dist" / done.stdout.splitlines()[-1]
