"""The page of a report, in a real browser: whole without a network, and safe with any text."""

import atexit
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from reports import blank_figures, snapshot
from run_builder import FEW_KERNELS, add_case, build_run, fail, play, save, spoil

from bench.report.build import write_report
from bench.report.html import all_results
from bench.report.style import COLOURS
from bench.report.tables import ALL_RESULTS, render
from bench.store.runs import load_frame

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


class Seen(NamedTuple):
    """An open page, what it said or failed with, and what it asked for but does not hold itself."""

    page: Page
    said: list[str]
    asked: list[str]


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
    seen = Seen(page, [], [])
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


SIZES = ((33, 6, 3), (100, 6, 3), (1_000, 6, 3), (100, 64, 16))
HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>"
    "\"'`|&amp;</script>\x1b[31m](javascript:alert(1)) ../../etc/passwd http://e.x/"
)
MOST_BYTES, TEN_MB = 5_000_000, 10_000_000


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = build_run(["gradient", "step"], SIZES, kernels=FEW_KERNELS, processes=5)
    for size in SIZES:
        add_case(run, "step", "numpy_step", size, (2e-5, 4e-11, "m * o"))
    play(run, "numpy_step", "peer")
    fail(run, run["outcomes"][2], "crashed", "out of luck")
    return save(run, tmp_path_factory.mktemp("runs") / "amd" / "a.json")


