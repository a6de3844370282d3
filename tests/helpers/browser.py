"""A headless Chromium that opens a page from a disk and keeps what it says and asks for."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@dataclass
class Seen:
    """An open page, and everything it said and asked for.

    Attributes:
        page: To be driven.
        said: Messages of the console, and errors.
        asked: Addresses that it asked for, but for its own and what it holds itself.
    """

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@cache
def _browser() -> Browser:
    """Start Chromium once; skip the test where there is none."""
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine: Debian's package is chromium")
    driver = sync_playwright().start()
    atexit.register(driver.stop)
    return driver.chromium.launch(executable_path=chromium, args=QUIET)


@contextmanager
def opened(path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Seen]:
    """Open a file, with nothing remembered of another."""
    page = _browser().new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    seen = Seen(page)
    page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (seen.said.append("a dialog"), dialog.dismiss()))
    own = path.resolve().as_uri()
    page.on("request", lambda request: seen.asked.append(request.url)
            if not request.url.startswith((own, "data:", "blob:")) else None)  # fmt: skip
    page.goto(own)
    page.locator("#filters").wait_for(state="visible")
    yield seen
    page.context.close()
