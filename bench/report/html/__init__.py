"""What a report says -> one HTML file that needs no network, and opens from a disk.

Text comes as the Markdown that REPORT.md is made of, already escaped; raw HTML in it stays text.
Every case is in the page as packed data, which the page's script writes as text. A browser that
loads the page may run the scripts of this folder, by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from PIL import Image

from ...analysis.frame import numbers, slices
from ...store.runs import plain

_DIGITS = 4  # of a number in the table of every case
_TEXT_LIMIT = 300  # characters of a text in the table of every case


class Column(NamedTuple):
    """A column of the table of every case.

    Attributes:
        name: In the frame.
        title: At its head.
        kind: How it is written: `text`, `count`, `time`, `bytes`, `ratio`, `percent` or `error`.
    """

    name: str
    title: str
    kind: str


COLUMNS = (
    Column("kernel", "kernel", "text"),
    Column("stage", "stage", "text"),
    Column("device", "device", "text"),
    Column("dtype", "dtype", "text"),
    Column("batch", "m", "count"),
    Column("in_features", "n", "count"),
    Column("out_features", "o", "count"),
    Column("median_s", "median time", "time"),
    Column("q1_s", "q1", "time"),
    Column("q3_s", "q3", "time"),
    Column("speedup", "speedup to torch.nn", "ratio"),
    Column("speedup_low", "low", "ratio"),
    Column("speedup_high", "high", "ratio"),
    Column("peak_bytes", "peak memory", "bytes"),
    Column("predicted_peak_bytes", "predicted", "bytes"),
    Column("max_rel_error", "max. rel. error", "error"),
    Column("efficiency", "floor ÷ time", "percent"),
    Column("status", "status", "text"),
    Column("remark", "why, or what is doubtful", "text"),
    Column("machine", "machine", "text"),
    Column("run", "run", "text"),
)
FILTERS = ("machine", "run", "stage", "device", "dtype", "kernel", "status")


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        title: Its heading, as text.
        text: What it says, as Markdown.
        closed: Whether a reader opens it first.
    """

    title: str
    text: str
    closed: bool = False


class Claim(NamedTuple):
    """A sentence that sums up, and what shows it.

    Attributes:
        text: The sentence, as Markdown.
        shown_by: What figures show, as their description ends.
    """

    text: str
    shown_by: Sequence[str]


