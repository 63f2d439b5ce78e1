"""A small training alone and beside others, in samples/s and as a share of its fair share.

    python benchmarks/bench_sharing.py [--seconds 8] [--threads N]
    python benchmarks/bench_sharing.py --demo

The network, batches and crops of the demonstration's first stage, in processes of their own that
are told their threads as the commands are. Rows: alone; beside another such training; beside a busy
loop for each core; in a control group whose quota is half of the cores, which the training finds
out (root, Linux with cgroup v1 or v2); with four times as many threads asked for as there are
cores, of which the commands start as many as there are cores; with all of them started, as where a
limit cannot be seen. The fair share is the rate alone, less what the others are entitled to: half
of it beside another training, and beside one busy loop a core half as well.

With --demo: how long every step from videos to a table takes, with the demonstration's settings but
3 of its 20 epochs, alone and beside a training that runs all the time.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CONTROL_GROUPS = Path("/sys/fs/cgroup")
PERIOD = 100_000  # microseconds
SAMPLES, CROP = 8, 64
FOREVER = 86_400.0


def step_forever(seconds: float) -> None:
    """Train for some seconds after a warm-up, and print the samples a second."""
    import torch

    from model.network.architecture import SepConv, place
    from model.settings import NetworkSettings
    from model.training.parts import Parts

    torch.manual_seed(0)
    settings = NetworkSettings(kernel_length=9, width=0.25, initialisation="linear", normalise=True)
    network = SepConv(settings).train()
    place(network, "cpu")
    optimizer = torch.optim.Adamax(network.parameters(), lr=1e-3)
    first, middle, third = torch.rand(3, SAMPLES, 3, CROP, CROP)
    with Parts(network, SAMPLES, torch.get_num_threads()) as parts:

        def step() -> None:
            parts.backward(first, third, lambda whole: (whole - middle).abs().mean())
            optimizer.step()

        for _ in range(5):
            step()
        print("ready", flush=True)
        sys.stdin.readline()
        begin, steps = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            step()
            steps += 1
        print(steps * SAMPLES / (time.perf_counter() - begin), flush=True)


class Training:
    """A process that trains when it is told to, with 0 threads: as many as it finds right."""

    def __init__(self, threads: int, seconds: float, group: Path | None = None) -> None:
        command = [sys.executable, __file__, "--step", str(threads), "--seconds", str(seconds)]
        if group is not None:
            entry = 'echo $$ > "$0" && exec "$@"'
            command = ["sh", "-c", entry, str(group / "cgroup.procs"), *command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def wait_until_ready(self) -> None:
        self._stdout.readline()

    def go(self) -> None:
        self._stdin.write("\n")
        self._stdin.flush()

    def rate(self) -> float:
        rate = float(self._stdout.readline())
        self._process.wait(60)
        return rate

    def end(self) -> None:
        self._process.kill()
        self._process.wait(60)


def measure(
    threads: list[int], seconds: float, busy_loops: int = 0, group: Path | None = None
) -> float:
    """The mean rate of trainings that run at once, in samples a second."""
    trainings = [Training(count, seconds, group) for count in threads]
    loops: list[subprocess.Popen[bytes]] = []
    try:
        for training in trainings:
            training.wait_until_ready()
        for _ in range(busy_loops):
            loops.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        for training in trainings:
            training.go()
        return statistics.mean(training.rate() for training in trainings)
    finally:
        for training in trainings:
            training.end()
        for loop in loops:
            loop.kill()
            loop.wait(60)


@contextlib.contextmanager
def quota(cores: float) -> Iterator[Path]:
    """A control group whose processes get so many cores' worth of time.

    Raises
    ------
    OSError
        if none can be made here.
    """
    version2 = (CONTROL_GROUPS / "cgroup.controllers").exists()
    group = (CONTROL_GROUPS if version2 else CONTROL_GROUPS / "cpu") / f"midframe-{os.getpid()}"
    group.mkdir()
    try:
        if version2:
            (group / "cpu.max").write_text(f"{round(cores * PERIOD)} {PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(f"{PERIOD}")
            (group / "cpu.cfs_quota_us").write_text(f"{round(cores * PERIOD)}")
        yield group
    finally:
        group.rmdir()


def shortened() -> dict[str, object]:
    """Every step up to a table, with a fraction of the demonstration's epochs."""
    config = yaml.safe_load((ROOT / "config.demo.yaml").read_text())
    stage = config["stages"]["l1"] | {"epochs": 3, "save_every": 3}
    evaluation = config["evaluations"]["held-out"] | {"stride": 2}
    del evaluation["pictures"]
    rows = [row for row in config["tables"]["held-out"]["rows"] if row["model"] != "ssim"]
    return {
        **{name: config[name] for name in ("datasets", "patches")},
        "stages": {"l1": stage},
        "models": {"l1": {"stage": "l1"}},
        "evaluations": {"held-out": evaluation},
        "tables": {"held-out": {"evaluation": "held-out", "rows": rows}},
    }