@pytest.fixture(scope="module")
def page(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert out / "report.html" in write_report([stored], out, page=True)[0]
    return out / "report.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a run whose every text is an attack."""
    run = build_run(["gradient", "step"], SIZES[:2], kernels=FEW_KERNELS, processes=5)
    spoil(run, HOSTILE)
    run["commit_info"]["id"] = "`|<script>"
    run["settings"]["half"] = "\ud800"
    run["settings"]["much"] = run["outcomes"][-2]["reason"] = HOSTILE * (TEN_MB // len(HOSTILE))
    run["packages"]["<img src=x onerror=document.title='taken'>"] = HOSTILE
    for benchmark in run["benchmarks"]:
        benchmark["extra_info"]["warnings"] = [HOSTILE[:200]]
    folder = tmp_path_factory.mktemp("hostile")
    path = save(run, folder / "<script>document.title='taken'<" / "x.json")
    with pytest.MonkeyPatch.context() as patch:
        blank_figures(patch)
        write_report([path], folder / "out", page=True)
    return folder / "out" / "report.html"


def test_it_opens_from_a_disk_without_a_message_or_a_request(page: Path) -> None:
    with opened(page) as seen:
        expect(seen.page.locator("#cases tbody tr")).to_have_count(24)
        assert seen.page.title().startswith("The gradient of a multi-output linear layer")
        shown = seen.page.locator("main").inner_text()
        for said in (
            *("Most often the fastest, ties included", "Forming the Jacobian", "out of luck"),
            *("Jacobian overhead", "Empirical complexity", "Cases without results"),
        ):
            assert said.lower() in shown.lower(), said
        pictures = seen.page.locator("main img")
        assert pictures.count() >= 9
        wide = "image => image.decode().then(() => image.naturalWidth)"
        for picture in pictures.all():
            picture.scroll_into_view_if_needed()
            assert picture.evaluate(wide) > 300
            assert len(picture.get_attribute("alt") or "") > 10
    assert not seen.said
    assert not seen.asked
    assert page.stat().st_size < MOST_BYTES


def test_the_table_filters_and_sorts(page: Path) -> None:
    with opened(page) as seen:
        rows = seen.page.locator("#cases tbody tr")
        seen.page.get_by_label("kernel", exact=True).select_option("kron_einsum")
        expect(rows).to_have_count(4)
        kernels = seen.page.locator("#cases tbody td:nth-child(1)").all_inner_texts()
        assert set(kernels) == {"kron_einsum"}
        seen.page.get_by_label("status", exact=True).select_option("crashed")
        expect(rows).to_have_count(1)
        assert "out of luck" in rows.first.inner_text()
        seen.page.get_by_role("button", name="Show all").click()
        expect(rows).to_have_count(24)
        seen.page.get_by_label("Search").fill("numpy_step")
        expect(rows).to_have_count(4)
        seen.page.get_by_role("button", name="Show all").click()

        times = seen.page.locator("#cases tbody td:nth-child(9)")
        head = seen.page.locator("#cases thead th", has_text="time: median")
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", "ascending")
        rising = [seconds(text) for text in times.all_inner_texts()]
        assert rising == sorted(rising)
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", "descending")
        falling = [seconds(text) for text in times.all_inner_texts()]
        assert falling == sorted(falling, reverse=True)
    assert not seen.said


def seconds(text: str) -> float:
    """Read a time as the page writes it; what is missing is less than any."""
    if text == "–":
        return -1.0
    number, unit = text.split()[:2]
    return float(number.replace(",", "")) * {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


def test_the_theme_follows_the_system_or_the_reader(page: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with opened(page, dark=True) as seen:
        button = seen.page.locator("#theme")
        dark = seen.page.evaluate(ground)
        button.press("Enter")
        assert button.inner_text() == "Theme: light"
        light = seen.page.evaluate(ground)
        assert light == "rgb(255, 255, 255)" != dark
        button.press("Enter")
        assert button.inner_text() == "Theme: dark"
        assert seen.page.evaluate(ground) == dark
        seen.page.reload()
        assert button.inner_text() == "Theme: dark"
    with opened(page) as seen:
        assert seen.page.evaluate(ground) == light


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_a_checker_of_accessibility_finds_nothing_serious(
    page: Path, width: int, dark: bool
) -> None:
    """It looks at contrast, names of controls, order of headings, regions that scroll, and more."""
    with opened(page, width=width, dark=dark) as seen:
        found = Axe().run(seen.page).response["violations"]
    assert [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found] == []


def test_nothing_but_tables_is_wider_than_a_phone(page: Path) -> None:
    with opened(page, width=360, height=740) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_can_be_read_by_keyboard_and_in_print(page: Path) -> None:
    with opened(page) as seen:
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.textContent") == "Skip to the report"
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.id") == "theme"
        seen.page.emulate_media(media="print")
        assert not seen.page.get_by_label("Sections").is_visible()
        assert seen.page.pdf()[:5] == b"%PDF-"


def test_any_text_out_of_a_run_file_is_shown_as_it_is(hostile: Path) -> None:
    with opened(hostile) as seen:
        body = seen.page.locator("body")
        assert "<script>document.title='taken'</script><img src=x" in body.inner_text()
        seen.page.get_by_label("kernel", exact=True).select_option(index=2)
        seen.page.wait_for_timeout(300)
        assert "taken" not in seen.page.title()
        scripts = "[...document.querySelectorAll('script')].map(one => one.type)"
        assert seen.page.evaluate(scripts) == ["application/gzip", "module"]
        assert seen.page.locator("img[onerror], img[src=x], a[href^=javascript]").count() == 0
        assert seen.page.locator("main a[href^=http]").count() == 0
    assert not seen.said
    assert not seen.asked
    assert hostile.stat().st_size < MOST_BYTES  # with texts of 10 MB in it
    assert hostile.with_name("REPORT.md").stat().st_size < MOST_BYTES / 10


def test_a_script_that_got_in_would_not_run(page: Path, tmp_path: Path) -> None:
    """The page allows its own script by its hash, so even an escape forgotten does no harm."""
    text = page.read_text(encoding="utf-8")
    harm = "document.title='taken'"
    planted = f'<script>{harm}</script><img src=x onerror="{harm}">'
    broken = tmp_path / "report.html"
    broken.write_text(text.replace('<h2 id="part-1-title">', f'{planted}<h2 id="part-1-title">'))
    with opened(broken) as seen:
        seen.page.wait_for_timeout(300)
        assert "taken" not in seen.page.title()
    assert any("Content Security Policy" in one for one in seen.said)


def test_the_same_runs_give_the_same_bytes_and_without_the_page_none_is_left_over(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank_figures(monkeypatch)
    for name in ("one", "other"):
        write_report([stored], tmp_path / name, page=True)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "other")
    write_report([stored], tmp_path / "one")
    assert not (tmp_path / "one" / "report.html").exists()
    assert len(snapshot(tmp_path / "one")) < len(snapshot(tmp_path / "other"))


def test_numbers_are_as_in_the_run(stored: Path) -> None:
    frame = all_results(load_frame([stored]))
    cells = re.findall(r'data-order="(.*?)">(.*?)</td>', str(render(frame, ALL_RESULTS, "html")))
    names = [column.names[0] for column in ALL_RESULTS]
    numeric = [name for name in names if pd.api.types.is_numeric_dtype(frame[name])]
    shown = [name for name in numeric if frame[name].notna().any()]
    orders = np.array([float(order) for order, _ in cells]).reshape(len(frame), len(shown))
    for place, name in enumerate(shown):
        expected = frame[name].astype(float).fillna(-1).to_numpy()
        np.testing.assert_allclose(orders[:, place], expected, rtol=1e-5)
    assert {"median_s", "speedup", "peak_bytes", "max_rel_error", "batch"} <= set(shown)


# Vision without one of the cones: Machado, Oliveira and Fernandes (2009), 10.1109/TVCG.2009.113.
VISION = {
    "full": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
       [0.0193339, 0.1191920, 0.9503041]]  # fmt: skip


def lab(colour: str, vision: list[list[float]]) -> np.ndarray:
    """Return a colour as CIELAB, as seen by some vision."""
    channels = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(vision) @ linear, 0, 1)
    ratio = np.array(XYZ) @ seen / np.array(XYZ).sum(axis=1)
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_the_palette_is_told_apart_with_any_vision(vision: str) -> None:
    """Two kernels of one colour would have other markers and lines as well."""
    for one, other in combinations((*COLOURS, "#000000"), 2):
        apart = np.linalg.norm(lab(one, VISION[vision]) - lab(other, VISION[vision]))
        assert apart > 10, (one, other)
