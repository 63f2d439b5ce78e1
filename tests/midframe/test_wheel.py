"""What pip installs elsewhere: all code, what it reads at run time, and the command."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the repository's files, so that nothing else gets in."""
    pytest.importorskip("setuptools", minversion="77", reason="pyproject.toml asks for it")
    copy = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "midframe",
            "pipeline",
            "model",
            "workflow",
            "*.toml",
            "*.md",
            "LICENSE",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    for name in filter(lambda name: (ROOT / name).is_file(), listed):
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
    return zipfile.ZipFile(copy / "dist" / done.stdout.splitlines()[-1])


def test_a_wheel_holds_all_code_and_what_it_reads(wheel: zipfile.ZipFile) -> None:
    packed = set(wheel.namelist())
    files = subprocess.run(
        ["git", "ls-files", "midframe", "pipeline", "model"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    missing = {name for name in files if (ROOT / name).is_file()} - packed
    assert not missing


def test_a_wheel_holds_neither_tests_nor_benchmarks(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} <= {
        "midframe",
        "midframe-0.1.0.dist-info",
        "model",
        "pipeline",
        "workflow",
    }


def test_a_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    entries = wheel.read("midframe-0.1.0.dist-info/entry_points.txt").decode()
    assert "midframe = midframe.__main__:main" in entries