def write_page(
    frame: pd.DataFrame, brief: Sequence[Claim], sections: Sequence[Section], folder: Path
) -> None:
    """Write `report.html` into a folder that has, packed, the figures which its sections name.

    Args:
        frame: Every case that is shown.
        brief: The report in a few sentences; each leads to the figures that show it.
        sections: What follows, from the top.
        folder: Where the page goes, and where `pack` put the figures.
    """
    writer = _Writer(folder)
    environment = Environment(
        loader=PackageLoader(__name__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _asset("page.js")
    said = [
        {"id": f"part-{place}", "title": one.title, "text": writer.html(one.text, one.title),
         "closed": one.closed}
        for place, one in enumerate(sections, 1)
    ]  # fmt: skip
    text = environment.get_template("template.html").render(
        brief=[(writer.inline(one.text), writer.showing(one.shown_by)) for one in brief],
        sections=said,
        filters=[column for column in COLUMNS if column.name in FILTERS],
        columns=COLUMNS,
        count=len(frame),
        cases=packed(json.dumps(case_data(frame), ensure_ascii=False, allow_nan=False)),
        library=packed(_library("dt_bundle.js")),
        style=Markup(_library("dt_bundle.css") + _asset("style.css")),  # both are our own text
        script=Markup(script),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    (folder / "report.html").write_text(text, encoding="utf-8", newline="\n")


def case_data(frame: pd.DataFrame) -> dict[str, Any]:
    """Return every case as plain data, column by column.

    A text is a place in the list of its column's texts. Numbers have four digits; what is missing
    or infinite is null.
    """
    ordered = [numbers_of(part.of(frame)) for part in slices(frame)]
    table = pd.concat(ordered) if ordered else numbers_of(frame)
    found: dict[str, Any] = {}
    for column in COLUMNS:
        values = table[column.name]
        if column.kind == "text":
            places, texts = pd.factorize(values.fillna("").astype(object))
            shown = [plain(text, _TEXT_LIMIT) for text in texts]
            found[column.name] = {"texts": shown, "places": places.tolist()}
        else:
            found[column.name] = [_rounded(value) for value in values]
    return found


def numbers_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a slice in the order of its tables, with its slice and a remark on each case."""
    table = numbers(rows)
    for name in ("machine", "run", "stage", "device", "dtype"):
        table[name] = rows[name].iloc[0] if len(rows) else None
    table["remark"] = table["reason"].where(table["reason"].notna(), table["suspicions"])
    return table


def packed(text: str) -> str:
    """Return a text as base64 of gzip, the same for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _rounded(value: Any) -> float | int | None:
    if value is None or not np.isfinite(float(value)):
        return None
    short = float(f"{float(value):.{_DIGITS}g}")
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else short


@cache
def _asset(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


@cache
def _library(name: str) -> str:
    """Return a file of DataTables, as itables ships it."""
    return (files("itables") / "html" / name).read_text(encoding="utf-8")


class Figure(NamedTuple):
    """A figure on the page: `what` it shows `of` which cases, in the section of such a title."""

    id: str
    of: str
    what: str
    title: str


class _Writer:
    """Turns Markdown into HTML, and puts the figures into it that it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        self.tables = 0
        self.figures: list[Figure] = []
        self.title = ""

    def html(self, text: str, title: str) -> Markup:
        """Return Markdown as HTML, for a section of such a title."""
        self.title = title
        rendered = self.markdown.renderer.render(
            self._changed(self.markdown.parse(text)), self.markdown.options, {}
        )
        return Markup(rendered)

    def inline(self, text: str) -> Markup:
        """Return a line of Markdown as HTML."""
        return Markup(self.markdown.renderInline(text))

    def showing(self, whats: Sequence[str]) -> list[Figure]:
        """Return the figures so far whose descriptions end with one of some texts."""
        return [one for one in self.figures if one.what in whats]

    def _changed(self, tokens: Sequence[Token]) -> list[Token]:
        """Return tokens with figures inside, and tables that scroll and can be reached by key."""
        found: list[Token] = []
        for token in tokens:
            for child in token.children or ():
                if child.type == "image":
                    self._put_figure(child)
            if token.type == "th_open":
                token.attrSet("scope", "col")
            if token.type == "table_open":
                self.tables += 1
                region = f'role="region" tabindex="0" aria-label="Table {self.tables}"'
                opened = f'<div class="scroll" {region}>\n'
                found.append(Token("html_block", "", 0, content=opened))
            found.append(token)
            if token.type == "table_close":
                found.append(Token("html_block", "", 0, content="</div>\n"))
        return found

    def _put_figure(self, image: Token) -> None:
        packed = _packed(self.folder, str(image.attrGet("src")))
        with Image.open(packed) as picture:
            size = picture.size
        alt = "".join(child.content for child in image.children or ())
        of, _, what = alt.partition(": ")
        self.figures.append(Figure(f"figure-{len(self.figures) + 1}", of, what, self.title))
        image.attrs |= {
            "id": self.figures[-1].id,
            "src": f"data:image/webp;base64,{base64.b64encode(packed.read_bytes()).decode()}",
            "width": size[0],
            "height": size[1],
            "loading": "lazy",
        }


def pack(folder: Path, figure: str) -> None:
    """Write a figure of a folder once more for its page, without loss in about half the bytes.

    Args:
        folder: Where the figure is, and the page will be.
        figure: Its path from there.
    """
    path = _packed(folder, figure)
    path.parent.mkdir(exist_ok=True)
    with Image.open(folder / figure) as image:
        # A higher quality or method takes three times as long for a seventh of the bytes.
        image.convert("RGB").save(path, "WEBP", lossless=True, quality=20, method=1)


def _packed(folder: Path, figure: str) -> Path:
    return folder / "packed" / f"{Path(figure).stem}.webp"
