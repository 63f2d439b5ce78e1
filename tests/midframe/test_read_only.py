"""An installation and a HOME on a read-only file system."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]
MOUNTED = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@pytest.fixture(scope="module")
def installation(
    wheel_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, list[str]]]:
    """A folder with the packages and a home, and the words before a command that finds it so.

    Permissions do not bind root, for whom it is mounted read-only, in a name space of its own.
    """
    folder = tmp_path_factory.mktemp("read-only")
    with zipfile.ZipFile(wheel_file) as wheel:
        wheel.extractall(folder)
    (folder / "home").mkdir()
    if os.name == "posix" and os.geteuid() != 0:
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for path in folders:
            path.chmod(0o555)
        yield folder, []
        for path in folders:
            path.chmod(0o755)
        return
    if shutil.which("unshare") is None:
        pytest.skip("no program unshare, to mount a read-only file system by")
    before = ["unshare", "--mount", "sh", "-c", MOUNTED, str(folder)]
    tried = subprocess.run([*before, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no read-only file system can be mounted here: {tried.stderr.strip()}")
    yield folder, before


@pytest.fixture
def run(installation: tuple[Path, list[str]], tmp_path: Path) -> Run:
    """Runs ``midframe`` of the installation in a folder that can be written."""
    packages, before = installation
    (tmp_path / "temporary").mkdir()

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "XDG_", "NUMBA_", "MPL"))
        }
        done = subprocess.run(
            [*before, sys.executable, "-m", "midframe", *words],
            cwd=tmp_path,
            env={
                **environment,
                "HOME": str(packages / "home"),
                "PYTHONPATH": str(packages),
                "TMPDIR": str(tmp_path / "temporary"),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def clips(tmp_path: Path) -> str:
    """Five frames of a moving pattern."""
    folder = tmp_path / "clips" / "walk"
    folder.mkdir(parents=True)
    texture = np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)
    for number in range(5):
        picture = np.roll(texture.repeat(8, 0).repeat(8, 1), 3 * number, axis=1)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return str(tmp_path / "clips")


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines that are neither a command's own progress nor what it reports."""
    words = ("compiled again", "Matplotlib", "Error", "Warning", "cache")
    return [line for line in done.stderr.splitlines() if any(word in line for word in words)]


@pytest.mark.slow
def test_scoring_and_drawing_say_one_line_of_what_is_compiled_again(
    run: Run, clips: str, installation: tuple[Path, list[str]], tmp_path: Path
) -> None:
    fast = ["--settings", '{"method": "dis"}']  # the other methods compile for a minute
    (told,) = complaints(run("score", clips, "--out", "motion", "--workers", "2", *fast))
    assert told == (
        f"neither {installation[0] / 'pipeline'} nor {installation[0]}/home/.cache/midframe can be "
        "written, so compiled code is lost at the end and will be compiled again next time; set "
        "NUMBA_CACHE_DIR to keep it"
    )
    pictures = ["--settings", '{"pictures": ["*"]}']
    run("evaluate", clips, "--model", "linear", "--out", "scores", *pictures)
    drawn = run("figures", "--evaluation", "scores", "--out", "figures", NUMBA_CACHE_DIR="kept")
    assert complaints(drawn) == []
    assert list((tmp_path / "figures").glob("*.png"))
    assert not list((tmp_path / "temporary").glob("midframe-*"))


@pytest.mark.slow
def test_the_doctor_warns_of_it_and_of_a_cache_that_is_kept(
    run: Run, installation: tuple[Path, list[str]], tmp_path: Path
) -> None:
    lines = {line[8:20].strip(): line for line in run("doctor").stdout.splitlines()}
    assert lines["home"].startswith("warn")
    assert lines["kernel cache"].startswith("warn")
    assert lines["kernel cache"].endswith(", deleted at the end")
    kept = run("doctor", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert f"the installation, {installation[0]}, is read-only" in kept.stdout
    assert complaints(kept) == []
