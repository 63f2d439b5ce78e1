"""The page of models in a real Chromium: what a person does, and no complaint of the browser."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.store.evaluation_files import SCORES
from tests.pipeline.browse.chromium import NEEDED, STEP, playwright, until
from tests.pipeline.browse.conftest import serving

pytestmark = NEEDED


def test_two_models_are_compared_with_a_handle(page: Any, address: str) -> None:
    page.goto(f"{address}/models")
    page.wait_for_function("() => document.getElementById('left-picture').naturalWidth > 0")
    assert page.locator("#triplets button").count() == 2
    row = page.locator("#means tr", has_text="other err")
    assert row.locator("td").all_inner_texts() == ["0.5", "1"]
    page.get_by_text("What they measure").click()
    page.get_by_text("an error", exact=True).wait_for()
    page.select_option("#metric", "other_err")
    page.get_by_role("button", name="0.5 and 1, -0.5").first.wait_for()
    page.select_option("#metric", "standard_psnr")
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
    # All by keys: on to the next triplet, blink there, errors and back, the handle.
    page.select_option("#left", "a-prediction")
    chosen = page.locator("#triplets [aria-current='true']")
    before = chosen.inner_text()
    page.locator("#viewer").focus()
    page.keyboard.press("j")
    playwright.expect(chosen).not_to_have_text(before, timeout=STEP)
    playwright.expect(chosen).to_be_focused(timeout=STEP)
    page.keyboard.press("Space")
    blink = page.get_by_role("button", name="Blink")
    playwright.expect(blink).to_have_attribute("aria-pressed", "true", timeout=STEP)
    page.keyboard.press("Space")
    playwright.expect(blink).to_have_attribute("aria-pressed", "false", timeout=STEP)
    page.keyboard.press("e")
    caption = page.locator("#caption")
    playwright.expect(caption).to_contain_text("64 of 255 levels", timeout=STEP)
    page.keyboard.press("e")
    playwright.expect(caption).not_to_contain_text("levels", timeout=STEP)
    page.keyboard.press("l")
    assert page.locator("#handle").input_value() == "30"
    # The arrows are left to the browser, which scrolls.
    page.set_viewport_size({"width": 360, "height": 500})
    page.select_option("#zoom", "4")
    page.locator("#viewer").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.getElementById('viewer').scrollLeft > 0")
    assert page.locator("#handle").input_value() == "30"
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keys").wait_for()


def test_triplets_without_pictures_are_listed_when_asked_for(
    page: Any, evaluations: list[Path], tmp_path: Path
) -> None:
    bare = Path(shutil.copytree(evaluations[1], tmp_path / "bare"))
    (kept,) = list((bare / "predictions").rglob("*prediction.png"))[1:]
    kept.unlink()
    other = Path(shutil.copytree(evaluations[1], tmp_path / "other"))
    scores = pd.read_csv(other / SCORES)
    scores.assign(sequence="another").to_csv(other / SCORES, index=False)
    with serving(evaluations[0], bare, other) as server:
        page.goto(server.address)
        buttons = page.locator("#triplets button")
        playwright.expect(buttons).to_have_count(1, timeout=STEP)
        playwright.expect(page.locator("#count")).to_have_text("2 triplets, 1 with pictures")
        page.get_by_label("only those with pictures").click()
        playwright.expect(buttons).to_have_count(2, timeout=STEP)
        assert "only=0" in page.url
        shutil.rmtree(bare / "predictions")
        page.reload()
        page.get_by_text("No pictures were kept of these triplets").wait_for()
        page.select_option("#b", "2")
        page.get_by_role("alert").get_by_text("share no triplet").wait_for()
        playwright.expect(buttons).to_have_count(0, timeout=STEP)
