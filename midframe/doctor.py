"""``midframe doctor``: what this machine has, and what to do about what is missing.

Each function looks at one thing and returns a `Finding`: ``ok`` is fine, ``absent`` lacks an
optional feature, ``warn`` costs speed or may surprise, ``broken`` stops commands.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata, util
from pathlib import Path
from typing import Literal

import psutil

from midframe import PACKAGES
from pipeline.caches import PACKAGE, is_temporary, user_cache, writable
from pipeline.extras import EXTRAS, missing
from pipeline.processor import choose_threads, computes_bfloat16

NEEDED_ENCODERS = ("libx264",)  # videos are written by it
OTHER_ENCODERS = ("libx265", "libsvtav1", "ffv1")
LEAST_BYTES = 10**9
PAPER_BYTES = 10**10  # DAVIS is 3 GB of archives, and as much unpacked, before motion and patches
PROGRAM_SECONDS = 20
LEAST_SHARED_BYTES = 10**9  # NVIDIA's advice for containers; Docker's default is 64 MiB
LEAST_OPEN_FILES = 256  # 64 do for small runs; each worker and each open page takes some
SHARED_MEMORY = Path("/dev/shm")
TESTED = ("Linux", "x86_64")


@dataclass(frozen=True)
class Finding:
    """One line of the report: the subject, its state, what was seen, what to do."""

    subject: str
    state: Literal["ok", "absent", "warn", "broken"]
    seen: str
    advice: str = ""


def version() -> str:
    """The installed version of midframe."""
    try:
        return metadata.version("midframe")
    except metadata.PackageNotFoundError:
        return "not installed (run from its sources)"


def python() -> Finding:
    """Versions, and whether the tests run on such a system."""
    system = platform.system(), platform.machine()
    seen = f"{platform.python_version()}, midframe {version()}, {' '.join(system)}"
    if system != TESTED:
        advice = f"all tests run on {' '.join(TESTED)}; docs/machines.md says what is tested here"
        return Finding("Python", "warn", seen, advice)
    return Finding("Python", "ok", seen)


def cores() -> Finding:
    """Cores of the machine, those that this process may use, and the threads that are chosen."""
    found = choose_threads()
    seen = f"{found.cores.allowed} of {found.cores.seen} may be used; threads: {found.count}"
    if found.asked is not None:
        advice = f"{found.source} asks for {found.asked}; more threads than cores only wait"
        return Finding("cores", "warn", seen, advice)
    if found.cores.allowed < found.cores.seen:
        advice = (
            f"the limit is {found.cores.reason}; other programs may start {found.cores.seen} "
            "threads, which then wait for one another"
        )
        return Finding("cores", "warn", seen, advice)
    return Finding("cores", "ok", seen, f"the limit is {found.source}" if found.source else "")


def load() -> Finding:
    """Whether other programs keep the cores busy: then there is only a share of each."""
    busy, seen = psutil.getloadavg()[0], choose_threads().cores.seen
    text = f"{busy:.1f} programs at once on {seen} cores in the last minute"
    if busy > seen / 2:
        return Finding("load", "warn", text, "commands get their share beside the others")
    return Finding("load", "ok", text)


def instructions() -> Finding:
    """Instruction sets that kernels and networks are fast with."""
    from pipeline.simd.llvm import FEATURES, X86

    known = ("sse4.2", "avx2", "fma", "avx512f", "avx512bf16", "amx-bf16", "neon", "sve")
    found = [name for name in known if name in FEATURES]
    seen = ", ".join(found) or "none that are known"
    lacking = [name for name in ("avx2", "fma") if X86 and name not in FEATURES]
    if lacking:
        advice = (
            f"without {' and '.join(lacking)} the optical flow takes two to three times as long"
        )
        if asked := os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES"):
            advice += f"; NUMBA_CPU_NAME or NUMBA_CPU_FEATURES asks for that ({asked})"
        return Finding("instructions", "warn", seen, advice)
    width = "kernels use AVX-512; " if "avx512f" in FEATURES else ""
    precision = "bfloat16" if computes_bfloat16() else "float32, as it has no bfloat16"
    advice = f"{width}networks interpolate videos in {precision}"
    return Finding("instructions", "ok", seen, advice)


def names() -> Finding:
    """Files here that ``python -m model`` would run instead of ours."""
    here = Path.cwd()
    shadows = [name for name in PACKAGES if (here / f"{name}.py").is_file()]
    if shadows:
        files = ", ".join(f"{name}.py" for name in shadows)
        advice = "`midframe` and `python -m midframe` ignore them; `python -m model` would run them"
        return Finding("names", "warn", f"{files} in {here}", advice)
    return Finding("names", "ok", "no file here has the name of one of our packages")


def extras() -> Finding:
    """What is installed beyond the core."""
    lacking = [extra for extra in EXTRAS if missing(extra)]
    present = [extra for extra in EXTRAS if extra not in lacking]
    seen = ", ".join(["core", *present])
    if not lacking:
        return Finding("extras", "ok", seen)
    return Finding(
        "extras",
        "absent",
        f"{seen}; not {', '.join(lacking)}",
        f"if you need them: pip install 'midframe[{','.join(lacking)}]'",
    )


def gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        advice = "`make gpu-check` proves and measures all that runs on it, in 8 minutes"
        return Finding("GPU", "ok", ", ".join(names), advice)
    if shutil.which("nvidia-smi") is None:
        advice = (
            "networks run on the CPU: fine for the demonstration, slow for the paper's training"
        )
    elif torch.version.cuda is None:
        advice = (
            "there is an NVIDIA driver, but PyTorch is built without CUDA: install a CUDA build"
        )
    else:
        advice = f"PyTorch needs CUDA {torch.version.cuda}: see `nvidia-smi` for the driver's"
    return Finding("GPU", "absent", "no CUDA device", advice)


def cupy() -> Finding:
    """CuPy compiles the operator's CUDA kernels."""
    if util.find_spec("cupy") is None:
        return Finding(
            "CuPy",
            "absent",
            "not installed",
            "a GPU needs it for the operator's CUDA kernels: pip install 'midframe[cuda]'",
        )
    import cupy

    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except (cupy.cuda.runtime.CUDARuntimeError, ImportError) as error:
        return Finding("CuPy", "absent", f"{cupy.__version__}, no device", str(error))
    return Finding("CuPy", "ok", f"{cupy.__version__}, {devices} devices")


