"""A real Chromium for tests of the pages.

Everything is bounded: a step by the browser's own time limit, a test by a watch. A browser that
answers nothing for that long is ended and its test skipped: what it would have shown is not known.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from tests.pipeline.browse.conftest import HUNG

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium")
NEEDED = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: chromium)"),
    pytest.mark.timeout(180),
]
"""The marks of a module of tests in a Chromium."""
STEP = 20_000  # milliseconds
LONGEST = 90  # seconds for one test
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def opened_page(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a new browser; what its console complains of fails the test."""
    complaints: list[str] = []
    mine = set(psutil.Process().children())
    with playwright.sync_playwright() as play:
        (driver,) = set(psutil.Process().children()) - mine
        watch = threading.Timer(LONGEST, end_browser, [driver, request.node])
        watch.daemon = True
        watch.start()
        try:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=OPTIONS, timeout=60_000)
            context = browser.new_context(viewport={"width": 1200, "height": 800})
            context.set_default_timeout(STEP)
            opened = context.new_page()
            opened.on("pageerror", lambda error: complaints.append(str(error)))
            opened.on("console", lambda message: complain(message, complaints))
            yield opened
            if not request.node.stash.get(HUNG, False):
                browser.close()
        finally:
            watch.cancel()
    assert complaints == []


def end_browser(driver: psutil.Process, test: pytest.Item) -> None:
    """Kill a browser that hangs; the step that waits for it fails, and its test is skipped."""
    test.stash[HUNG] = True
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def complain(message: Any, complaints: list[str]) -> None:
    # That there was no answer, or a refusal, the browser tells by itself; the page does, too.
    refused = message.text.startswith("Failed to load resource: ")
    if message.type in ("error", "warning") and not refused:
        complaints.append(message.text)


def count(page: Any, words: str) -> None:
    """Wait until the page tells this count of windows."""
    playwright.expect(page.locator("#count")).to_have_text(words, timeout=STEP)


def labels(page: Any) -> list[str]:
    return [str(words) for words in page.locator(".tile .words").all_inner_texts()]


def motions(page: Any) -> list[str]:
    """The motion in pixels that each tile tells."""
    return [words.split("\n")[1].split(" px")[0] for words in labels(page)]


def until(read: Callable[[], Any], wanted: Any) -> None:
    """Wait until a page that is being drawn shows what is wanted."""
    deadline = time.monotonic() + STEP / 1000
    # Read once for each look: what is drawn anew in between is empty for a moment.
    while (shown := read()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert shown == wanted, f"{shown} is shown, not {wanted}"


def choose(page: Any, name: str) -> None:
    page.locator(f'[data-filter="{name}"]').click()
