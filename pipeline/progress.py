"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

LOG_INTERVAL = 15.0  # seconds between two lines in a log


def notice(message: str) -> None:
    """Print one line on standard error, without tearing a progress bar."""
    tqdm.write(message, file=sys.stderr)


def progress(
    items: Iterable[T],
    total: int,
    label: str,
    unit: str = "it",
    amount: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """Yield ``items`` while showing how many of ``total`` are done, the rate and the time left.

    ``amount`` says how many ``unit`` an item counts for.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, desc=label, unit=f" {unit}", dynamic_ncols=True) as bar:
            for item in items:
                yield item
                bar.update(amount(item))
        return
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += amount(item)
        now = time.monotonic()
        if now - last >= LOG_INTERVAL or done >= total:
            last = now
            rate = done / max(now - start, 1e-9)
            left = max(total - done, 0) / rate
            fast = f"{rate:,.0f}" if rate >= 1000 else f"{rate:.3g}"
            notice(f"{label}: {done}/{total} {unit}, {fast} {unit}/s, {left:.0f} s left")
