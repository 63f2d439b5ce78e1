"""The wheel in an environment that holds the core's dependencies and nothing else.

The environment is made of links to the installed packages, so it needs neither network nor minutes.
"""

import os
import re
import subprocess
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from pipeline.extras import EXTRAS

Run = Callable[..., subprocess.CompletedProcess[str]]


def closure(requirements: list[str]) -> set[str]:
    """Names of distributions that these need, with what those need."""
    found: set[str] = set()
    todo = [(Requirement(line), "") for line in requirements]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name in found:
            continue
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform, or of a build of torch that is not this one
        found.add(name)
        todo += [
            (Requirement(line), part) for line in needed for part in (requirement.extras or {""})
        ]
    return found


def top_level(name: str) -> Iterator[Path]:
    """Files and folders of a distribution in the folder of installed packages."""
    distribution = metadata.distribution(name)
    parts = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
    for part in parts - {"__pycache__"}:
        yield Path(str(distribution.locate_file(part)))


@pytest.fixture(scope="module")
def environment(wheel_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's folder of programs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": folder, "platbase": folder}))
    with zipfile.ZipFile(wheel_file) as wheel:
        wheel.extractall(packages)
        (wanted,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        described = metadata.PathDistribution(packages / Path(wanted).parent)
    core = [line for line in described.requires or [] if "extra ==" not in line]
    for name in closure(core):
        for path in top_level(name):
            if path.exists() and not (packages / path.name).exists():
                (packages / path.name).symlink_to(path)
    return folder / ("Scripts" if os.name == "nt" else "bin")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder as people have them: a video project with modules of the names of our packages."""
    for name in ("model", "pipeline", "workflow"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user's own file was run')\n")
    (tmp_path / "clips" / "walk").mkdir(parents=True)
    random = np.random.default_rng(0)
    texture = random.integers(0, 255, (12, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    for number in range(4):
        picture = np.roll(texture, 3 * number, axis=1)
        Image.fromarray(picture).save(tmp_path / "clips" / "walk" / f"{number}.png")
    return tmp_path


@pytest.fixture
def run(environment: Path, project: Path) -> Run:
    """Runs `midframe` of the environment in the user's folder."""

    def run(*words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            [str(environment / "python"), "-m", "midframe", *map(str, words)],
            cwd=project,
            env=variables | {"NUMBA_CACHE_DIR": str(project.parent / "compiled")},
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.mark.slow
def test_the_core_goes_from_frames_to_a_smoother_picture(run: Run, project: Path) -> None:
    clips = project / "clips"
    fast = '{"method": "dis"}'
    scored = run("score", clips, "--out", "motion", "--settings", fast)
    assert "pip install 'midframe[cluster]'" in scored.stderr
    run("cuts", clips, "--out", "cuts")
    run("evaluate", clips, "--model", "linear", "--out", "scores")
    run("tables", "scores", "--out", "table")
    pictures = clips / "walk" / "0.png", clips / "walk" / "2.png"
    run("interpolate", *pictures, "middle.png", "--model", "linear")
    middle = np.asarray(Image.open(project / "middle.png"), int)
    first, third = (np.asarray(Image.open(picture), int) for picture in pictures)
    assert np.abs(2 * middle - first - third).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        ("train clips --validation clips --out stage", "(accelerate|tensorboard)", "train"),
        ("browse clips", "(starlette|uvicorn)", "browse"),
        ("verify s3://bucket/patches", "obstore", "s3"),
        ("score clips --out motion --workers 2", "(dask|distributed)", "cluster"),
        ("score clips --out motion --scheduler tcp://node1:8786", "(dask|distributed)", "cluster"),
    ],
)
def test_a_command_without_its_extra_says_how_to_get_it(
    run: Run, words: str, package: str, extra: str
) -> None:
    said = run(*words.split(), status=1).stderr.strip().splitlines()[-1]
    assert re.fullmatch(
        rf"midframe: error: .*: needs {package}, which is not installed: "
        rf"pip install 'midframe\[{extra}\]'",
        said,
    )


@pytest.mark.slow
def test_the_environment_lacks_all_extras(run: Run) -> None:
    assert f"not {', '.join(EXTRAS)}" in run("doctor").stdout
