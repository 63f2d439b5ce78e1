"""One command for both packages: quick to answer, complete, and able to explain itself."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import model.__main__
import pipeline.__main__
from midframe.__main__ import build_parser
from midframe.completion import commands_of, script
from pipeline.command_line import run

ROOT = Path(__file__).parents[2]


def midframe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "midframe", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_command_of_both_packages_is_a_command_of_midframe() -> None:
    data = commands_of(pipeline.__main__.build_parser())
    networks = commands_of(model.__main__._parser())
    assert not data.keys() & networks.keys()
    assert commands_of(build_parser()).keys() == {*data, *networks, "doctor", "completion"}


@pytest.mark.parametrize("name", commands_of(build_parser()))
def test_a_command_says_by_which_name_it_was_called(name: str) -> None:
    assert commands_of(build_parser())[name].format_usage().startswith(f"usage: midframe {name} ")


def test_a_command_of_each_package_runs(
    small_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cuts = ["cuts", str(small_frames), "--out", str(tmp_path / "cuts"), "--workers", "0"]
    assert run(build_parser(), cuts) == 0
    assert (tmp_path / "cuts" / "manifest.json").is_file()
    assert run(build_parser(), ["tables", "--out", str(tmp_path / "table")]) == 1
    assert "midframe: error: tables: give evaluations" in capsys.readouterr().err


def test_help_loads_no_heavy_library() -> None:
    program = (
        "import sys\n"
        "from midframe.__main__ import build_parser\n"
        "build_parser().format_help()\n"
        "heavy = {'torch', 'cv2', 'zarr', 'numba', 'pandas', 'dask', 'av', 'shtab', 'numpy'}\n"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == []


def test_the_version_is_that_of_the_package() -> None:
    done = midframe("--version")
    assert (done.returncode, done.stdout) == (0, f"midframe {metadata.version('midframe')}\n")


def test_no_command_shows_what_there_is() -> None:
    done = midframe()
    assert done.returncode == 2
    assert done.stderr.startswith("usage: midframe ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completion_knows_commands_and_options(shell: str) -> None:
    text = script(build_parser(), shell)
    for word in ("score", "interpolate", "doctor", "times"):
        assert word in text


def test_bash_completes_commands_and_files(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()
    (tmp_path / "completion").write_text(script(build_parser(), "bash"))
    program = (
        "source ./completion; "
        'complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); '
        '_shtab_midframe; echo "${COMPREPLY[@]}"; }; '
        "complete_words midframe inter; complete_words midframe interpolate --model wei; "
        "complete_words midframe score --out wei"
    )
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["interpolate", *2 * ["weights.safetensors"]]
