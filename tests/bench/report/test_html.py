"""The page of a report, in a real browser: whole without a network, and safe with any text."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import PICTURES, browser, opened, take_pictures
from own_operations import ATTENTION, CUMSUM, SOFTMAX, own_run
from paths import ROOT
from PIL import Image
from playwright.sync_api import Page, expect
from reports import blank_figures, snapshot
from run_builder import FEW_KERNELS, add_case, build_run, cases, fail, play, save, spoil

from bench.analysis.frame import by_size, cold
from bench.analysis.ranking import fastest
from bench.overhead.section import every_subject
from bench.report.build import write_report
from bench.report.html import all_results
from bench.report.html.data import as_script
from bench.report.style import COLOURS
from bench.report.tables import render, results_columns
from bench.store.runs import load_frame

SIZES = ((33, 6, 3), (100, 6, 3), (1_000, 6, 3), (100, 64, 16))
HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>"
    "\"'`|&amp;</script>\x1b[31m](javascript:alert(1)) ../../etc/passwd http://e.x/"
)
MOST_BYTES_OF_A_PICTURE = 150_000
MOST_BYTES, TEN_MB = 4_000_000, 10_000_000


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = build_run(["gradient", "step"], SIZES, kernels=FEW_KERNELS, processes=5)
    for size in SIZES:
        add_case(run, "step", "numpy_step", size, (2e-5, 4e-11, "m * o"))
    play(run, "numpy_step", "peer")
    fail(run, run["outcomes"][2], "crashed", "out of luck")
    run["kernels"] = {"matmul": {"formula": "Xᵀδ", "docstring": "<b>one</b>\nproduct"}}
    return save(run, tmp_path_factory.mktemp("runs") / "amd" / "a.json")


def with_cold(run: dict[str, Any]) -> dict[str, Any]:
    """Give the cases of a run times with inputs from memory, in which others are the fastest."""
    for benchmark in run["benchmarks"]:
        extra, seconds = benchmark["extra_info"], benchmark["stats"]["median"]
        slower = 40 if extra["kernel"] == "matmul" else 2
        ratio = extra["speedup"] * 2 / slower
        extra |= {"cold_s": slower * seconds, "speedup_cold": ratio,
                  "speedup_cold_low": ratio * 0.98, "speedup_cold_high": ratio * 1.02}  # fmt: skip
    return run


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A page of two machines, one with two runs, of other numbers of threads, and what it is of."""
    folder = tmp_path_factory.mktemp("several")
    few = {"gradient": {name: FEW_KERNELS["gradient"][name] for name in ("autograd", "matmul")}}
    runs = {
        "here/a": with_cold(build_run(["gradient", "step"], SIZES, kernels=FEW_KERNELS)),
        "here/b": build_run(["gradient"], [(33, 6, 3), (7, 5, 3)], kernels=few),
        "there/c": build_run(["step"], SIZES[:2], kernels=FEW_KERNELS, dtype="float32"),
    }
    for name, run in runs.items():
        run["machine"]["slug"] = name.split("/")[0]
        run["datetime"] = f"2026-11-23T0{ord(name[-1]) - 96}:00:00+00:00"
    for entry in cases(runs["there/c"]):
        entry["threads"] = 2
    paths = [save(run, folder / f"{name}.json") for name, run in runs.items()]
    with pytest.MonkeyPatch.context() as patch:
        blank_figures(patch)
        write_report(paths, folder / "out", every_subject(), page=True)
    return folder / "out" / "report.html", paths


@pytest.fixture(scope="module")
def page(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        blank_figures(patch)
        assert out / "report.html" in write_report([stored], out, every_subject(), page=True)[0]
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
        write_report([path], folder / "out", every_subject(), page=True)
    return folder / "out" / "report.html"


def test_it_opens_from_a_disk_without_a_message_or_a_request(page: Path) -> None:
    with opened(page) as seen:
        expect(seen.page.locator("#cases tbody tr")).to_have_count(24)
        assert seen.page.title().startswith("The gradient of a multi-output linear layer")
        shown = seen.page.locator("main").text_content() or ""
        for said in (
            *("is the fastest most often, ties included", "A gradient that forms the Jacobian"),
            *("Jacobian overhead", "Empirical complexity", "Cases without results", "out of luck"),
        ):
            assert said in shown, said
        for part in ("#along", "#roofline", "#one"):
            assert seen.page.locator(f"{part} svg path").count() > 3, part
        assert seen.page.locator("#map .cell").count() == len(SIZES)
    assert not seen.said
    assert not seen.asked
    assert page.stat().st_size < MOST_BYTES


def test_its_pictures_are_as_large_as_their_screens_and_small_files(
    page: Path, tmp_path: Path
) -> None:
    paths = take_pictures(page, tmp_path)
    for path, size in zip(paths, PICTURES.values(), strict=True):
        with Image.open(path) as picture:
            assert picture.size == size
            assert len(picture.convert("RGB").getcolors(1 << 16) or ()) > 16  # it shows something
        assert path.stat().st_size < MOST_BYTES_OF_A_PICTURE


@pytest.mark.slow  # it draws what the page shows of all that is stored
def test_the_page_of_the_stored_runs_is_small_and_says_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "report", "--out", str(tmp_path / "results")],
        cwd=shutil.copytree(ROOT / "results", tmp_path / "results").parent, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = tmp_path / "results" / "report" / "report.html"
    assert written.stat().st_size < MOST_BYTES
    with opened(written, width=390, height=844) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not seen.said
    assert not seen.asked


