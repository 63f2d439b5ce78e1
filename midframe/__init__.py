"""The command `midframe`: every command of `pipeline` and `model`, and a few about itself."""

import sys
from pathlib import Path

OWN = Path(__file__).resolve().parents[1]
PACKAGES = ("model", "pipeline", "workflow")


def _prefer_own_packages() -> None:
    """Let the generic names mean the packages beside this one.

    ``python -m midframe`` looks into the current folder first, which may hold a ``model.py``, as
    PYTHONPATH's folders may. Those that do are not searched; worker processes inherit that.
    """
    for entry in list(sys.path):
        folder = Path(entry or ".").resolve()
        if folder == OWN:
            return
        if any(
            (folder / f"{name}.py").is_file() or _is_package(folder / name) for name in PACKAGES
        ):
            sys.path.remove(entry)


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


_prefer_own_packages()
