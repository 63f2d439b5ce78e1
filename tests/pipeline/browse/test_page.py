"""The pages in a real Chromium: what a person does, and no complaint of the browser or of axe.

Everything is bounded: a step by the browser's own time limit, a test by a watch. A browser that
answers nothing for that long is ended and its test skipped: what it would have shown is not known.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.look.inspection import inspect
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.store.flags import flags_file, read_flags
from pipeline.store.patch_store import STORE, PatchStore, shard_file
from tests.conftest import SMALL_PATCHES
from tests.pipeline.browse.conftest import HUNG, serving

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: chromium)"),
    pytest.mark.timeout(180),
]
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


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[Any]:
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
    # That an answer was a refusal the browser tells by itself; the page does, too.
    refused = message.text.startswith("Failed to load resource: the server responded with")
    if message.type in ("error", "warning") and not refused:
        complaints.append(message.text)


@pytest.fixture(scope="module")
def address(
    patches: Path,
    source: Source,
    evaluations: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A server of a copy of the patches, and of two evaluations."""
    copy = shutil.copytree(patches, tmp_path_factory.mktemp("browsed") / "patches")
    with serving(Path(copy), source.frames, source.motion, *evaluations) as server:
        yield server.address


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
    while read() != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert read() == wanted


def choose(page: Any, name: str) -> None:
    page.locator(f'[data-filter="{name}"]').click()


def test_filter_and_sort_live_in_the_address(page: Any, address: str, patches: Path) -> None:
    table = PatchStore.open(patches).candidates()
    page.goto(address)
    count(page, f"{(table['reason'] == 'taken').sum()} of {len(table)} windows")
    choose(page, "reason:taken")
    count(page, f"{len(table)} of {len(table)} windows")
    choose(page, "sequence:ride")
    page.fill('[data-filter="motion:least"]', "1")
    page.select_option("#sort", "-motion")
    chosen = table[(table["sequence"] == "ride") & (table["motion"] >= 1)]
    count(page, f"{len(chosen)} of {len(table)} windows")
    playwright.expect(page.locator(".tile img")).to_have_count(len(chosen), timeout=STEP)
    expected = [f"{motion:.3g}" for motion in sorted(chosen["motion"], reverse=True)]
    until(lambda: motions(page), expected)
    assert "sort=-motion" in page.url
    page.reload()
    count(page, f"{len(chosen)} of {len(table)} windows")
    playwright.expect(page.locator(".tile img")).to_have_count(len(chosen), timeout=STEP)
    until(lambda: motions(page), expected)
    assert page.locator("#sort").input_value() == "-motion"
    page.click("#clear")
    count(page, f"{len(table)} of {len(table)} windows")
    # Space plays the triplet of the tile in focus.
    page.locator(".tile[tabindex='0']").focus()
    page.keyboard.press("Space")
    page.wait_for_selector(".tile[data-frame='2']")
    page.keyboard.press("End")
    last = page.locator(f"li[aria-posinset='{len(table)}'] .tile")
    playwright.expect(last).to_be_focused(timeout=STEP)
    # A drag over the histogram chooses a range, a click on it takes it off.
    page.get_by_text("More numbers").click()
    box = page.locator("fieldset", has_text="Draw").locator(".histogram")
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    page.mouse.move(place["x"] + place["width"] * 0.5, place["y"] + 10)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] + 5, place["y"] + 10, steps=4)
    page.mouse.up()
    page.wait_for_function("() => location.search.includes('draw=')")
    least = float(page.locator('[data-filter="draw:least"]').input_value())
    most = float(page.locator('[data-filter="draw:most"]').input_value())
    fewest = table["draw"].between(least, most).sum()
    total = page.locator("#count")
    until(lambda: fewest <= int(total.inner_text().split(" ")[0]) < len(table), True)


