"""What pip installs elsewhere: all code, what it reads at run time, and the command."""

import zipfile
from pathlib import Path

import pytest

from tests.midframe.conftest import repository_files


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_file)


def test_a_wheel_holds_all_code_and_what_it_reads(wheel: zipfile.ZipFile) -> None:
    packed = set(wheel.namelist())
    missing = set(repository_files("midframe", "pipeline", "model")) - packed
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
