"""The packages of ``.venv``, by version and hash: ``python -m workflow.packages install``.

``requirements.lock`` holds all, for every system and every Python, with the hashes of all files
that PyPI has of them. ``install`` puts nothing else into the environment of the Python that runs
it, and needs nothing but that Python and its pip. torch is the one package that other indexes build
differently under the same version: pip's configuration chooses the build, and its hash is checked
like that of all the others, before any of its code runs. The libraries of CUDA are installed if the
build asks for them. ``lock`` writes the file, ``sbom`` and ``audit`` ask what is in it.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

LOCK = Path("requirements.lock")
SBOM = Path("build/sbom.cdx.json")
VULNERABILITIES = "https://pypi.org/pypi"  # where pip-audit asks
EXTRAS = ("browse", "docs", "lint", "supply", "test", "workflow")
# No file but that of the lock, and no code of a package that has a wheel before it is all there.
# connection_pool has none; it is built by the setuptools of the lock.
CHECKED = (
    "install",
    "--require-hashes",
    "--no-deps",
    "--no-build-isolation",
    "--only-binary=:all:",
)
SOURCES = ("--no-binary=connection_pool",)
HEADER = """\
# All packages, by version and hash: made by `make lock` from pyproject.toml.
# Builds of torch by other indexes than PyPI, whose hashes are listed too:
"""


def entries(lock: str) -> dict[str, str]:
    """The lines of each package of a lock file, by its name with a dash for ``_`` and ``.``.

    Of a package that has several versions, for several Pythons, the lines follow each other.
    """
    found: dict[str, str] = {}
    for entry in re.findall(r"^[A-Za-z0-9].*(?:\n[ \t]+.*)*", lock, re.MULTILINE):
        name = re.sub(r"[-_.]+", "-", re.split(r"==", entry)[0]).lower()
        found[name] = f"{found.get(name, '')}{entry}\n"
    return found


def version(entry: str) -> str:
    """The version that the lines of a package name."""
    return re.split(r"[\s;\\]", entry.split("==")[1])[0]


def for_cuda(entry: str) -> bool:
    """Whether only torch's CUDA builds need a package: only they depend on any for Linux alone."""
    return "sys_platform == 'linux'" in entry.split("\\")[0]


def pip(*arguments: str, **environment: str) -> None:
    """Run the pip of this Python, with additions to its environment.

    Raises
    ------
    subprocess.CalledProcessError
        if it fails, after it has said why.
    """
    base = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    subprocess.run([*base, *arguments], check=True, env=os.environ | environment)


def install_entries(chosen: Iterable[str], folder: Path, *options: str) -> None:
    """Install packages by their lines of the lock file."""
    file = folder / "requirements.txt"
    file.write_text("".join(chosen), encoding="utf-8")
    pip(*CHECKED, *SOURCES, *options, "--requirement", str(file))


def download_torch(requirement: str, folder: Path) -> Path:
    """The one wheel that pip chooses for a requirement of torch, by its configuration."""
    pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), requirement)
    (wheel,) = folder.glob("torch-*.whl")
    return wheel