def test_it_opens_with_the_answers_and_each_leads_to_a_part(page: Path) -> None:
    with opened(page) as seen:
        assert seen.page.locator("main h2").first.inner_text() == "Answers"
        cards = seen.page.locator(".card")
        assert cards.count() == 5
        assert re.fullmatch(r"[\d.,]+× to [\d.,]+×", cards.first.locator(".merit").inner_text()
                            .splitlines()[0].strip())  # fmt: skip
        links = "links => links.map(one => document.querySelector(one.hash)?.tagName)"
        for place in (".card h3 a", ".bar nav a"):
            assert set(seen.page.locator(place).evaluate_all(links)) == {"SECTION"}


def winners_of(page: Page) -> dict[str, str]:
    """Return the kernels at each size of the map, the fastest first."""
    read = "cells => cells.map(cell => [cell.dataset.size, cell.dataset.kernels])"
    return dict(page.locator("#map .cell").evaluate_all(read))


def fastest_of(frame: pd.DataFrame) -> dict[str, str]:
    """Return the same as the tables have it."""
    best = fastest(frame)
    sizes = [f"{row.batch:,} × {row.in_features:,} → {row.out_features:,}"
             for row in best.itertuples()]  # fmt: skip
    found = ["|".join([row.kernel, *row.ties]) for row in best.itertuples()]
    return dict(zip(sizes, found, strict=True))


def test_the_map_says_what_the_tables_say_hot_and_cold(several: tuple[Path, list[Path]]) -> None:
    page, paths = several
    frame = load_frame(paths[:1])
    frame = frame[frame["operation"] == "gradient"]
    with opened(page, link="#machine=here&run=a&operation=gradient&dtype=float64") as seen:
        hot = winners_of(seen.page)
        assert hot == fastest_of(frame)
        seen.page.get_by_label("cold: from memory").check(force=True)
        assert winners_of(seen.page) == fastest_of(cold(frame)) != hot
        assert "from memory (cold)" in seen.page.locator("header [data-conditions]").inner_text()
        seen.page.locator("#legend button", has_text="kron_einsum").click()
        assert not [one for one in winners_of(seen.page).values() if "kron" in one]
    assert not seen.said


def test_the_map_and_the_charts_are_over_the_axes_of_any_operation(tmp_path: Path) -> None:
    run = own_run({"softmax": SOFTMAX, "cumsum": CUMSUM, "attention": ATTENTION}, ["cumsum"])
    with pytest.MonkeyPatch.context() as patch:
        blank_figures(patch)
        write_report([save(run, tmp_path / "a.json")], tmp_path / "out", page=True)
    page, read = tmp_path / "out" / "report.html", "heads => heads.map(one => one.textContent)"
    for operation, corner, axes in (
        ("softmax", "classes", SOFTMAX),
        ("cumsum", "", CUMSUM),
        ("attention", "heads × tokens × width", ATTENTION),
    ):
        with opened(page, link=f"#operation={operation}") as seen:
            sizes = list(axes.values())
            assert seen.page.locator("#map .cell").count() == np.prod([*map(len, sizes)])
            heads = seen.page.locator("#map thead th").evaluate_all(read)
            assert heads == [corner, *(f"{size:,}" for size in sizes[0])]
            titles = seen.page.locator("#along figcaption").evaluate_all(read)
            assert [re.findall(r"against (\w+)", title) for title in titles] == [
                [axis] for axis in axes
            ]
            bare = seen.page.locator("#roofline .empty").count()
            assert bare == (operation == "cumsum")
            assert " · ".join(axes) in (seen.page.locator("#one").text_content() or "")
        assert not seen.said


