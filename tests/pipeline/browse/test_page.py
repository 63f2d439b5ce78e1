"""The page of patches in a real Chromium: what a person does, and no complaint of the browser."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.selection.candidates import WHOLE_SCHEMA
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.store.flags import flags_file, read_flags
from pipeline.store.patch_store import CANDIDATES, STORE, PatchStore, shard_file
from tests.conftest import SMALL_PATCHES
from tests.pipeline.browse.chromium import NEEDED, STEP, choose, count, motions, playwright, until
from tests.pipeline.browse.conftest import serving

pytestmark = NEEDED


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
    # It reached the end, so the largest are in it, however they are rounded.
    assert page.locator('[data-filter="draw:most"]').input_value() == ""
    count(page, f"{(table['draw'] >= least).sum()} of {len(table)} windows")
    page.fill('[data-filter="draw:least"]', "2")
    page.get_by_text("No window matches the filters").wait_for()


def test_a_wheel_passes_over_no_window_however_many_there_are(page: Any, address: str) -> None:
    total = 2_000_000

    def many(route: Any) -> None:
        first = re.sub(r"start=\d+", "start=0", route.request.url)
        told = route.fetch(url=first).json()
        told["rows"] = [told["rows"][0]] * 200
        route.fulfill(json=told | {"total": total, "of": total})

    page.route("**/api/stores/0/rows?*", many)
    page.goto(f"{address}/?size=384")
    page.locator(".tile img").first.wait_for()
    shown = """() => [...document.querySelectorAll('#grid li')]
        .filter((one) => one.getBoundingClientRect().bottom > 100)
        .filter((one) => one.getBoundingClientRect().top < innerHeight)
        .map((one) => Number(one.getAttribute('aria-posinset')))"""
    seen = set(page.evaluate(shown))
    page.mouse.move(800, 500)
    while max(seen) < 20:
        before = page.evaluate("document.getElementById('scroller').scrollTop")
        page.mouse.wheel(0, 120)
        page.wait_for_function(
            "(before) => document.getElementById('scroller').scrollTop !== before", arg=before
        )
        page.wait_for_timeout(250)
        seen |= set(page.evaluate(shown))
    assert seen == set(range(1, max(seen) + 1))
    # A jump of the scroll bar still reaches the end.
    page.locator("#scroller").evaluate("(one) => { one.scrollTop = one.scrollHeight; }")
    page.locator(f"li[aria-posinset='{total}']").wait_for()


def test_any_sequence_can_be_chosen_among_many(page: Any, copied: Callable[[], Path]) -> None:
    patches = copied()
    table = pd.read_parquet(patches / CANDIDATES)
    # Each window is of a sequence of its own, with a name that an address has to write otherwise.
    table["sequence"] = [f"take {row % 24}, 50% of it" for row in range(len(table))]
    table = pd.concat([table] * 12, ignore_index=True)
    table["sequence"] += [f", no. {row}" for row in range(len(table))]
    table["sample"] = -1
    table.to_parquet(patches / CANDIDATES, schema=WHOLE_SCHEMA, index=False)
    with serving(patches) as server:
        page.goto(f"{server.address}/?reason=")
        count(page, "576 of 576 windows")
        page.get_by_text("and 476 more").wait_for()
        page.get_by_label("Sequence: part of a name").fill("NO. 287")
        choose(page, "sequence:take 23, 50% of it, no. 287")
        count(page, "1 of 576 windows")
        page.get_by_label("Sequence: part of a name").fill("no. 28")
        choose(page, "sequence:take 4, 50% of it, no. 28")
        count(page, "2 of 576 windows")
        page.reload()
        count(page, "2 of 576 windows")
        chosen = page.locator('[data-filter^="sequence"]:checked')
        playwright.expect(chosen).to_have_count(2, timeout=STEP)
        page.get_by_text("sequences that change no more than these").wait_for()


def test_the_detail_keeps_the_place_of_the_keyboard_and_tells_problems(
    page: Any, copied: Callable[[], Path]
) -> None:
    patches = copied()
    with serving(patches) as server:
        page.goto(f"{server.address}/?open=9")
        detail = page.locator("#detail")
        because, alert = detail.locator(".because"), detail.get_by_role("alert")
        detail.locator("img").first.wait_for()
        before = because.inner_text()
        focused = detail.locator(":focus")
        detail.get_by_role("button", name="Next").focus()
        page.keyboard.press("Enter")
        playwright.expect(because).not_to_have_text(before, timeout=STEP)
        playwright.expect(focused).to_have_text("Next j", timeout=STEP)
        before = because.inner_text()
        page.keyboard.press("k")
        playwright.expect(because).not_to_have_text(before, timeout=STEP)
        playwright.expect(focused).to_have_text("Next j", timeout=STEP)
        page.keyboard.press("i")
        note = detail.get_by_label("Note")
        playwright.expect(note).to_be_enabled(timeout=STEP)
        note.fill("a swan")
        note.press("Enter")
        until(lambda: [flag.note for flag in read_flags(flags_file(patches)).values()], ["a swan"])
        playwright.expect(note).to_be_focused(timeout=STEP)
        # What is typed last is kept, too.
        note.fill("two swans")
        note.press("Escape")
        until(
            lambda: [flag.note for flag in read_flags(flags_file(patches)).values()], ["two swans"]
        )
        flags_file(patches).write_text("{")
        page.keyboard.press("Enter")
        detail.locator("img").first.wait_for()
        page.keyboard.press("f")
        playwright.expect(alert).to_contain_text("not a file of flags", timeout=STEP)
        flags_file(patches).unlink()
        page.keyboard.press("f")
        playwright.expect(alert).to_be_hidden(timeout=STEP)
        server.interrupt()
        page.keyboard.press("j")
        playwright.expect(alert).to_contain_text("The server does not answer", timeout=STEP)


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
    # What was not measured in this store cannot be asked.
    assert page.locator("#what-if-max_misfit").count() == 0
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
    page.fill("#what-if-tries", "99")
    page.locator("#answer").get_by_text("only the 8 windows that were tried").wait_for()
    page.wait_for_load_state("networkidle")
    assert page.locator("#answer").get_by_text("only the 8 windows that were tried").is_visible()


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