def test_a_flagged_window_is_left_out_when_built_anew(
    page: Any, copied: Callable[[], Path], source: Source, tmp_path: Path
) -> None:
    patches = copied()
    store = PatchStore.open(patches)
    with serving(patches) as server:
        page.goto(server.address)
        page.locator("li[aria-posinset='3'] img").wait_for()
        page.locator("li[aria-posinset='3'] .tile").click()
        detail = page.locator("#detail")
        detail.get_by_text("Why: it moves by").wait_for()
        assert "open=" in page.url
        page.wait_for_function(
            "() => document.querySelectorAll('#detail img').length === 6 &&"
            "[...document.querySelectorAll('#detail img')].every((one) => one.naturalWidth)"
        )
        # On and back by the keyboard.
        first = detail.locator(".because").inner_text()
        page.keyboard.press("j")
        playwright.expect(detail.locator(".because")).not_to_have_text(first, timeout=STEP)
        page.keyboard.press("ArrowLeft")
        playwright.expect(detail.locator(".because")).to_have_text(first, timeout=STEP)
        page.keyboard.press("f")
        bad = detail.get_by_role("button", name="bad f")
        playwright.expect(bad).to_have_attribute("aria-pressed", "true", timeout=STEP)
        detail.get_by_label("Note").fill("torn")
        detail.get_by_label("Note").press("Tab")
        page.keyboard.press("Escape")
        playwright.expect(detail).to_be_hidden(timeout=STEP)
        page.locator(".tile[data-flag='bad']").wait_for()
        page.keyboard.press("?")
        page.get_by_role("heading", name="Keys").wait_for()
    ((window, flag),) = read_flags(flags_file(patches)).items()
    assert (flag.mark, window.first_frame) == ("bad", store.table()["first_frame"][2])
    exclude = [flags_file(patches)]
    sample([source], tmp_path / "out", SMALL_PATCHES, workers=0, exclude=exclude)
    assert len(PatchStore.open(tmp_path / "out")) == len(store) - 1


def test_what_if_tells_what_a_real_run_takes(
    page: Any, address: str, source: Source, tmp_path: Path
) -> None:
    page.goto(address)
    page.locator("#what-if-total").wait_for()
    page.fill("#what-if-motion_scale", "4")
    page.fill("#what-if-max_overlap", "0.5")
    settings = SMALL_PATCHES.model_copy(update={"motion_scale": 4.0, "max_overlap": 0.5})
    sample([source], tmp_path / "out", settings, workers=0)
    built = len(PatchStore.open(tmp_path / "out"))
    playwright.expect(page.locator("#answer pre")).to_contain_text("max_overlap: 0.5", timeout=STEP)
    playwright.expect(page.locator("#what-if-total")).to_contain_text(f"{built} windows taken")
    lost = int(page.locator("#what-if-total").inner_text().split("gained, ")[1].split()[0])
    assert lost > 0
    page.get_by_role("button", name="Show lost").click()
    count(page, f"{lost} of 48 windows")
    page.reload()
    count(page, f"{lost} of 48 windows")


def test_two_models_are_compared_with_a_handle(page: Any, address: str) -> None:
    page.goto(f"{address}/models")
    page.wait_for_function("() => document.getElementById('left-picture').naturalWidth > 0")
    assert page.locator("#triplets button").count() == 2
    swipe = page.locator("#swipe").bounding_box()
    page.mouse.click(swipe["x"] + swipe["width"] / 4, swipe["y"] + 20)
    clip = "getComputedStyle(document.getElementById('left-picture')).clipPath"
    assert page.locator("#handle").input_value() == "25"
    assert page.evaluate(clip) == "inset(0px 75% 0px 0px)"
    width = "document.getElementById('left-picture').getBoundingClientRect().width"
    assert page.evaluate(width) == page.evaluate(
        "document.getElementById('left-picture').naturalWidth"
    )
    page.locator("#viewer").focus()
    page.keyboard.press("Space")
    page.wait_for_function(f"() => {clip} === 'none'")
    page.keyboard.press("Space")
    until(lambda: page.evaluate(clip), "inset(0px 75% 0px 0px)")
    page.select_option("#left", "a-error")
    page.wait_for_function(
        "() => document.getElementById('left-picture').src.includes('error') &&"
        "document.getElementById('left-picture').complete"
    )
    page.select_option("#a", "1")
    page.wait_for_function("() => location.search.includes('a=1')")


