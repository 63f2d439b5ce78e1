"""Pictures of the page to browse, for the docs, taken in a Chromium.

python benchmarks/picture_browse.py DIR [DIR …] --out docs/images
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
SHOWN = "() => [...document.querySelectorAll('img[src]')].every((one) => one.complete)"


def picture(page: Page, file: Path) -> None:
    page.wait_for_function(SHOWN)
    page.screenshot(path=file, type="jpeg", quality=80)
    print(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directories", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("a Chromium is needed (Debian: chromium)")
    server = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "browse", *arguments.directories]
        + ["--port", "0", "--no-open"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        address = server.stdout.readline().strip()
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=OPTIONS)
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(20_000)
            page.goto(address)
            page.locator(".tile img").first.wait_for()
            picture(page, arguments.out / "browse_grid.jpg")
            page.goto(f"{address}?reason=little+motion&sort=-motion")
            page.locator(".tile img").first.click()
            page.locator("#detail img").first.wait_for()
            picture(page, arguments.out / "browse_detail.jpg")
            page.goto(f"{address}models?left=a-error&right=b-error")
            page.wait_for_function("() => document.getElementById('right-picture').naturalWidth")
            picture(page, arguments.out / "browse_models.jpg")
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
