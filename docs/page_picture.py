"""Takes docs/page.png, the README's picture of the page: `make page-picture`. Needs Debian's chromium."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "results" / "index.html"
PICTURE = ROOT / "docs" / "page.png"
MAX_BYTES = 200_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def take_picture(chromium: str) -> None:
    """The training runs of the affinity ablations on real data, and the first plots, as a reader sees them."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1080, "height": 960}, color_scheme="light")
        page.goto(PAGE.as_uri())
        page.locator("#filters [name=phase]").select_option("train")
        page.locator("#filters [name=text]").fill("affinity-v2/without abag-skempi")
        page.locator("#plot-pareto figcaption").wait_for()
        page.wait_for_load_state("networkidle")
        page.locator("#records").evaluate("section => section.scrollIntoView()")
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    found = shutil.which("chromium")
    if found is None:
        sys.exit("no browser: `apt-get install chromium` brings one")
    if not PAGE.is_file():
        sys.exit(f"{PAGE} is not there: `python -m bench board` makes it")
    take_picture(found)
    if PICTURE.stat().st_size > MAX_BYTES:
        sys.exit(f"{PICTURE} has {PICTURE.stat().st_size:,} bytes, more than {MAX_BYTES:,}; make the window smaller in {__file__}")
