"""How many threads: what a machine, a container and a batch system leave, on made-up trees."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import MidframeError
from pipeline.processor import (
    cgroup_quota,
    choose_threads,
    computes_bfloat16,
    find_cores,
    has_avx512,
    use_threads,
)


def tree(root: Path, group: str, files: dict[str, str]) -> Path:
    """A machine's ``proc`` and ``sys``, with the process in ``group``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"{group}\n")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


V1 = "12:pids:/docker/4f\n4:cpu,cpuacct:/docker/4f\n1:name=systemd:/docker/4f"
CASES = {
    "version 2": ("0::/job", {"job/cpu.max": "200000 100000"}, 2.0),
    "version 2 in a container, whose group is the root": (
        "0::/",
        {"cpu.max": "150000 100000"},
        1.5,
    ),
    "version 2, the group above is tighter": (
        "0::/user/job",
        {"user/job/cpu.max": "400000 100000", "user/cpu.max": "300000 100000"},
        3.0,
    ),
    "version 2 without a limit": ("0::/job", {"job/cpu.max": "max 100000"}, None),
    "version 2 beside version 1": (
        "4:memory:/job\n0::/job",
        {"unified/job/cpu.max": "50000 100000"},
        0.5,
    ),
    "version 1": (
        V1,
        {
            "cpu,cpuacct/docker/4f/cpu.cfs_quota_us": "250000",
            "cpu,cpuacct/docker/4f/cpu.cfs_period_us": "100000",
        },
        2.5,
    ),
    "version 1, whose path is that of the host": (
        V1,
        {"cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "10000"},
        2.0,
    ),
    "version 1 without a limit": (
        V1,
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        None,
    ),
    "no control groups": ("", {}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_quota_of_a_container_is_found(case: str, tmp_path: Path) -> None:
    group, files, quota = CASES[case]
    root = tree(tmp_path, group, files) if group else tmp_path
    assert cgroup_quota(root) == quota


def test_a_container_with_two_cores_of_a_large_host_gets_two_threads(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/", {"cpu.max": "200000 100000"})
    threads = choose_threads(root=root, environment={}, seen=64)
    assert str(threads) == "2 threads, of 64 cores (a quota of 2 (cgroup))"


def test_a_part_of_a_core_is_no_thread(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/", {"cpu.max": "350000 100000"})
    assert choose_threads(root=root, environment={}, seen=64).count == 3
    (root / "sys/fs/cgroup/cpu.max").write_text("30000 100000\n")
    assert choose_threads(root=root, environment={}, seen=64).count == 1


@pytest.mark.parametrize("name", ["SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"])
def test_a_share_is_kept_but_is_no_more_than_there_is(name: str, tmp_path: Path) -> None:
    threads = choose_threads(root=tmp_path, environment={name: "4"}, seen=16)
    assert str(threads) == f"4 threads, of 16 cores ({name})"
    assert choose_threads(root=tmp_path, environment={name: "40"}, seen=16).count == 16


@pytest.mark.parametrize(
    ("line", "native"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16", True),
        ("flags\t\t: fpu avx2 amx_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("model name\t: bf16", False),
    ],
)
def test_bfloat16_is_found_by_the_processors_flags(line: str, native: bool, tmp_path: Path) -> None:
    assert not computes_bfloat16(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert computes_bfloat16(tmp_path) == native


@pytest.mark.parametrize(("flags", "there"), [("avx2 avx512f", True), ("avx2 fma", False)])
def test_avx_512_is_found_by_the_processors_flags(flags: str, there: bool, tmp_path: Path) -> None:
    assert not has_avx512(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"flags\t\t: fpu {flags}\n")
    assert has_avx512(tmp_path) == there


def test_nested_teams_count_by_their_outer_number(tmp_path: Path) -> None:
    assert find_cores(tmp_path, {"OMP_NUM_THREADS": "3,2"}, 8).allowed == 3


def test_processes_of_one_training_share_the_cores(tmp_path: Path) -> None:
    processes = {"LOCAL_WORLD_SIZE": "4"}
    assert choose_threads(root=tmp_path, environment=processes, seen=16).count == 4
    assert choose_threads(8, tmp_path, processes, 16).count == 2
    # Who starts them may have said what each gets.
    assert choose_threads(root=tmp_path, environment=processes | {"OMP_NUM_THREADS": "3"}, seen=16)


def test_what_the_user_asks_for_overrides_shares(tmp_path: Path) -> None:
    share = {"OMP_NUM_THREADS": "1", "SLURM_CPUS_PER_TASK": "2"}
    assert choose_threads(8, tmp_path, share, 16).count == 8
    assert choose_threads(root=tmp_path, environment={"MIDFRAME_THREADS": "1"}, seen=2).count == 1


def test_more_threads_than_the_machine_leaves_are_not_started_and_told(tmp_path: Path) -> None:
    threads = choose_threads(8, tmp_path, {}, 2)
    assert threads.count == 2
    assert "8 were asked for, but more than 2 would wait for one another here" in str(threads)
    folder = tmp_path / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (folder / "cpu.max").write_text("300000 100000\n")
    assert choose_threads(8, tmp_path, {}, 64).count == 3


@pytest.mark.parametrize("text", ["many", "0", "-2", "1.5"])
def test_what_is_no_number_of_threads_is_told_by_its_name(text: str, tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="OMP_NUM_THREADS: must be a number of threads"):
        choose_threads(root=tmp_path, environment={"OMP_NUM_THREADS": text}, seen=2)
    with pytest.raises(MidframeError, match="--threads: must be at least 1"):
        choose_threads(0, tmp_path, {}, 2)


def test_how_threads_wait_is_left_as_the_user_has_set_it() -> None:
    environment = {"OMP_WAIT_POLICY": "ACTIVE"}
    use_threads(3, environment=environment)
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"
    assert environment["GOMP_SPINCOUNT"] == "0"
    assert environment["OPENCV_FOR_THREADS_NUM"] == "3"


@pytest.mark.slow
def test_every_library_takes_the_number(tmp_path: Path) -> None:
    program = (
        "from pipeline.processor import use_threads\n"
        "use_threads(3, exactly=True)\n"
        "import cv2, numba, torch, zarr\n"
        "print(cv2.getNumThreads(), numba.config.NUMBA_NUM_THREADS, torch.get_num_threads(),\n"
        "      zarr.config.get('threading.max_workers'))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == ["3"] * 4
