"""Time of a dataset from nothing, and of a second one with other sampling, on the sample clips.

    python benchmarks/bench_second_dataset.py [--cores N]

Both are made by `snakemake dataset`. The second has patches of 128 pixels, 40 tries and another
seed; the flow of the first, which costs most, serves it too.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from pipeline.store.patch_store import PatchStore

ROOT = Path(__file__).parents[1]
FIRST = {"datasets": ["clips"], "sequences": ["b*"], "motion_scale": 5.0}
SECOND = FIRST | {"patch_size": 128, "tries": 40, "seed": 1}


def make(folder: Path, patches: dict[str, Any], cores: int) -> None:
    """Run the graph up to the patches; print the rules that ran and the time."""
    config = {
        "results": "results",
        "datasets": {"clips": {"source": "sample-clips"}},
        "patches": {"train": patches},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
        *("--configfile", "config.yaml", "--workflow-profile", "none", "--cores", str(cores)),
        *("--", "dataset"),
    ]
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(done.stderr)
    stats = re.search(r"^Job stats:\n.*\n-.*\n([\s\S]*?)^total", done.stdout + done.stderr, re.M)
    assert stats is not None
    rules = [line.split()[0] for line in stats[1].splitlines()]
    store = PatchStore.open(folder / "results/patches/train")
    print(
        f"{json.dumps(patches)}\n  {len(store)} patches of {store.patch_size} pixels in "
        f"{seconds:.1f} s; rules that ran: {', '.join(rules)}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), FIRST, arguments.cores)
        make(Path(name), SECOND, arguments.cores)


if __name__ == "__main__":
    main()
