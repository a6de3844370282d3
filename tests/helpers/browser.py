"""A page in the Chromium that this machine has: what it says, what it asks for, its pictures.

`python tests/helpers/browser.py` renews the pictures of README.md, after `python -m bench report`.
"""

import atexit
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pytest
from paths import ROOT
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
PICTURES = {"page-desktop": (1280, 800), "page-phone": (390, 844)}  # in .github, by their sizes


class Seen(NamedTuple):
    """An open page, what it said or failed with, and what it asked for but does not hold itself."""

    page: Page
    said: list[str]
    asked: list[str]


@cache
def browser() -> Browser:
    """Start Chromium once; skip the test where there is none."""
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine: Debian's package is chromium")
    driver = sync_playwright().start()
    atexit.register(driver.stop)
    return driver.chromium.launch(executable_path=chromium, args=QUIET)


@contextmanager
def opened(
    path: Path, width: int = 1280, height: int = 900, dark: bool = False, link: str = ""
) -> Iterator[Seen]:
    """Open a file, with nothing remembered of another."""
    page = browser().new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    seen = Seen(page, [], [])
    page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (seen.said.append("a dialog"), dialog.dismiss()))
    own = path.resolve().as_uri()
    page.on("request", lambda request: seen.asked.append(request.url)
            if not request.url.startswith((own, "data:", "blob:")) else None)  # fmt: skip
    page.goto(own + link)
    page.locator("#results h2").scroll_into_view_if_needed()  # near it its table is made
    page.locator("#filters").wait_for(state="visible")
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    yield seen
    page.context.close()


def take_pictures(page: Path, folder: Path) -> list[Path]:
    """Store the first screen of a report's page at both widths, in few bytes; return the paths."""
    paths = []
    for name, (width, height) in PICTURES.items():
        with opened(page, width, height) as seen:
            seen.page.reload()  # as it is before anything was scrolled
            taken = BytesIO(seen.page.screenshot())
        with Image.open(taken) as picture:
            packed = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
        packed.save(folder / f"{name}.png", optimize=True)
        paths.append(folder / f"{name}.png")
    return paths


if __name__ == "__main__":
    report = ROOT / "results" / "report" / "report.html"
    if not report.exists():
        sys.exit(f"{report} is shown; write it first: python -m bench report")
    try:
        print(*take_pictures(report, ROOT / ".github"), sep="\n")
    except pytest.skip.Exception as none:
        sys.exit(str(none))