def encoders() -> Finding:
    """Encoders of the FFmpeg libraries that PyAV brings."""
    import av

    missing = [name for name in NEEDED_ENCODERS if not _can_encode(name)]
    if missing:
        return Finding(
            "encoders",
            "broken",
            f"PyAV {av.__version__} without {', '.join(missing)}",
            "install PyAV's own build: pip install --force-reinstall --only-binary av av",
        )
    found = [*NEEDED_ENCODERS, *(name for name in OTHER_ENCODERS if _can_encode(name))]
    return Finding("encoders", "ok", f"PyAV {av.__version__} with {', '.join(found)}")


def _can_encode(name: str) -> bool:
    import av

    try:
        av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def ffmpeg() -> Finding:
    """The program, which no command needs."""
    program = shutil.which("ffmpeg")
    if program is None:
        return Finding(
            "ffmpeg",
            "absent",
            "no such program",
            "no command needs it; tests compare with it: apt-get install ffmpeg",
        )
    try:
        said = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=PROGRAM_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("ffmpeg", "absent", f"{program} does not run", str(error))
    return Finding("ffmpeg", "ok", " ".join(said.stdout.split()[:3]) or program)


def slurm() -> Finding:
    """The batch system, and the plugin through which Snakemake uses it."""
    has_plugin = util.find_spec("snakemake_executor_plugin_slurm") is not None
    if shutil.which("sbatch") is None:
        return Finding("SLURM", "absent", "no sbatch", "only profiles/slurm needs it")
    if not has_plugin:
        return Finding(
            "SLURM",
            "absent",
            "sbatch, without Snakemake's plugin",
            "pip install 'midframe[slurm]'",
        )
    return Finding("SLURM", "ok", "sbatch and Snakemake's plugin")


