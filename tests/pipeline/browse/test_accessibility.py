"""The pages are read by keyboard and screen reader, on narrow and wide screens, light and dark."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.look.inspection import inspect
from tests.pipeline.browse.chromium import NEEDED, STEP, playwright

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
pytestmark = NEEDED


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
