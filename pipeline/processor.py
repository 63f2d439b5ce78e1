"""How many threads: the one place that asks the machine and sets every library.

A process may see more cores than it may use. Linux binds it to some of them (affinity), a
container gives it a quota (cgroups), a batch system a share, Snakemake a number of threads.
`find_cores` asks them all, `use_threads` sets every library that starts threads of its own, before
it is loaded.

Nothing here imports such a library.
"""

import math
import os
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import MidframeError

SETTING = "MIDFRAME_THREADS"

# What each library reads when it is loaded: torch and its OpenMP, BLAS, numba, OpenCV, Zarr.
THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "ZARR_THREADING__MAX_WORKERS",
)
# A thread of OpenMP that waits for the others of its team burns its core, by default for
# milliseconds. If another process shares that core, the thread that is waited for does not get it.
QUIET_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
# Variables that say how many threads a process should have: our setting, SLURM's, and OpenMP's,
# which Snakemake sets for each job and people set themselves.
SHARES = ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS")
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # Linux's names of the instructions
PROCESSES = "LOCAL_WORLD_SIZE"  # of one training on this machine: torchrun's, and our launcher's


@dataclass(frozen=True)
class Limit:
    """Something that leaves a process fewer cores than the machine has.

    Attributes
    ----------
    cores : how many it leaves, at least 1.
    source : who says so, as a log shows it.
    firm : whether the machine enforces it; a share is a wish, which a number asked for overrides.
    """

    cores: int
    source: str
    firm: bool = False


@dataclass(frozen=True)
class Cores:
    """What a process sees and may use.

    Attributes
    ----------
    seen : cores of the machine.
    limits : what leaves fewer; may be empty, or hold limits that are no tighter than another.
    """

    seen: int
    limits: tuple[Limit, ...]

    @property
    def allowed(self) -> int:
        """Cores that all limits leave."""
        return min([self.seen, *(limit.cores for limit in self.limits)])

    @property
    def enforced(self) -> int:
        """Cores that the machine itself leaves: more threads only wait for one another."""
        return min([self.seen, *(limit.cores for limit in self.limits if limit.firm)])

    @property
    def reason(self) -> str:
        """Which limit decides; empty if none does."""
        tight = [limit for limit in self.limits if limit.cores == self.allowed < self.seen]
        return tight[0].source if tight else ""