def test_a_damaged_tile_says_so_and_a_new_store_is_shown(
    page: Any, copied: Callable[[], Path], source: Source
) -> None:
    patches = copied()
    with serving(patches) as server:
        page.goto(server.address)
        page.locator(".tile img").first.wait_for()
        page.wait_for_load_state("networkidle")
        fewer = SMALL_PATCHES.model_copy(update={"tries": 5})
        sample([source], patches, fewer, workers=0)
        # The tiles of another size are not there yet.
        page.locator("#size").fill("0")
        count(page, f"{len(PatchStore.open(patches))} of 30 windows")
        page.get_by_role("alert").get_by_text("The store was replaced").wait_for()
        shard = shard_file(patches / STORE, 0)
        content = bytearray(shard.read_bytes())
        content[100] ^= 255
        shard.write_bytes(content)
        page.locator("#size").fill("1")
        page.locator(".damage", has_text="is damaged").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(page: Any, address: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    for width in (360, 1200, 3840):
        page.set_viewport_size({"width": width, "height": width * 9 // 16 + 500})
        for path, ready in (
            ("/?size=256", ".tile img"),
            ("/?size=256&open=0", "#detail img"),
            ("/models", "#left-picture[src]"),
        ):
            page.goto(address + path)
            page.locator(ready).first.wait_for()
            assert violations(page) == [], (path, width)


def violations(page: Any) -> list[tuple[str, str]]:
    """What axe complains of, and what does not fit the width."""
    found = axe.Axe().run(page).response["violations"]
    told = [(one["id"], one["nodes"][0]["html"]) for one in found]
    over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return told + ([("too wide", f"{over} px")] if over > 0 else [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_static_page_has_no_violation_and_says_how_to_browse(
    page: Any, patches: Path, tmp_path: Path, scheme: str
) -> None:
    inspect(patches, tmp_path / "out")
    page.emulate_media(color_scheme=scheme)
    for width in (360, 3840):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto((tmp_path / "out" / "index.html").as_uri())
        assert violations(page) == [], width
    assert page.get_by_text(f"midframe browse {patches}").is_visible()


def test_all_is_reached_by_the_keyboard_and_has_a_name(page: Any, address: str) -> None:
    page.goto(address)
    page.locator(".tile img").first.wait_for()
    # From the top on, a Tab at a time, to the windows.
    reached = []
    name = """(() => {
        const here = document.activeElement;
        return here.ariaLabel ?? here.labels?.[0]?.textContent ?? here.textContent;
    })()"""
    while "px, taken" not in (reached or [""])[-1] and len(reached) < 60:
        page.keyboard.press("Tab")
        reached.append(str(page.evaluate(name)))
    assert all(words.strip() for words in reached), reached
    assert any("Most from a sequence" in words for words in reached)
    page.keyboard.press("ArrowRight")
    second = page.locator("li[aria-posinset='2'] .tile")
    playwright.expect(second).to_be_focused(timeout=STEP)
    page.keyboard.press("Enter")
    title = page.locator("#detail-title").inner_text(timeout=STEP)
    dialog = page.get_by_role("dialog", name=title)
    dialog.get_by_role("img", name="Flow from first to third").wait_for()
    because = dialog.locator(".because")
    before, address_before = because.inner_text(), page.url
    page.keyboard.press("j")
    playwright.expect(because).not_to_have_text(before, timeout=STEP)
    opened = page.url
    assert "open=" in opened
    assert opened != address_before
    page.keyboard.press("Escape")
    # The place is kept where the detail went to.
    playwright.expect(page.locator("li[aria-posinset='3'] .tile")).to_be_focused(timeout=STEP)
    # And is found again by the address.
    page.goto(opened)
    page.locator("#detail[open]").wait_for()
    page.keyboard.press("Escape")
    playwright.expect(page.locator(".tile[tabindex='0']")).to_be_focused(timeout=STEP)
    assert page.locator(".tile[tabindex='0'] >> xpath=..").get_attribute("aria-posinset") == "3"
