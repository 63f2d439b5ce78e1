"""The doctor says what is there, and how to get what is missing."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from midframe import doctor
from midframe.__main__ import build_parser
from pipeline.command_line import run
from pipeline.processor import Cores, Limit, Threads
from pipeline.simd import llvm

# A folder that no user can write in, root neither: it cannot be made below a file.
NOWHERE = Path(__file__) / "nowhere"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only one in which programs are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def make_program(folder: Path, name: str, says: str) -> None:
    program = folder / name
    program.write_text(f"#!{sys.executable}\nprint({says!r})\n")
    program.chmod(0o755)


def test_the_ffmpeg_program_is_found_and_asked_for_its_version(programs: Path) -> None:
    make_program(programs, "ffmpeg", "ffmpeg version 7.1 Copyright (c) the developers")
    assert doctor.ffmpeg() == doctor.Finding("ffmpeg", "ok", "ffmpeg version 7.1")


def test_an_ffmpeg_program_that_does_not_run_is_told(programs: Path) -> None:
    (programs / "ffmpeg").write_text("no program")
    (programs / "ffmpeg").chmod(0o755)
    found = doctor.ffmpeg()
    assert found.state == "absent"
    assert "does not run" in found.seen


def test_a_missing_ffmpeg_program_comes_with_how_to_get_it(programs: Path) -> None:
    found = doctor.ffmpeg()
    assert found.state == "absent"
    assert "apt-get install ffmpeg" in found.advice


def test_slurm_without_its_plugin_comes_with_how_to_get_it(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    assert doctor.slurm().seen == "no sbatch"
    make_program(programs, "sbatch", "")
    assert doctor.slurm().advice == "pip install 'midframe[slurm]'"
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: object())
    assert doctor.slurm().state == "ok"


def test_the_encoder_that_videos_are_written_by_is_there() -> None:
    found = doctor.encoders()
    assert found.state == "ok"
    assert "libx264" in found.seen


def test_a_missing_encoder_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED_ENCODERS", ("libx264", "no-such-encoder"))
    found = doctor.encoders()
    assert found.state == "broken"
    assert found.seen.endswith("without no-such-encoder")


def test_without_a_cuda_device_the_cpu_is_named(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "CPU" in doctor.gpu().advice
    make_program(programs, "nvidia-smi", "")
    assert "without CUDA" in doctor.gpu().advice


def test_a_gpu_comes_with_the_command_that_checks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    found = doctor.gpu()
    assert (found.state, found.seen) == ("ok", "card 0, card 1")
    assert "make gpu-check" in found.advice


def test_missing_cupy_comes_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    assert "pip install 'midframe[cuda]'" in doctor.cupy().advice


QUOTA = Limit(3, "a quota of 3 (cgroup)", True)


@pytest.mark.parametrize(
    "limit", [QUOTA, Limit(3, "the affinity of the process", True), Limit(3, "OMP_NUM_THREADS")]
)
def test_fewer_cores_than_the_machine_has_are_warned_of(
    limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = Threads(3, Cores(64, (limit,)), "")
    monkeypatch.setattr(doctor, "choose_threads", lambda: left)
    found = doctor.cores()
    assert (found.state, found.seen) == ("warn", "3 of 64 may be used; threads: 3")
    assert f"the limit is {limit.source}; other programs may start 64" in found.advice


def test_a_machine_of_ones_own_needs_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "choose_threads", lambda: Threads(8, Cores(8, ()), ""))
    assert doctor.cores() == doctor.Finding("cores", "ok", "8 of 8 may be used; threads: 8")


def test_more_threads_than_cores_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "choose_threads", lambda: Threads(2, Cores(2, ()), "MIDFRAME", 8))
    assert doctor.cores().state == "warn"
    assert "MIDFRAME asks for 8" in doctor.cores().advice


@pytest.mark.parametrize(("busy", "state"), [(0.3, "ok"), (2.1, "warn")])
def test_cores_that_others_keep_busy_are_warned_of(
    busy: float, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "choose_threads", lambda: Threads(4, Cores(4, ()), ""))
    monkeypatch.setattr(doctor.psutil, "getloadavg", lambda: (busy, 4.0, 4.0))
    found = doctor.load()
    assert found.state == state
    assert found.seen == f"{busy} programs at once on 4 cores in the last minute"


@pytest.mark.parametrize("lacking", ["fma", "avx2"])
def test_a_processor_without_fast_instructions_is_warned_of(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llvm, "X86", True)
    monkeypatch.setattr(llvm, "FEATURES", frozenset({"sse4.2", "avx2", "fma"} - {lacking}))
    found = doctor.instructions()
    assert found.state == "warn"
    assert found.advice == f"without {lacking} the optical flow takes two to three times as long"
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert doctor.instructions().advice.endswith("asks for that (generic)")


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("native", [True, False])
def test_the_instructions_that_are_used_are_named(
    wide: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = {"avx2", "fma", *(["avx512f"] if wide else [])}
    monkeypatch.setattr(llvm, "FEATURES", frozenset(features))
    monkeypatch.setattr(doctor, "computes_bfloat16", lambda: native)
    found = doctor.instructions()
    assert found.state == "ok"
    assert ("avx512f" in found.seen) == ("AVX-512" in found.advice) == wide
    precision = "in bfloat16" if native else "in float32, as it has no bfloat16"
    assert found.advice.endswith(precision)


def test_files_that_shadow_our_packages_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctor.names().state == "ok"
    (tmp_path / "model.py").touch()
    assert doctor.names().state == "warn"
    assert doctor.names().seen == f"model.py in {tmp_path}"
    assert "`python -m midframe` ignore" in doctor.names().advice


@pytest.mark.parametrize("system", ["Windows", "Darwin", "Linux"])
def test_a_system_that_the_tests_do_not_run_on_is_warned_of(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.platform, "system", lambda: system)
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    found = doctor.python()
    assert found.state == ("ok" if system == "Linux" else "warn")
    assert found.seen.endswith(f"{system} x86_64")


@pytest.mark.parametrize(("total", "state"), [(64 * 2**20, "warn"), (10**10, "ok")])
def test_a_containers_small_shared_memory_is_warned_of(
    total: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "none")
    assert doctor.shared_memory().state == "ok"
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(total, 0, total))
    found = doctor.shared_memory()
    assert found.state == state
    assert ("--shm-size" in found.advice) == (state == "warn")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(("limit", "state"), [(64, "warn"), (1024, "ok")])
def test_a_low_limit_of_open_files_is_warned_of(
    limit: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, 4096))
    found = doctor.open_files()
    assert (found.state, found.seen) == (state, f"at most {limit}")
    assert ("ulimit -n" in found.advice) == (state == "warn")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    assert doctor.open_files() == doctor.Finding("open files", "ok", "no limit")


@pytest.mark.parametrize(
    ("free", "state"), [(10**8, "broken"), (5 * 10**9, "warn"), (10**12, "ok")]
)
def test_a_full_disk_is_broken(free: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**13, 0, free))
    found = doctor.space()
    assert found.state == state
    assert f"{free / 1e9:,.1f} GB free" in found.seen
    assert bool(found.advice) == (free < doctor.PAPER_BYTES)


def test_a_folder_that_cannot_be_written_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    found = doctor.temporary_files()
    assert found.state == "broken"
    assert found.advice == "set TMPDIR to a folder that you can write"


def test_the_kernel_cache_is_where_numba_keeps_it() -> None:
    found = doctor.kernel_cache()
    assert found.state == "ok"
    assert found.seen.endswith("can be written")


def test_a_read_only_installation_is_named_with_the_cache_that_is_used_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "PACKAGE", NOWHERE / "pipeline")
    found = doctor.kernel_cache()
    assert found.state == "ok"
    assert found.advice == f"the installation, {NOWHERE}, is read-only"


def test_a_home_that_cannot_be_written_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(NOWHERE))
    found = doctor.home()
    assert (found.state, found.seen) == ("warn", f"{NOWHERE / 'midframe'} cannot be written")
    assert "XDG_CACHE_HOME" in found.advice


def test_compiled_code_that_is_lost_at_the_end_is_warned_of() -> None:
    """In a process of its own, which reads where numba keeps it anew."""
    program = f"""
from pathlib import Path
from pipeline.caches import prepare_caches
prepare_caches(Path({str(NOWHERE)!r}))
from midframe import doctor
print(doctor.kernel_cache().state)
"""
    variables = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "HOME")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=variables | {"XDG_CACHE_HOME": str(NOWHERE), "HOME": str(NOWHERE)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "warn\n", done.stderr


def test_the_report_lists_everything_and_a_broken_thing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(build_parser(), ["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= len(doctor.CHECKS)
    broken = doctor.Finding("space", "broken", "0.0 GB free", "free some")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.python, lambda: broken))
    assert run(build_parser(), ["doctor"]) == 1
    said = capsys.readouterr()
    assert "free some" in said.out
    assert said.err == "midframe: error: doctor: fix this first: space\n"
