"""Text -> Markdown that reads well on a forge; all text out of a run file is data."""

import re
from functools import cache
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..common import units
from ..common.errors import single_line
from ..common.paths import COMMAND

_SPECIAL = {character: f"&#{ord(character)};" for character in "\\`*[]~|$"}
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"} | _SPECIAL)
# Of every template.
RULES: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
_LONG = 300  # characters of a cell of a table


class Markdown(str):
    """A text that is Markdown, and not to be escaped again."""


def escape(value: object, limit: int = 200) -> Markdown:
    r"""Return a text that Markdown, its tables and HTML show as it stands, on one line.

    >>> escape("a|b<c>\n")
    'a&#124;b&lt;c&gt;&#92;n'
    """
    text = single_line(value, limit).translate(_ESCAPES)
    # An underscore inside a word is no emphasis; `://` and `www.` alone make a link.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", "&#95;", text)
    text = re.sub(r"(?i)\bwww\.", lambda found: found[0][:-1] + "&#46;", text)
    return Markdown(text.replace("://", "&#58;//").replace("@", "&#64;"))


def markdown_table(table: pd.DataFrame) -> Markdown:
    """Return a frame of text as a Markdown table."""
    cells = {escape(name): [escape(value, _LONG) for value in table[name]] for name in table}
    shown = pd.DataFrame(cells, dtype=object)
    return Markdown(shown.to_markdown(index=False, disable_numparse=True))


def image(text: str, path: str | None) -> Markdown:
    """Return a figure with what it shows; '' without a path."""
    return Markdown(f"![{escape(text)}]({path})" if path else "")


def render_template(name: str, /, **values: Any) -> Markdown:
    """Return a template of `bench/report/templates`, each of its values escaped."""
    return _tidy(_environment().get_template(f"{name}.md.j2").render(values))


def render_blocks(name: str, /, **values: Any) -> dict[str, str]:
    """Return the blocks of a template by name, as `render_template` returns all of it."""
    template = _environment().get_template(f"{name}.md.j2")
    context = template.new_context(values)
    return {key: _tidy("".join(block(context))) for key, block in template.blocks.items()}


def _tidy(text: str) -> Markdown:
    return Markdown(re.sub(r"\n{3,}", "\n\n", text).strip())


@cache
def _environment() -> Environment:
    from . import tables  # which writes its tables with `markdown_table`

    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=False,  # that is for HTML; here each value passes the escapes of Markdown
        finalize=lambda value: value if isinstance(value, Markdown) else escape(value),
        **RULES,
    )
    formats = {name: it for name, it in vars(units).items() if not name.startswith("_")}
    environment.globals |= formats | {"T": tables, "table": tables.render, "image": image}
    environment.globals["command"] = COMMAND
    environment.filters |= {"escape": escape, "markdown": Markdown}
    return environment
