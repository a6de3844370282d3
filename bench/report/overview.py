"""Frame and text -> what stands at the top of REPORT.md. Every function is pure."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape

import pandas as pd

from ..analysis.frame import slices
from ..analysis.ranking import display_fastest, fastest
from .markdown import escape, markdown_table, name_of, name_of_stage

WHICH = "Which kernel at which size"
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_HOW = """\
The kernel with the highest speedup at each size that was measured. *Ties* are kernels that the run
cannot tell from it: their 95 % intervals overlap, or after a single pass they are within 10 %."""


def which_section(frame: pd.DataFrame) -> str:
    """Return the fastest kernel of each gradient and step, a table for each stage and dtype."""
    best = fastest(frame[frame["stage"].isin(["gradient", "step"])])
    if best.empty:
        return "No gradient and no step has a time."
    parts = [_HOW]
    for (stage, dtype), rows in best.groupby(["stage", "dtype"]):
        alone = slices(rows)[0] if rows["device"].nunique() == 1 else None
        name = name_of(alone) if alone else f"{name_of_stage(stage)} in {escape(dtype)}"
        parts += [f"{name}:", markdown_table(display_fastest(rows))]
    return "\n\n".join(parts)


def contents(text: str) -> str:
    r"""Return links to the sections of a Markdown text that begin with `##`.

    >>> contents("# All\n## In short\n### In short\n## In short")
    '* [In short](#in-short)\n* [In short](#in-short-2)'
    """
    seen: Counter[str] = Counter()
    lines = []
    for level, title in _HEADING.findall(text):
        name = anchor(title)
        link = f"{name}-{seen[name]}" if seen[name] else name
        seen[name] += 1
        if level == "##":
            lines.append(f"* [{title}](#{link})")
    return "\n".join(lines)


def anchor(title: str) -> str:
    """Return what a forge calls a heading in links.

    >>> anchor("Price of the Jacobian: a &#124; b_c")
    'price-of-the-jacobian-a--b_c'
    """
    return re.sub(r"[^\w\- ]", "", unescape(title).lower()).replace(" ", "-")
