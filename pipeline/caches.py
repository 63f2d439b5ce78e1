"""Where compiled code and font lists are kept, even if everything else is read-only.

Numba keeps what it compiles beside the source, or else in the user's cache. If both the
installation (a container, a package manager's store) and HOME are read-only, it fails with a
traceback.
"""

import atexit
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, MutableMapping
from functools import cache
from pathlib import Path

from pipeline.progress import notice

PACKAGE = Path(__file__).parent
COMPILED = "NUMBA_CACHE_DIR"
DRAWING = "MPLCONFIGDIR"


def prepare_caches(
    package: Path = PACKAGE,
    environment: MutableMapping[str, str] | None = None,
    tell: Callable[[str], None] = notice,
) -> None:
    """Choose folders for compiled code and for matplotlib if their own cannot be written.

    Compiled code stays beside the source if that can be written; else it goes to the user's cache,
    else to a temporary folder that the process deletes at its end, with one line that says so. What
    the user has set stays. Numba and matplotlib read the folder when they are loaded.

    Parameters
    ----------
    package : the folder of an installed package.
    environment : default: the process's own.
    tell : takes the line.
    """
    environment = os.environ if environment is None else environment
    home = user_cache(environment)
    if not environment.get(COMPILED) and not writable(package / "__pycache__"):
        # By the sources' digest: numba does not notice an edit in a module that a kernel imports.
        kept = home / "compiled" / _sources(package)
        if writable(kept):
            environment[COMPILED] = str(kept)
        else:
            environment[COMPILED] = _temporary()
            tell(
                f"neither {package} nor {home} can be written, so compiled code is lost at the "
                f"end and will be compiled again next time; set {COMPILED} to keep it"
            )
        if "numba" in sys.modules:
            sys.modules["numba"].config.CACHE_DIR = environment[COMPILED]
    if not environment.get(DRAWING) and not writable(_configuration(environment) / "matplotlib"):
        kept = home / "matplotlib"
        environment[DRAWING] = str(kept) if writable(kept) else _temporary()


def user_cache(environment: MutableMapping[str, str] | None = None) -> Path:
    """The user's cache folder of this program, which may not exist."""
    environment = os.environ if environment is None else environment
    if given := environment.get("XDG_CACHE_HOME"):
        return Path(given) / "midframe"
    home = _home(environment)
    match platform.system():
        case "Windows":
            local = environment.get("LOCALAPPDATA")
            return (Path(local) if local else home / "AppData" / "Local") / "midframe"
        case "Darwin":
            return home / "Library" / "Caches" / "midframe"
        case _:
            return home / ".cache" / "midframe"


def _configuration(environment: MutableMapping[str, str]) -> Path:
    if platform.system() == "Linux":
        return Path(environment.get("XDG_CONFIG_HOME") or _home(environment) / ".config")
    return _home(environment) / ".matplotlib"


def _home(environment: MutableMapping[str, str]) -> Path:
    given = environment.get("HOME") or environment.get("USERPROFILE")
    return Path(given or os.path.expanduser("~"))


def writable(folder: Path) -> bool:
    """Whether files can be created in a folder, which is created if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def is_temporary(folder: Path) -> bool:
    """Whether a folder is, or is in, the one that this process deletes at its end."""
    # Only where one was made: asking makes none.
    return _temporary.cache_info().currsize > 0 and folder.is_relative_to(_temporary())


@cache
def _temporary() -> str:
    folder = tempfile.mkdtemp(prefix="midframe-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _sources(package: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(package.parent.glob("[mp]*/**/*.py")):
        if file.relative_to(package.parent).parts[0] in ("model", "pipeline"):
            found.update(file.read_bytes())
    return found.hexdigest()[:16]