def find_cores(
    root: Path = Path("/"), environment: Mapping[str, str] | None = None, seen: int | None = None
) -> Cores:
    """Find out how many cores this process may use.

    Parameters
    ----------
    root : where the trees ``proc`` and ``sys`` lie.
    environment : default: the process's own.
    seen : cores of the machine; default: those of this one, and the affinity counts.

    Raises
    ------
    MidframeError
        if a variable of `SHARES` or `PROCESSES` holds no number of threads.
    """
    environment = os.environ if environment is None else environment
    limits = []
    if seen is None:
        seen = os.cpu_count() or 1
        # Linux only; elsewhere there is no affinity to ask for.
        if hasattr(os, "sched_getaffinity"):
            limits.append(Limit(len(os.sched_getaffinity(0)), "the affinity of the process", True))
    quota = cgroup_quota(root)
    if quota is not None:
        # A thread beyond whole cores would be stopped for part of each period, and others wait.
        source = f"a quota of {quota:g} (cgroup)"
        limits.append(Limit(max(1, math.floor(quota)), source, True))
    processes = _number(environment, PROCESSES)
    for name in SHARES:
        share = _number(environment, name)
        if share is not None:
            limits.append(Limit(share, name))
    if processes is not None and processes > 1 and "OMP_NUM_THREADS" not in environment:
        everything = Cores(seen, tuple(limits)).allowed
        limits.append(Limit(max(1, everything // processes), f"{processes} processes"))
    return Cores(seen, tuple(limits))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that a container may use, of cgroup v1 or v2; ``None``: no limit.

    The tightest of the process's group and those above it.
    """
    quotas = [quota for group in _groups(root) if (quota := _quota(group)) is not None]
    return min(quotas, default=None)


def computes_bfloat16(root: Path = Path("/")) -> bool:
    """Whether the processor multiplies bfloat16 itself: AVX512-BF16 or AMX, or Arm's.

    Others convert each number and take longer than in float32. Where ``proc/cpuinfo`` does not say,
    the answer is no.
    """
    return not BFLOAT16.isdisjoint(_instructions(root))


def has_avx512(root: Path = Path("/")) -> bool:
    """Whether ``proc/cpuinfo`` says that the processor has AVX-512."""
    return "avx512f" in _instructions(root)


def _instructions(root: Path) -> list[str]:
    """Linux's names of the instruction sets; empty elsewhere."""
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        return []
    for line in text.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return flags.split()
    return []


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the control groups that bound the process's time, in both versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    tree = root / "sys/fs/cgroup"
    for line in lines:
        # hierarchy-ID:controllers:path; version 2 has the ID 0 and names no controllers
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            mounts = [tree, tree / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [tree / controllers, tree / "cpu"]
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            # In a container the path may be that of the host, which is invisible from inside:
            # then the mount itself is the container's group.
            for folder in (inside, *inside.parents):
                yield mount / folder


def _quota(group: Path) -> float | None:
    """Cores' worth of time of one group."""
    try:
        if (group / "cpu.max").exists():
            quota, _, period = (group / "cpu.max").read_text().strip().partition(" ")
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
    except OSError:
        return None
    if quota in ("max", "-1"):
        return None
    return float(quota) / float(period or 100_000)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    # OpenMP's variable may hold a list, one number a level of nesting.
    first = text.split(",")[0].strip()
    if not first.isdecimal() or int(first) < 1:
        raise MidframeError(f"{name}: must be a number of threads, at least 1, not '{text}'")
    return int(first)


@dataclass(frozen=True)
class Threads:
    """The number of threads that was chosen.

    Attributes
    ----------
    count : threads for each library.
    cores : what it was chosen from.
    source : who chose it; empty if it is simply what is allowed.
    asked : what was asked for, where that is more than the machine leaves.
    """

    count: int
    cores: Cores
    source: str
    asked: int | None = None

    def __str__(self) -> str:
        text = f"{self.count} thread{'s' if self.count > 1 else ''}, of {self.cores.seen} cores"
        source = self.source or self.cores.reason
        if source:
            text += f" ({source})"
        if self.asked is not None:
            text += (
                f"; {self.asked} were asked for, but more than {self.cores.enforced} would wait "
            )
            text += "for one another here"
        return text


def choose_threads(
    wanted: int | None = None,
    root: Path = Path("/"),
    environment: Mapping[str, str] | None = None,
    seen: int | None = None,
) -> Threads:
    """Choose the number of threads.

    Parameters
    ----------
    wanted : what the user asks for; default: the environment variable `SETTING` does, and without
        it as many as there are cores allowed. It overrides shares (SLURM's, OpenMP's), not what
        the machine enforces: affinity, quota, and the number of cores. Several processes of one
        training share it.

    Raises
    ------
    MidframeError
        if it is no number of threads.
    """
    environment = os.environ if environment is None else environment
    cores = find_cores(root, environment, seen)
    source = "--threads"
    if wanted is None:
        wanted, source = _number(environment, SETTING), SETTING
    if wanted is None:
        return Threads(cores.allowed, cores, "")
    if wanted < 1:
        raise MidframeError(f"--threads: must be at least 1, not {wanted}")
    processes = _number(environment, PROCESSES) or 1
    count = max(1, min(wanted, cores.enforced) // processes)
    return Threads(count, cores, source, wanted if wanted > cores.enforced else None)


def use_threads(
    count: int, exactly: bool = False, environment: MutableMapping[str, str] | None = None
) -> None:
    """Let every library use ``count`` threads, in this process and those it starts.

    Libraries read this when they are loaded, so call it before. A user's own choice of how OpenMP's
    threads wait stays.

    Parameters
    ----------
    exactly : if two of the cores seen are one with two sets of registers, or there are fewer than
        ``count``, torch by default takes the number of real ones; not if this is set.
    environment : default: the process's own.
    """
    environment = os.environ if environment is None else environment
    environment.update(dict.fromkeys(THREAD_COUNTS, str(count)))
    if exactly:
        environment["MKL_DYNAMIC"] = "FALSE"
    for name, value in QUIET_WAITING.items():
        environment.setdefault(name, value)


def thread_count() -> int:
    """Threads of this process: what `use_threads` has set, or else what is allowed."""
    return choose_threads().count


if __name__ == "__main__":
    print(thread_count())  # for the Makefile