def test_what_is_shown_is_chosen_in_one_place(several: tuple[Path, list[Path]]) -> None:
    page, _ = several
    with opened(page) as seen:
        said = seen.page.locator("header [data-conditions]")
        assert said.inner_text().startswith("there, step, float32, cpu, 2 threads, inputs in")
        expect(seen.page.locator(".group:visible")).to_have_count(1)
        seen.page.get_by_label("Machine", exact=True).select_option("here")
        assert said.inner_text().startswith("here, step, float64, cpu, 1 thread")
        assert "#machine=here" in seen.page.url
        seen.page.get_by_label("gradient", exact=True).check(force=True)
        # Of a size that both runs have, the run with more kernels there; of another its own.
        sizes = set(winners_of(seen.page))
        assert sizes == {*(f"{m:,} × {n} → {o}" for m, n, o in SIZES), "7 × 5 → 3"}
        assert "runs a (commit 0123456789), b (" in said.inner_text()
        seen.page.get_by_label("Runs", exact=True).select_option("b")
        assert set(winners_of(seen.page)) == {"33 × 6 → 3", "7 × 5 → 3"}
        assert seen.page.locator("#jacobian .none").is_visible()
        url = seen.page.url
    assert not seen.said
    with opened(page, link=f"#{url.partition('#')[2]}") as seen:
        assert set(winners_of(seen.page)) == {"33 × 6 → 3", "7 × 5 → 3"}


def test_a_number_s_conditions_are_one_hover_or_key_away(page: Path) -> None:
    with opened(page) as seen:
        seen.page.locator("#map .cell").first.hover()
        told = seen.page.locator("#tip").inner_text()
        for said in ("speedup, hot", "1 thread, 5 processes", "run a, commit 0123456789"):
            assert said in told, said
        seen.page.locator("#map .cell[tabindex='0']").focus()
        chosen = seen.page.locator("#ranking h3")
        before = chosen.inner_text()
        for key in ("ArrowDown", "ArrowUp", "ArrowLeft"):  # where no size was measured
            seen.page.keyboard.press(key)
        assert chosen.inner_text() == before == "33 × 6 → 3"
        seen.page.keyboard.press("ArrowRight")
        assert chosen.inner_text() == "100 × 6 → 3"
        assert seen.page.evaluate("document.activeElement.dataset.size") == "100 × 6 → 3"
        seen.page.locator("#along .plot").first.focus()
        seen.page.keyboard.press("ArrowRight")
        assert "run a, commit 0123456789" in seen.page.locator("#said").inner_text()
        seen.page.keyboard.press("Escape")
        assert not seen.page.locator("#tip").is_visible()


def test_one_kernel_has_a_view_of_its_own(page: Path) -> None:
    with opened(page) as seen:
        seen.page.locator("#ranking a", has_text="matmul").click()
        facts = seen.page.locator("#one .facts")
        text = facts.inner_text()
        for said in ("fastest, ties included\nat 4 of 4 sizes", "most memory", "largest error",
                     "formula\nXᵀδ", "docstring\n<b>one</b>\nproduct"):  # fmt: skip
            assert said in text, said
        assert facts.locator("b").count() == 0
        assert seen.page.locator("#one .plot").count() == 3
        seen.page.get_by_label("Kernel shown").select_option("kron_einsum")
        assert "1 of 4: out of luck" in facts.inner_text()
        assert "docstring" not in facts.inner_text()
    assert not seen.said


def test_it_can_be_read_without_scripts(page: Path) -> None:
    context = browser().new_context(java_script_enabled=False)
    blind = context.new_page()
    blind.goto(page.resolve().as_uri())
    shown = blind.locator("body").inner_text()
    for said in ("is the fastest most often", "need scripts", "kron_einsum", "Answers"):
        assert said in shown, said
    assert not blind.locator("#conditions").is_visible()
    context.close()


def test_a_run_of_nothing_has_a_page(tmp_path: Path) -> None:
    write_report([save(build_run([]), tmp_path / "a.json")], tmp_path / "out", page=True)
    with opened(tmp_path / "out" / "report.html") as seen:
        assert "Nothing was planned." in seen.page.locator("#answers").inner_text()
    assert not seen.said


def test_what_is_drawn_cannot_end_its_script() -> None:
    said = as_script({"a": "</script><!--\u2028 ü"})
    assert "<" not in said
    assert json.loads(said) == {"a": "</script><!--\u2028 ü"}


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
        seen.page.get_by_label("Search").fill('"100 × 64 → 16"')
        expect(rows).to_have_count(6)
        seen.page.get_by_role("button", name="Show all").click()
        seen.page.get_by_label("batch × in → out", exact=True).select_option("100 × 64 → 16")
        expect(rows).to_have_count(6)
        seen.page.get_by_role("button", name="Show all").click()

        times = seen.page.locator("#cases tbody td:nth-child(10)")
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
        assert light == "rgb(246, 247, 249)" != dark
        button.press("Enter")
        assert button.inner_text() == "Theme: dark"
        assert seen.page.evaluate(ground) == dark
        seen.page.reload()
        assert button.inner_text() == "Theme: dark"
    with opened(page) as seen:
        assert seen.page.evaluate(ground) == light


