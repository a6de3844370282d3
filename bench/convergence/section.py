"""Fit curves -> what a report and a README tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..report.html import Section
from ..report.markdown import escape, markdown_table
from ..report.subject import Paths, Subject
from ..store.runs import plain
from .records import (
    Curves,
    by_machine,
    curves_figure,
    curves_section,
    curves_table,
    in_order,
    names,
)


def subject(curves: Sequence[Curves]) -> Subject:
    """Return what a report tells of fit curves; it shows those of the most trainers, in float64."""
    published = {}
    if curves:
        most = max(curves, key=lambda one: (sum(bool(t.seconds) for t in one.trained),
                                            one.task.dtype == "float64"))  # fmt: skip
        published["fit-curves"] = _stem(most)
    return Subject(
        sections=partial(_sections, curves),
        figures={_stem(one): partial(curves_figure, one) for one in curves},
        published=published,
        readme={"fit": "\n\n".join(map(_table, curves)) or "No fit curves are stored yet."},
    )


def _stem(one: Curves) -> str:
    return f"{names([one])[0]}-curves"


def _sections(curves: Sequence[Curves], paths: Paths) -> list[Section]:
    return [
        Section(
            f"Fits on {plain(machine)}",
            "\n\n".join(curves_section(one, paths.get(_stem(one))) for one in some),
        )
        for machine, some in by_machine(curves).items()
    ]


def _table(curves: Curves) -> str:
    table = curves_table(curves).drop(columns=["legs", "a leg", "status"])
    timed = table[[len(one.seconds) > 0 for one in in_order(curves)]]
    return f"{curves.task}, on {escape(curves.machine)}:\n\n{markdown_table(timed)}"
