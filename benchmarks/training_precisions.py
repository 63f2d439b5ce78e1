"""What training in bfloat16 costs and saves: the demonstration's first stage, for several seeds.

    python benchmarks/training_precisions.py --out DIR [--results results/demo] [--seeds 0 1 2]

After `make demo`, whose patches and frames it uses. Each training and each evaluation is the
command that a person would type; the trainings of a seed, one in float32 and one in bfloat16,
follow one another. DIR keeps what was measured, which is not measured again; calls for other seeds
may run beside this one. Validation L1 is the last epoch's; PSNR is the mean of the held-out
triplets without a jump cut, predicted in float32 (protocol `standard`). Times are those of the
training's process with all that it does: by the clock, and of all its threads on the processor,
which other work on the machine lengthens less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from pipeline.processor import computes_bfloat16

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = ("fp32", "bf16")


class Outcome(NamedTuple):
    """Of one training: dB, grey levels of 1, and seconds."""

    psnr: float
    validation: float
    clock: float
    processor: float


def midframe(*words: object) -> tuple[float, float]:
    """Run a command; seconds by the clock, and of the processor."""
    command = [sys.executable, "-m", "midframe", *map(str, words)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime


def train_and_evaluate(results: Path, folder: Path, seed: int, precision: str) -> Outcome:
    """The first stage with this seed and precision, scored on the held-out triplets."""
    config = yaml.safe_load((ROOT / "config.demo.yaml").read_text())
    stage, evaluation = config["stages"]["l1"], config["evaluations"]["held-out"]
    patches, validation = (results / "patches" / stage.pop(n) for n in ("patches", "validation"))
    frames = results / "datasets" / evaluation.pop("dataset")
    stage |= {"seed": seed, "precision": precision}
    model, scores = folder / f"{precision}-{seed}", folder / "scores"
    weights = model / "weights" / f"epoch-{stage['epochs']:04d}.safetensors"
    to_train = ("--validation", validation, "--out", model, "--settings", json.dumps(stage))
    clock, processor = midframe("train", patches, *to_train)
    to_evaluate = ("--model", weights, "--out", scores, "--settings", json.dumps(evaluation))
    midframe("evaluate", frames, *to_evaluate)
    rows = pd.read_csv(scores / "scores.csv")
    psnr = float(rows.loc[rows["cut"] == 0, "standard_psnr"].mean())
    validation_loss = float(pd.read_csv(model / "metrics.csv")["validation_loss"].iloc[-1])
    return Outcome(psnr, validation_loss, clock, processor)


def measured(results: Path, out: Path, seed: int, precision: str) -> Outcome:
    """What ``out`` holds, or else a training, whose outcome is put there."""
    kept = out / f"{precision}-{seed}.json"
    if not kept.exists():
        with tempfile.TemporaryDirectory(prefix="midframe-precisions-") as name:
            outcome = train_and_evaluate(results, Path(name), seed, precision)
        kept.write_text(json.dumps(outcome._asdict()))
    return Outcome(**json.loads(kept.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="keeps the numbers")
    parser.add_argument("--results", type=Path, default=ROOT / "results/demo", help="of make demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    if not computes_bfloat16():
        print("this processor does not compute in bfloat16, so its times say nothing")
    rows: list[tuple[Outcome, Outcome]] = []
    results, out = given.results.resolve(), given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        exact, rounded = (measured(results, out, seed, p) for p in PRECISIONS)
        rows.append((exact, rounded))
    print("\n| seed | PSNR, float32 | bfloat16 | difference | validation L1, float32 | bfloat16 |")
    print("|---|---|---|---|---|---|")
    for seed, (exact, rounded) in zip(given.seeds, rows, strict=True):
        print(
            f"| {seed} | {exact.psnr:.3f} dB | {rounded.psnr:.3f} dB | "
            f"{rounded.psnr - exact.psnr:+.3f} dB | {exact.validation:.5f} | "
            f"{rounded.validation:.5f} |"
        )
    differences = [rounded.psnr - exact.psnr for exact, rounded in rows]
    print(f"\nmean difference {statistics.mean(differences):+.3f} dB", end="")
    for kind in ("clock", "processor"):
        ratio = statistics.median(getattr(b, kind) / getattr(a, kind) for a, b in rows)
        seconds = statistics.median(getattr(a, kind) for a, _ in rows)
        print(f"; {kind} {ratio:.2f} of float32's {seconds:.0f} s (medians)", end="")
    print()


if __name__ == "__main__":
    main()