def digest(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def check_build(wheel: Path, entry: str) -> None:
    """Stop if a wheel of torch is none of the builds that the lock file lists."""
    if f"sha256:{digest(wheel)}" not in entry:
        sys.exit(
            f"{wheel.name}: the lock file does not list the hash of this build. Take that of PyPI "
            "(look at `pip config list` for other indexes), or let `make lock` add this one"
        )


def install(lock: Path) -> None:
    """Install all packages of a lock file, and then the project itself.

    Raises
    ------
    subprocess.CalledProcessError
        if pip refuses one, or if they do not fit together; pip has said why.
    """
    packages = entries(lock.read_text(encoding="utf-8"))
    torch = packages.pop("torch")
    with tempfile.TemporaryDirectory(prefix="midframe-") as name:
        folder = Path(name)
        install_entries([packages.pop("setuptools")], folder)
        wheel = download_torch(f"torch=={version(torch)}", folder)
        check_build(wheel, torch)
        install_entries([torch], folder, "--no-index", f"--find-links={folder}")
        wheel.unlink()
        install_entries([lines for lines in packages.values() if not for_cuda(lines)], folder)
        if requires_cuda():
            install_entries([lines for lines in packages.values() if for_cuda(lines)], folder)
    # setuptools warns of every editable installation.
    pip("install", "--no-deps", "--no-build-isolation", "--editable", ".", PYTHONWARNINGS="ignore")
    pip("check")


def requires_cuda() -> bool:
    """Whether the torch that is installed asks for libraries of CUDA."""
    # A new process: this one may have looked for packages before they were there.
    question = "import importlib.metadata as m; print(*m.requires('torch') or [], sep='\\n')"
    asked = subprocess.run([sys.executable, "-c", question], check=True, capture_output=True)
    return any(line.startswith(("nvidia-", "cuda-")) for line in asked.stdout.decode().splitlines())


def resolve(lock: Path, upgrade: bool) -> None:
    """Write the lock file again, with the versions that it has as far as pyproject.toml lets them.

    A build of torch that pip's configuration prefers to PyPI's is added to what is accepted; those
    that were added on other machines stay as long as torch keeps its version.

    Parameters
    ----------
    lock : file that exists, or is made.
    upgrade : take the newest versions that fit.

    Raises
    ------
    subprocess.CalledProcessError
        if uv or pip fails; it has said why, and the file is as it was.
    """
    former = lock.read_text(encoding="utf-8") if lock.exists() else ""
    with tempfile.TemporaryDirectory(prefix="midframe-") as name:
        folder = Path(name)
        file = folder / "resolved.txt"
        file.write_text(former, encoding="utf-8")
        uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--universal"]
        uv += ["--python-version=3.11", "--fork-strategy=fewest", "--generate-hashes", *SOURCES]
        uv += ["--only-binary=:all:", f"--output-file={file}", "pyproject.toml"]
        uv += ["--upgrade"] if upgrade else []
        subprocess.run([*uv, *(f"--extra={extra}" for extra in EXTRAS)], check=True)
        resolved = file.read_text(encoding="utf-8")
        torch = entries(resolved)["torch"]
        # uv takes over the hashes that a version had.
        builds = set(
            re.findall(rf"^# +(torch-{re.escape(version(torch))}\+\S+ \S+)$", former, re.M)
        )
        wheel = download_torch(f"torch=={version(torch)}", folder)
        # PyPI takes no versions with such a label.
        if "+" in wheel.name:
            builds.add(f"{wheel.name} sha256:{digest(wheel)}")
    first, *rest = torch.splitlines(keepends=True)
    rest = [line for line in rest if not any(build.split()[1] in line for build in builds)]
    added = [f"    --hash={build.split()[1]} \\\n" for build in sorted(builds)]
    listed = "".join(f"#   {build}\n" for build in sorted(builds))
    whole = HEADER + listed + resolved.replace(torch, "".join([first, *added, *rest]))
    partial = lock.with_suffix(".partial")
    partial.write_text(whole, encoding="utf-8")
    partial.replace(lock)


def write_sbom(lock: Path, file: Path) -> None:
    """Write what a lock file holds as a bill of materials in the format of CycloneDX."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # A lock file does not say which package asked for which, and a warning would say so each time.
    command = [sys.executable, "-W", "ignore::UserWarning", "-m", "cyclonedx_py", "requirements"]
    command += ["--pyproject", "pyproject.toml", "--mc-type", "application"]
    command += ["--output-reproducible", "--output-file", str(file), str(lock)]
    subprocess.run(command, check=True)


def audit(lock: Path) -> None:
    """Ask PyPI which packages of a lock file are known to be vulnerable.

    Raises
    ------
    subprocess.CalledProcessError
        if any is; pip-audit has said which.
    SystemExit
        if PyPI cannot be asked from here.
    """
    import requests

    address = (
        f"{VULNERABILITIES}/pip/{version(entries(lock.read_text(encoding='utf-8'))['pip'])}/json"
    )
    try:
        requests.get(address, timeout=30).raise_for_status()
    except requests.RequestException as error:
        sys.exit(
            f"{address}: no answer ({error}); nothing was audited. Run this where PyPI itself can "
            "be reached: mirrors serve files, and often not what is known about them"
        )
    command = [sys.executable, "-m", "pip_audit", "--strict", "--disable-pip", "--require-hashes"]
    subprocess.run([*command, "--requirement", str(lock)], check=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m workflow.packages``."""
    parser = argparse.ArgumentParser(prog="python -m workflow.packages", description=__doc__)
    parser.add_argument("task", choices=["install", "lock", "sbom", "audit"])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args(arguments)
    try:
        if options.task == "install":
            install(LOCK)
        elif options.task == "lock":
            resolve(LOCK, options.upgrade)
        elif options.task == "sbom":
            write_sbom(LOCK, SBOM)
        else:
            audit(LOCK)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
