"""What a report says -> one HTML file that needs no network, and opens from a disk.

Text comes as the Markdown that REPORT.md is made of, already escaped; raw HTML in it stays text. A
browser that loads the page may run the scripts of this folder, by their hash, and nothing else.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from io import BytesIO
from itertools import count
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from PIL import Image

from ...analysis.frame import facets, in_order
from ..subject import Section as Section
from ..subject import Shown, figure_id
from ..summary import Summary
from ..tables import ALL_RESULTS, Column, render

_FILTERS = ("machine", "run", "operation", "device", "dtype", "kernel", "status")


def write_page(
    frame: pd.DataFrame, summaries: Sequence[Summary], sections: Sequence[Section], folder: Path
) -> None:
    """Write `report.html` into a folder that has the figures which its sections name.

    Args:
        frame: All results that are shown.
        summaries: What each run says; each point leads to the figures that show it.
        sections: What follows, from the top.
        folder: Where the page goes, and the figures are.
    """
    environment = Environment(
        loader=PackageLoader(__name__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    markdown, tables = MarkdownIt("commonmark", {"html": False}).enable("table"), count(1)

    def html(text: str) -> Markup:
        tokens = list(_changed(markdown.parse(text), folder, tables))
        return Markup(markdown.renderer.render(tokens, markdown.options, {}))

    shown = [figure for one in sections for figure in one.figures]
    results, script = all_results(frame), _asset("page.js")
    library = gzip.compress(_library("dt_bundle.js").encode(), mtime=0)
    text = environment.get_template("template.html").render(
        summaries=[(one.source, _points(one, shown)) for one in summaries],
        inline=lambda text: Markup(markdown.renderInline(text)),
        html=html,
        sections=list(enumerate(sections, 1)),
        filters=[(column, sorted(set(column.write(results)))) for column in filters()],
        count=len(frame),
        results=render(results, ALL_RESULTS, to="html"),
        library=base64.b64encode(library).decode(),
        style=Markup(_library("dt_bundle.css") + _asset("style.css")),  # both are our own text
        script=Markup(script),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    (folder / "report.html").write_text(text, encoding="utf-8", newline="\n")


def filters() -> list[Column]:
    """Return the columns that the page's results are filtered by."""
    found = {column.names[0]: column for column in ALL_RESULTS}
    return [found[name] for name in _FILTERS]


def all_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Return all results in the order of the report's tables, with a remark on each."""
    ordered = [in_order(part.of(frame)) for part in facets(frame)]
    table = pd.concat(ordered, ignore_index=True) if ordered else in_order(frame)
    return table.assign(remark=table["reason"].where(table["reason"].notna(), table["warnings"]))


def _points(one: Summary, shown: Sequence[Shown]) -> list[tuple[str, list[Shown]]]:
    return [
        (point.text, [figure for figure in shown
                      if figure.run == one.run and figure.kind in point.figures])
        for point in one.points
    ]  # fmt: skip


def _changed(tokens: Sequence[Token], folder: Path, tables: Iterator[int]) -> Iterator[Token]:
    """Yield tokens with figures inside, and tables that scroll and can be reached by key."""
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                _put_figure(child, folder)
        if token.type == "th_open":
            token.attrSet("scope", "col")
        if token.type == "table_open":
            region = f'role="region" tabindex="0" aria-label="Table {next(tables)}"'
            yield Token("html_block", "", 0, content=f'<div class="scroll" {region}>\n')
        yield token
        if token.type == "table_close":
            yield Token("html_block", "", 0, content="</div>\n")


def _put_figure(image: Token, folder: Path) -> None:
    path = str(image.attrGet("src"))
    packed = BytesIO()
    with Image.open(folder / path) as picture:
        width, height = picture.size
        # Half the bytes without loss; a higher quality or method takes three times as long for a
        # seventh of them.
        picture.convert("RGB").save(packed, "WEBP", lossless=True, quality=20, method=1)
    image.attrs |= {
        "id": figure_id(path),
        "src": f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode()}",
        "width": width,
        "height": height,
        "loading": "lazy",
    }


@cache
def _asset(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


@cache
def _library(name: str) -> str:
    """Return a file of DataTables, as itables ships it."""
    return (files("itables") / "html" / name).read_text(encoding="utf-8")