@pytest.mark.parametrize(
    ("width", "dark", "states"), [(1280, True, (False, True)), (390, False, (True,))]
)
def test_a_checker_of_accessibility_finds_nothing_serious(
    page: Path, width: int, dark: bool, states: tuple[bool, ...]
) -> None:
    """It looks at contrast, names of controls, order of headings, regions that scroll, and more."""
    with opened(page, width=width, dark=dark) as seen:
        for opened_too in states:
            if opened_too:
                seen.page.evaluate(
                    "document.querySelectorAll('details').forEach(one => { one.open = true; })"
                )
                seen.page.locator("#choose").click()
            found = Axe().run(seen.page).response["violations"]
            assert [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found] == []


def test_nothing_but_tables_is_wider_than_a_phone(page: Path) -> None:
    with opened(page, width=360, height=740) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_can_be_read_by_keyboard_and_in_print(page: Path) -> None:
    with opened(page) as seen:
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.textContent") == "Skip to the report"
        reached = set()
        active = "(document.activeElement.closest('form, section') ?? document.activeElement).id"
        for _ in range(90):
            seen.page.keyboard.press("Tab")
            reached.add(seen.page.evaluate(active))
        assert {"theme", "conditions", "answers", "which", "quantity", "size"} <= reached
        seen.page.locator("#choose").press("Enter")
        assert seen.page.evaluate("document.activeElement.id") == "choose-machine"
        seen.page.keyboard.press("Escape")
        assert seen.page.evaluate("document.activeElement.id") == "choose"
        seen.page.emulate_media(media="print", color_scheme="dark")
        assert not seen.page.get_by_label("Sections").is_visible()
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(246, 247, 249)"
        assert seen.page.pdf()[:5] == b"%PDF-"


def test_any_text_out_of_a_run_file_is_shown_as_it_is(hostile: Path) -> None:
    with opened(hostile) as seen:
        body = seen.page.locator("body")
        assert "<script>document.title='taken'</script><img src=x" in body.inner_text()
        seen.page.get_by_label("kernel", exact=True).select_option(index=2)
        seen.page.wait_for_timeout(300)
        assert "taken" not in seen.page.title()
        scripts = "[...document.querySelectorAll('script')].map(one => one.type)"
        assert seen.page.evaluate(scripts) == ["application/json", "application/gzip", "module"]
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
    broken.write_text(text.replace('<h2 id="answers-title">', f'{planted}<h2 id="answers-title">'))
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
    cells = re.findall(
        r'data-order="(.*?)">(.*?)</td>', str(render(frame, results_columns(frame), "html"))
    )
    names = [column.names[0] for column in results_columns(frame)]
    ordered = frame.assign(case=by_size(frame["case"]))
    numeric = [name for name in names if pd.api.types.is_numeric_dtype(ordered[name])]
    shown = [name for name in numeric if frame[name].notna().any()]
    orders = np.array([float(order) for order, _ in cells]).reshape(len(frame), len(shown))
    for place, name in enumerate(shown):
        expected = ordered[name].astype(float).fillna(-1).to_numpy()
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


STYLE = (ROOT / "bench" / "report" / "html" / "style.css").read_text(encoding="utf-8")
PALETTES = {
    "figures": [*COLOURS, "#000000"],
    **{
        f"page, {theme}": re.findall(r"--(?:k\d|text): (#[0-9a-f]{6})", rules)
        for theme, rules in zip(("light", "dark"), STYLE.split("color-scheme:")[:2], strict=True)
    },
}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", PALETTES)
def test_the_palette_is_told_apart_with_any_vision(palette: str, vision: str) -> None:
    """Two kernels of one colour would have other markers and lines as well."""
    assert len(PALETTES[palette]) == len(COLOURS) + 1
    for one, other in combinations(PALETTES[palette], 2):
        apart = np.linalg.norm(lab(one, VISION[vision]) - lab(other, VISION[vision]))
        assert apart > 10, (one, other)


def test_it_opens_with_single_calls_and_not_with_the_trainings_that_were_measured_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = build_run(["step", "gradient"], SIZES, kernels=FEW_KERNELS)
    newer = build_run(["fit"], SIZES[:1]) | {"datetime": "2026-11-24T09:00:00+00:00"}
    paths = [save(run, tmp_path / f"{name}.json") for name, run in (("a", older), ("b", newer))]
    blank_figures(monkeypatch)
    write_report(paths, tmp_path / "out", every_subject(), page=True)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    offered = re.findall(r'name="operation" value="(\w+)"( checked)?', text)
    assert offered == [("gradient", " checked"), ("step", ""), ("fit", "")]
