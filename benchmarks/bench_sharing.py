"""A small training alone and beside others, in samples/s and as a share of its fair share.

    python benchmarks/bench_sharing.py [--seconds 8] [--threads N]

The network, batches and crops of the demonstration's first stage, in processes of their own that
are told their threads as the commands are. Rows: alone; beside another such training; beside a busy
loop for each core; with four times as many threads asked for as there are cores, of which the
commands start as many as there are cores; and with all of them started, as where a limit cannot be
seen. The fair share is the rate alone, less what the others are entitled to: half of it beside
another training, and beside one busy loop a core half as well.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

SAMPLES, CROP = 8, 64


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
    """A process that trains when it is told to."""

    def __init__(self, threads: int, seconds: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--step", str(threads), "--seconds", str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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


def measure(threads: list[int], seconds: float, busy_loops: int = 0) -> float:
    """The mean rate of trainings that run at once, in samples a second."""
    trainings = [Training(count, seconds) for count in threads]
    for training in trainings:
        training.wait_until_ready()
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy_loops)
    ]
    try:
        for training in trainings:
            training.go()
        return statistics.mean(training.rate() for training in trainings)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait(60)


def main() -> None:
    from pipeline.processor import choose_threads, use_threads

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=8, help="of each row (default: 8)")
    parser.add_argument("--threads", type=int, help="of a training (default: as the commands do)")
    parser.add_argument("--step", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        use_threads(given.step, exactly=True)
        step_forever(given.seconds)
        return
    chosen = choose_threads(given.threads)
    cores = len(os.sched_getaffinity(0))
    print(f"a training of the demonstration's size, {chosen}")
    alone = measure([chosen.count], given.seconds)
    rows = [
        ("alone", alone, 1.0),
        ("beside another training", measure([chosen.count] * 2, given.seconds), 0.5),
        (f"beside {cores} busy loops", measure([chosen.count], given.seconds, cores), 0.5),
        (
            f"{4 * cores} threads asked for",
            measure([choose_threads(4 * cores).count], given.seconds),
            1.0,
        ),
        (f"{4 * cores} threads on {cores} cores", measure([4 * cores], given.seconds), 1.0),
    ]
    print(f"{'':30}{'samples/s':>10}{'of the fair share':>20}")
    for name, rate, fair in rows:
        print(f"{name:30}{rate:10.0f}{rate / (fair * alone):20.2f}")


if __name__ == "__main__":
    main()
