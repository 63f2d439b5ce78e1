"""Nothing needs what only POSIX systems have just to be imported: Windows has to get that far."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workflow.house import House

ROOT = Path(__file__).parents[2]

# As the library reference says of each: "Availability: Unix".
MODULES = """
crypt fcntl grp posix pty pwd resource spwd syslog termios tty
"""
NAMES = {
    "os": """
fork forkpty getuid geteuid getgid getegid getpgid killpg setsid mkfifo nice chown lchown
sched_getaffinity sched_setaffinity statvfs uname WNOHANG register_at_fork
""",
    "signal": """
SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 alarm pause
setitimer pthread_sigmask sigwait
""",
    "time": """
tzset clock_gettime clock_settime
""",
    "sys": "",  # but its `platform` says Windows
}

# Only for who imports from our packages; the libraries are built for the system they are on.
PROGRAM = """
import builtins, importlib, json, sys, types
ours, modules, absent, names = json.loads(sys.argv[1])
lacking = {}
for name, left_out in absent.items():
    module = importlib.import_module(name)
    lacking[name] = types.ModuleType(name)
    lacking[name].__dict__.update(
        {key: value for key, value in vars(module).items() if key not in left_out}
    )
lacking["sys"].platform = "win32"
original = builtins.__import__

def without(name, globals=None, locals=None, fromlist=(), level=0):
    if (globals or {}).get("__name__", "").partition(".")[0] in ours and not level:
        if name in modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in lacking:
            return lacking[name]
    return original(name, globals, locals, fromlist, level)

builtins.__import__ = without
for name in names:
    try:
        importlib.import_module(name)
    except (ImportError, AttributeError) as error:
        print(f"{name}: {error}")
"""


def failures(folder: Path, packages: list[str], names: list[str]) -> list[str]:
    """What modules of a folder say when they are imported without what only POSIX systems have."""
    absent = {module: text.split() for module, text in NAMES.items()}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([packages, MODULES.split(), absent, names])],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_every_module_can_be_imported_without_what_only_posix_has() -> None:
    command = [f"midframe.{file.stem}" for file in (ROOT / "midframe").glob("*.py")]
    modules = sorted([*command, *House().modules])
    assert len(modules) > 100
    assert failures(ROOT, ["midframe", "pipeline", "model", "workflow"], modules) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import fcntl", "No module named 'fcntl'"),
        ("from resource import getrlimit", "No module named 'resource'"),
        ("import os; os.fork", "module 'os' has no attribute 'fork'"),
        ("from signal import SIGKILL", "cannot import name 'SIGKILL'"),
        ("import signal\nENDING = signal.SIGKILL", "has no attribute 'SIGKILL'"),
    ],
)
def test_a_module_that_needs_it_is_named(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(line)
    (failure,) = failures(tmp_path, ["mine"], ["mine"])
    assert failure.startswith("mine: ")
    assert said in failure
