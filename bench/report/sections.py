"""What a report has to tell of runs and their history -> its sections, and a summary of each run.

The same is told in REPORT.md, with few figures and every table, and on the page. Runs are never
pooled.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import gmean

from ..analysis import ranking
from ..analysis.compare import History, changed
from ..analysis.frame import FIT, SIZES, Facet, facets, flagged_results, in_order, missing_results
from ..analysis.sizes import crossovers, growth_exponents
from ..common.errors import single_line
from ..common.units import format_ratio
from ..store.schema import Run, flatten_settings
from . import tables
from .figures import View, kinds
from .figures.history import history_figure, parts_of
from .markdown import Markdown, escape, render_blocks, render_template
from .subject import Make, Paths, Section, Shown, Subject, safe

WHICH = "Fastest kernel at each size"


class RunAnalysis:
    """What there is to tell of one run."""

    def __init__(
        self, frame: pd.DataFrame, run: Run, name: str, stems: Mapping[Facet, str]
    ) -> None:
        """Analyse the rows of a run in a frame of several."""
        rows = frame[(frame["machine"] == run.machine.slug) & (frame["run"] == name)]
        self.rows, self.run, self.name = rows, run, name
        self.title = f"{run.machine.slug}, run {single_line(name)}"
        self.stems = {part: stems[part] for part in facets(rows) if part in stems}
        self.overhead, self.growth = ranking.jacobian_overhead(rows), growth_exponents(rows)
        self.crossovers, self.relative = crossovers(rows), ranking.relative_performance(rows)

    def makes(self) -> dict[str, Make]:
        """Return how to draw each of its figures, by stem."""
        views = {stem: View(self.rows, part, self.run) for part, stem in self.stems.items()}
        return {
            f"{stem}-{kind.name}": partial(kind.draw, view)
            for stem, view in views.items()
            for kind in kinds().values()
            if kind.when(view.rows)
        }

    def section(self, paths: Paths, with_tables: bool) -> Section:
        """Return its section, with the figures that have a path."""
        shown = {
            part: [
                Shown(paths[name], f"{name_of(part)}: {kind.title}", kind.name, self.title)
                for kind in kinds().values()
                if (name := f"{stem}-{kind.name}") in paths
            ]
            for part, stem in self.stems.items()
        }
        rows = self.rows
        body = render_template(
            "run",
            parts=[(name_of(part), some, in_order(part.of(rows))) for part, some in shown.items()],
            with_tables=with_tables,
            peers=peer_tables(self.relative),
            first_calls=ranking.slow_first_calls(rows),
            overhead=list(self.overhead.groupby(["device", "dtype"])),
            growth=_by_facet(self.growth),
            crossovers=_by_facet(self.crossovers),
            contended=int(rows["contended_processes"].gt(0).sum()),
            flagged=flagged_results(rows),
            measured=int(rows["status"].eq("ok").sum()),
            missing=missing_results(rows),
        )
        return Section(self.title, body, [one for some in shown.values() for one in some])


def facet_stems(frame: pd.DataFrame) -> dict[Facet, str]:
    """Return a file name for each slice; the run is named where a machine has several."""
    several = frame.groupby("machine")["run"].nunique() > 1
    stems: dict[Facet, str] = {}
    for part in facets(frame):
        named = [part.machine, part.run] if several[part.machine] else [part.machine]
        stem = safe("-".join([*named, *part[2:]]))
        while stem.lower() in {other.lower() for other in stems.values()}:
            stem += "-2"
        stems[part] = stem
    return stems


def name_of(part: Facet) -> str:
    """Name a slice in words."""
    return f"{part.operation.capitalize()} on {part.device} in {part.dtype}"


def source(frame: pd.DataFrame) -> Markdown:
    """Say where a run's numbers come from."""
    first = frame.iloc[0]
    changed = " with uncommitted changes" if first["dirty"] else ""
    return Markdown(
        f"{escape(first['machine'])}, commit {escape(first['commit'][:10])}{changed}, "
        f"run {escape(first['run'])}"
    )


