"""What a report says -> one HTML file that needs no network, and opens from a disk.

Text comes as the Markdown that REPORT.md is made of, already escaped; raw HTML in it stays text. A
browser that loads the page may run the scripts of this folder, by their hash, and nothing else.
"""

import base64
import gzip
import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from io import BytesIO
from itertools import count
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from PIL import Image

from ...analysis.frame import facets, in_order
from ..markdown import RULES
from ..subject import Section
from ..tables import ALL_RESULTS, FILTERS, render


def write_page(frame: pd.DataFrame, sections: Sequence[Section], out: Path) -> None:
    """Write `report.html` into a folder that has the figures which its sections name."""
    environment = Environment(loader=PackageLoader(__name__, ""), autoescape=True, **RULES)
    markdown, tables = MarkdownIt("commonmark", {"html": False}).enable("table"), count(1)

    def html(text: str) -> Markup:
        tokens = list(_changed(markdown.parse(text), out, tables))
        return Markup(markdown.renderer.render(tokens, markdown.options, {}))

    results, script = all_results(frame), _asset("page.js")
    library = gzip.compress(_asset("html/dt_bundle.js", "itables").encode(), mtime=0)
    text = environment.get_template("template.html").render(
        html=html,
        sections=sections,
        filters=[(column, sorted(set(column.write(results)))) for column in FILTERS],
        count=len(frame),
        results=render(results, ALL_RESULTS, to="html"),
        library=base64.b64encode(library).decode(),
        style=Markup(_asset("html/dt_bundle.css", "itables") + _asset("style.css")),
        script=Markup(script),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    (out / "report.html").write_text(text, encoding="utf-8", newline="\n")


def all_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Return all results in the order of the report's tables, with a remark on each."""
    ordered = [in_order(part.of(frame)) for part in facets(frame)] or [in_order(frame)]
    table = pd.concat(ordered, ignore_index=True)
    return table.assign(remark=table["reason"].where(table["reason"].notna(), table["warnings"]))


def _changed(tokens: Sequence[Token], folder: Path, tables: Iterator[int]) -> Iterator[Token]:
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
    packed = BytesIO()
    with Image.open(folder / str(image.attrGet("src"))) as picture:
        width, height = picture.size
        # Half the bytes without loss; a higher quality or method takes three times as long for a
        # seventh of them.
        picture.convert("RGB").save(packed, "WEBP", lossless=True, quality=20, method=1)
    image.attrs |= {
        "src": f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode()}",
        "width": width,
        "height": height,
        "loading": "lazy",
    }


def _asset(name: str, package: str = __name__) -> str:
    return (files(package) / name).read_text(encoding="utf-8")