def space() -> Finding:
    """What is free where data and results go: the current directory."""
    free = shutil.disk_usage(Path.cwd()).free
    seen = f"{free / 1e9:,.1f} GB free in {Path.cwd()}"
    if free < LEAST_BYTES:
        return Finding("space", "broken", seen, "free some, or work in another folder")
    if free < PAPER_BYTES:
        advice = "enough for the demonstration, too little for the paper's datasets and patches"
        return Finding("space", "warn", seen, advice)
    return Finding("space", "ok", seen)


def kernel_cache() -> Finding:
    """Where numba keeps compiled kernels: without, every command compiles for a minute."""
    try:
        from pipeline.flow.window_costs import fill_differences
    except RuntimeError as error:
        return Finding(
            "kernel cache",
            "broken",
            str(error),
            "set NUMBA_CACHE_DIR to a folder that you can write",
        )
    folder = Path(str(fill_differences.stats.cache_path))
    if is_temporary(folder):
        advice = (
            f"neither {PACKAGE} nor {user_cache()} can be written, so every command compiles for "
            "a minute: set NUMBA_CACHE_DIR to a folder that stays"
        )
        return Finding("kernel cache", "warn", f"{folder}, deleted at the end", advice)
    found = _folder("kernel cache", folder, "NUMBA_CACHE_DIR")
    if found.state == "ok" and not writable(PACKAGE / "__pycache__"):
        return replace(found, advice=f"the installation, {PACKAGE.parent}, is read-only")
    return found


def home() -> Finding:
    """The user's cache, which read-only installations and matplotlib's fonts need."""
    cache = user_cache()
    if writable(cache):
        return Finding("home", "ok", f"{cache} can be written")
    advice = "set XDG_CACHE_HOME or HOME to a folder that you can write"
    return Finding("home", "warn", f"{cache} cannot be written", advice)


def shared_memory() -> Finding:
    """What processes of one machine share: only NCCL, between several GPUs, needs much of it."""
    if not SHARED_MEMORY.is_dir():
        return Finding("shared memory", "ok", f"no {SHARED_MEMORY}; nothing here needs it")
    total = shutil.disk_usage(SHARED_MEMORY).total
    seen = f"{total / 1e6:,.0f} MB in {SHARED_MEMORY}"
    if total < LEAST_SHARED_BYTES:
        advice = "enough without GPUs; a training on several wants more: docker run --shm-size 1g"
        return Finding("shared memory", "warn", seen, advice)
    return Finding("shared memory", "ok", seen)


def open_files() -> Finding:
    """How many files a process may have open."""
    if sys.platform == "win32":
        return Finding("open files", "ok", "no limit to ask for")
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen = "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit}"
    if 0 <= limit < LEAST_OPEN_FILES:
        advice = "many workers or open pages of `midframe browse` need more: ulimit -n 1024"
        return Finding("open files", "warn", seen, advice)
    return Finding("open files", "ok", seen)


def temporary_files() -> Finding:
    return _folder("temporary files", Path(tempfile.gettempdir()), "TMPDIR")


def _folder(subject: str, folder: Path, variable: str) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Finding(subject, "ok", f"{folder} can be written")
    except OSError as error:
        return Finding(
            subject,
            "broken",
            f"{folder} cannot be written ({error.strerror})",
            f"set {variable} to a folder that you can write",
        )


CHECKS: tuple[Callable[[], Finding], ...] = (
    python,
    extras,
    cores,
    load,
    instructions,
    names,
    gpu,
    cupy,
    encoders,
    ffmpeg,
    slurm,
    space,
    home,
    kernel_cache,
    temporary_files,
    shared_memory,
    open_files,
)


def examine() -> list[Finding]:
    """Look at everything, in the order of the report."""
    return [check() for check in CHECKS]


def report(findings: list[Finding]) -> str:
    """The findings as lines of text, each piece of advice under what it is about."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:6}  {finding.subject:{width}}  {finding.seen}")
        if finding.advice:
            lines.append(f"{'':6}  {'':{width}}    {finding.advice}")
    return "\n".join(lines)