def peer_tables(relative: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Return the name of each operation and device that others were measured at, with its sums."""
    grouped = ranking.with_others(relative).groupby(["operation", "device"], sort=False)
    return [
        (
            f"{str(where[0]).capitalize()} on {where[1]}",
            ranking.mean_ratios(rows),
            ranking.roofline_efficiency(rows),
        )
        for where, rows in grouped
    ]


def fastest_section(frame: pd.DataFrame) -> Section:
    """Return the fastest kernel at each size, a table for each operation and dtype."""
    best = ranking.fastest(frame[frame["operation"] != FIT])
    parts = []
    for (operation, dtype), rows in best.groupby(["operation", "dtype"]):
        alone = facets(rows)[0] if rows["device"].nunique() == 1 else None
        rows = rows.sort_values([*SIZES, "device", "machine", "run"], kind="stable")
        apart = [column for column in tables.APART if rows[column.names[0]].nunique() > 1]
        name = name_of(alone) if alone else f"{str(operation).capitalize()} in {dtype}"
        parts.append((name, rows, [*tables.FASTEST, *apart]))
    return Section(WHICH, render_template("fastest", parts=parts))


def method_section(one: RunAnalysis) -> Section:
    """Return how a run was measured."""
    run = one.run
    body = render_template(
        "method",
        name=one.name,
        run=run,
        commit=run.commit_info,
        machine=run.machine,
        cost=run.cost,
        settings=flatten_settings(run.settings),
    )
    return Section(f"How {single_line(one.name)} was measured", body, closed=True)


def history_subject(number: int, history: History) -> Subject:
    """Return what a report tells of how speed changed from run to run of one grid."""
    parts = {
        f"{safe(history.machine)}-history-{number}-{place}": part
        for place, part in enumerate(parts_of(history), 1)
    }
    return Subject(
        sections=partial(_history_sections, history, parts),
        figures={stem: partial(history_figure, history, part) for stem, part in parts.items()},
    )


def _history_sections(
    history: History, parts: Mapping[str, tuple[str, str, str]], paths: Paths
) -> list[Section]:
    shown = {stem: Facet(history.machine, "", *part) for stem, part in parts.items()}
    body = render_template(
        "history",
        history=history,
        figures=[(name_of(part), paths[stem]) for stem, part in shown.items() if stem in paths],
        compared=int(history.points["change"].notna().sum()),
        changes=changed(history.points),
    )
    where = f"{single_line(history.machine)}, grid {single_line(history.grid)}"
    return [Section(f"History on {where}, {len(history.runs)} runs", body)]


def _by_facet(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(name_of(part), part.of(table)) for part in facets(table)]


# The kinds of figures that show what each point says; the points are blocks of the template.
SHOWN_BY = {
    "fastest": ("time", "speedup"),
    "jacobian": ("jacobian",),
    "roofline": ("roofline",),
    "comparison": ("speedup",),
    "missing": ("memory",),
}


# The columns that sum up how the fastest kernels, and `auto`, compare.
_RATIOS = {"torch.nn": "speedup", "the fastest peer": "speedup_vs_peer", "auto": "auto_vs_best"}


class SummaryPoint(NamedTuple):
    """A sentence that sums up."""

    text: Markdown  # the sentence
    figures: Sequence[str] = ()  # the kinds of figures that show it


class Summary(NamedTuple):
    """What one run says."""

    run: str  # what the run is called
    source: Markdown  # where its numbers come from
    points: Sequence[SummaryPoint]


def summarise(one: RunAnalysis) -> Summary:
    """Sum up a run: the fastest kernels, the Jacobian's overhead, the limit, others, what lacks."""
    if one.rows.empty:
        nothing = SummaryPoint(Markdown("Nothing was planned."))
        return Summary(one.title, escape(one.title), [nothing])
    calls = one.relative[one.relative["operation"] != FIT]
    ratios = {name: calls[column].dropna() for name, column in _RATIOS.items()}
    missing = missing_results(one.rows)
    often = missing.groupby(["status", "kernel"])["case"].transform("size")
    texts = render_blocks(
        "points",
        fastest=_fastest(one.rows),
        overhead=one.overhead.dropna(subset=["time_ratio"]),
        span=span,
        roofline=ranking.roofline_efficiency(calls)[:1],
        ratios={name: known for name, known in ratios.items() if len(known)},
        mean=gmean,
        flagged=flagged_results(one.rows),
        rows=one.rows,
        measured=int(one.rows["status"].eq("ok").sum()),
        missing=missing,
        statuses=missing["status"].value_counts().sort_index(),
        example=None if missing.empty else missing.iloc[int(often.argmax())],
    )
    points = [SummaryPoint(text, SHOWN_BY.get(name, ())) for name, text in texts.items()]
    return Summary(one.title, source(one.rows), points)


def span(ratios: pd.Series) -> str:
    """Write from where to where ratios go."""
    low, high = format_ratio(ratios.min()), format_ratio(ratios.max())
    return low if low == high else f"{low} to {high}"


def _fastest(rows: pd.DataFrame) -> list[dict[str, Any]]:
    found = []
    every = ranking.fastest(rows)
    for operation in rows["operation"].unique():
        if (best := every[every["operation"] == operation]).empty:
            continue
        names = [[kernel, *ties] for kernel, ties in zip(best["kernel"], best["ties"], strict=True)]
        counts = pd.Series(names).explode().value_counts()
        kernel = min(counts[counts == counts.max()].index)
        ahead = best.loc[best["kernel"] != best["baseline"], "speedup"].dropna()
        found.append({"operation": operation, "kernel": kernel, "at": int(counts[kernel]),
                      "of": len(best), "speedup": ahead})  # fmt: skip
    return found