def time_demo() -> float:
    """Seconds of the shortened demonstration, from nothing, by as many jobs as `make demo` has."""
    from pipeline.processor import thread_count

    with tempfile.TemporaryDirectory(prefix="midframe-demo-") as name:
        folder = Path(name)
        config = shortened() | {"results": str(folder / "results")}
        config["archives"] = str(folder / "data")
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--configfile", str(folder / "config.yaml"), "--cores", str(thread_count())]
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, "--quiet", "all", "--", "all"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return time.perf_counter() - begin


def compare_demo() -> None:
    """Print the time alone and beside a training."""
    alone = time_demo()
    print(f"a short demonstration alone: {alone:.0f} s", flush=True)
    other = Training(0, FOREVER)
    try:
        other.wait_until_ready()
        other.go()
        beside = time_demo()
    finally:
        other.end()
    print(f"beside a training: {beside:.0f} s, {beside / alone:.2f} times as long")


def compare_rates(threads: int | None, seconds: float) -> None:
    """Print the table of rates."""
    from pipeline.processor import choose_threads

    chosen = choose_threads(threads)
    cores = len(os.sched_getaffinity(0))
    many = 4 * cores
    print(f"a training of the demonstration's size, {chosen}")
    print(f"{'':36}{'samples/s':>10}{'of the fair share':>20}")
    alone = measure([chosen.count], seconds)

    def show(name: str, rate: float, fair: float) -> None:
        print(f"{name:36}{rate:10.0f}{rate / (fair * alone):20.2f}", flush=True)

    show("alone", alone, 1.0)
    show("beside another training", measure([chosen.count] * 2, seconds), 0.5)
    show(f"beside {cores} busy loops", measure([chosen.count], seconds, cores), 0.5)
    try:
        with quota(cores / 2) as group:
            show(f"a quota of {cores / 2:g} of {cores} cores", measure([0], seconds, 0, group), 0.5)
            unaware = measure([many], seconds, 0, group)
            show(f"the same, {many} threads started", unaware, 0.5)
    except OSError as error:
        print(f"no control group with a quota can be made here ({error})")
    asked = choose_threads(many).count
    show(f"{many} threads asked for, {asked} started", measure([asked], seconds), 1.0)
    show(f"{many} threads started on {cores} cores", measure([many], seconds), 1.0)


def main() -> None:
    from pipeline.processor import choose_threads, use_threads

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=8, help="of each row (default: 8)")
    parser.add_argument("--threads", type=int, help="of a training (default: as the commands do)")
    parser.add_argument("--demo", action="store_true", help="measure the demonstration instead")
    parser.add_argument("--step", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    # Whoever ends this ends the trainings too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if given.step is not None:
        use_threads(given.step or choose_threads().count, exactly=bool(given.step))
        step_forever(given.seconds)
    elif given.demo:
        compare_demo()
    else:
        compare_rates(given.threads, given.seconds)


if __name__ == "__main__":
    main()
