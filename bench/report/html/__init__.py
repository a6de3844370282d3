"""What a report tells -> one HTML file that needs no network, and opens from a disk.

Text comes as the Markdown that REPORT.md is made of, already escaped, in which raw HTML stays text;
through a template that escapes it; or as JSON that a script puts in as text. A browser that loads
the page may run the scripts of this folder, by their hash, and nothing else.
"""

import base64
import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from PIL import Image

from ...analysis.frame import facets, in_order, operations_of
from ...common.errors import single_line
from ...common.paths import COMMAND
from ..answers import Where
from ..markdown import RULES, Markdown
from ..sections import RunAnalysis
from ..subject import Answer, Part, Section
from ..tables import FILTERS, headed, render, results_columns
from .data import as_script, choices, remarks

# What the reader chooses by.
CHOSEN = ("machine", "run", "operation", "device", "dtype", "threads")
# In this order each defines what the next uses.
SCRIPTS = ("elements", "chart", "cases", "map", "plots", "kernel", "page")


class Content(NamedTuple):
    """What the page shows."""

    frame: pd.DataFrame  # all cases
    title: str
    analyses: Sequence[RunAnalysis]
    opening: Sequence[tuple[Where, Sequence[Answer]]]
    data: Mapping[str, Any]  # what its charts draw, see `page_data`
    which: Section  # the fastest kernel at each size
    changes: Sequence[Section]  # from run to run
    parts: Sequence[tuple[Part, Sequence[Section]]]  # what subjects have for themselves
    more: Sequence[Section]  # what was measured beside the runs
    legend: Markdown


def write_page(content: Content, out: Path) -> None:
    """Write `report.html` into a folder that has the figures which its sections name."""
    environment = Environment(loader=PackageLoader(__name__, ""), autoescape=True, **RULES)
    markdown, tables = MarkdownIt("commonmark", {"html": False}).enable("table"), count(1)

    def html(text: str) -> Markup:
        tokens = list(_changed(markdown.parse(text), out, tables))
        return Markup(markdown.renderer.render(tokens, markdown.options, {}))

    environment.filters["pairs"] = lambda values: [(value, value) for value in values]
    environment.filters["line"] = partial(single_line, limit=300)
    frame = content.frame
    results, script = all_results(frame), "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    text = environment.get_template("template.html").render(
        content._asdict(),
        html=html,
        command=COMMAND,
        choices={name: choices(frame, name) for name in CHOSEN}
        | {"operation": operations_of(frame)},
        newest=_first_choice(frame) if len(frame) else None,
        filters=[(one, sorted(set(one.write(results)))) for one in headed(FILTERS, results)],
        count=len(frame),
        results=render(results, results_columns(results), to="html"),
        json=Markup(as_script(content.data)),
        library=_library(),
        style=Markup(_asset("html/dt_bundle.css", "itables") + _asset("style.css")),
        script=Markup(script),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    (out / "report.html").write_text(text, encoding="utf-8", newline="\n")


def _first_choice(frame: pd.DataFrame) -> dict[str, Any]:
    """Return what the page shows at first: of the newest run's machine what it has the most of."""
    newest = frame.sort_values("datetime", kind="stable")
    rows = newest[newest["machine"] == newest["machine"].iloc[-1]]
    rows = rows[rows["operation"] == operations_of(rows)[0]]
    first = rows[rows["run"] == rows["run"].iloc[-1]].iloc[0]
    return {name: first[name] for name in CHOSEN}


def all_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Return all results in the order of the report's tables, with a remark on each."""
    ordered = [in_order(part.of(frame)) for part in facets(frame)] or [in_order(frame)]
    table = pd.concat(ordered, ignore_index=True)
    return table.assign(remark=remarks(table))


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


@cache
def _library() -> str:
    packed = gzip.compress(_asset("html/dt_bundle.js", "itables").encode(), mtime=0)
    return base64.b64encode(packed).decode()


def _asset(name: str, package: str = __name__) -> str:
    return (files(package) / name).read_text(encoding="utf-8")
