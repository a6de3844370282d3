"""What a report has to tell of runs and their history -> its sections, and a summary of each run.

The same is told in REPORT.md, with few figures and every table, and on the page. Runs are never
pooled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import gmean

from ..analysis import ranking
from ..analysis.compare import History, changed
from ..analysis.frame import FIT, SIZES, Facet, facets, flagged_results, in_order, missing_results
from ..analysis.sizes import crossovers, growth_exponents
from ..common.errors import single_line
from ..common.units import digits, format_bytes, format_percent, format_ratio, format_time
from ..store.schema import Ceilings, Run, flatten_settings
from . import tables
from .figures import View, kinds
from .figures.history import history_figure, parts_of
from .markdown import Markdown, escape, image, render_blocks, render_template
from .subject import Make, Paths, Section, Shown, Subject, safe

WHICH = "Fastest kernel at each size"
_PACKAGES = 4  # to a row


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
        shown = {part: self._shown(part, paths) for part in self.stems}
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

    def _shown(self, part: Facet, paths: Paths) -> list[Shown]:
        stems = {f"{self.stems[part]}-{kind.name}": kind for kind in kinds().values()}
        return [
            Shown(paths[stem], f"{name_of(part)}: {kind.title}", kind.name, self.title)
            for stem, kind in stems.items()
            if stem in paths
        ]

    def tables(self) -> Iterable[tuple[str, pd.DataFrame]]:
        """Yield every table of numbers with the name of its file."""
        for part, stem in self.stems.items():
            rows = part.of(self.rows)
            yield stem, in_order(rows)
            yield f"{stem}-jacobian", ranking.jacobian_overhead(rows)
            yield f"{stem}-growth", part.of(self.growth)
            yield f"{stem}-crossovers", part.of(self.crossovers)
            yield f"{stem}-peers", ranking.with_others(part.of(self.relative))
            yield f"{stem}-missing", missing_results(rows)


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
    rows = pd.DataFrame(_method(one.run, one.name), columns=["name", "value"], dtype=object)
    title = f"How {single_line(one.name)} was measured"
    return Section(title, tables.render(rows, tables.METHOD), closed=True)


def history_subject(histories: Sequence[History]) -> Subject:
    """Return what a report tells of how speed changed from run to run."""
    stems = {
        (number, part): f"{safe(one.machine)}-history-{number + 1}-{place}"
        for number, one in enumerate(histories)
        for place, part in enumerate(parts_of(one), 1)
    }
    return Subject(
        sections=partial(_history_sections, histories, stems),
        figures={stem: partial(history_figure, histories[number], part)
                 for (number, part), stem in stems.items()},
    )  # fmt: skip


def _history_sections(
    histories: Sequence[History], stems: Mapping[tuple[int, Any], str], paths: Paths
) -> list[Section]:
    sections = []
    for number, one in enumerate(histories):
        shown = [
            image(escape(f"{name_of(Facet(one.machine, '', *part))} on {one.machine}: speedup from "
                         "run to run"), paths[stem])
            for (owner, part), stem in stems.items() if owner == number and stem in paths
        ]  # fmt: skip
        compared = int(one.points["change"].notna().sum())
        body = render_template("history", history=one, figures=shown, compared=compared,
                               changes=changed(one.points))  # fmt: skip
        where = f"{single_line(one.machine)}, grid {single_line(one.grid)}"
        sections.append(Section(f"History on {where}, {len(one.runs)} runs", body))
    return sections


def _by_facet(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(name_of(part), part.of(table)) for part in facets(table)]


def _method(run: Run, name: str) -> list[tuple[str, object]]:
    machine, commit, cost = run.machine, run.commit_info, run.cost
    changed = " with uncommitted changes" if commit.dirty else ""
    settings = flatten_settings(run.settings)
    rows: list[tuple[str, object]] = [
        *(("run", name), ("date", run.datetime), ("commit", f"{commit.id}{changed}")),
        *(("branch", commit.branch), ("machine", machine.slug), ("CPU", machine.cpu)),
        ("cores", machine.cores),
        ("memory", machine.memory_bytes and format_bytes(machine.memory_bytes)),
        *(("GPU", machine.gpu), ("processes", settings.pop("processes", None))),
    ]
    if cost is not None:
        spent = {"timing": cost.timing_s, "warm-up": cost.warm_up_s, "checking": cost.checking_s,
                 "memory": cost.memory_s}  # fmt: skip
        shares = [
            f"{part} {format_percent(part_s / cost.wall_s)}" for part, part_s in spent.items()
        ]
        overhead = f"{format_percent(cost.overhead)}: processes and imports"
        rows += [("wall time", format_time(cost.wall_s)), ("time breakdown", ", ".join(shares)),
                 ("harness overhead", overhead)]  # fmt: skip
    for device, ceilings in sorted(machine.ceilings.items()):
        rows += [(f"ceiling of {device}: {what}", rate) for what, rate in _ceilings(ceilings)]
    rows += [(f"setting {key}", value) for key, value in settings.items()]
    listed = [f"{key} {run.packages[key]}" for key in sorted(run.packages)]
    for start in range(0, len(listed), _PACKAGES):
        rows.append(("packages" if not start else "", ", ".join(listed[start : start + _PACKAGES])))
    return rows


def _ceilings(ceilings: Ceilings) -> list[tuple[str, str]]:
    flops, bandwidth = sorted(ceilings.flops_per_s.items()), ceilings.bandwidth_bytes_per_s
    return [
        *([("one call", format_time(ceilings.dispatch_s))] if ceilings.dispatch_s else []),
        *((dtype, f"{digits(rate / 1e9)} GFLOP/s") for dtype, rate in flops),
        *((f"over {format_bytes(size)}", f"{digits(rate / 1e9)} GB/s") for size, rate in bandwidth),
    ]


# The kinds of figures that show what each point says; the points are blocks of the template.
SHOWN_BY = {
    "fastest": ("time", "speedup"),
    "jacobian": ("jacobian",),
    "roofline": ("roofline",),
    "comparison": ("speedup", "pareto"),
    "missing": ("memory",),
}


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
    missing = missing_results(one.rows)
    texts = render_blocks(
        "points",
        fastest=_fastest(one.rows),
        overhead=one.overhead.dropna(subset=["time_ratio"]),
        span=span,
        roofline=ranking.roofline_efficiency(calls)[:1],
        ratios=_ratios(calls),
        mean=gmean,
        flagged=flagged_results(one.rows),
        rows=one.rows,
        measured=int(one.rows["status"].eq("ok").sum()),
        missing=missing,
        statuses=missing["status"].value_counts().sort_index(),
        example=_most_frequent(missing),
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


def _ratios(calls: pd.DataFrame) -> dict[str, pd.Series]:
    columns = {"torch.nn": "speedup", "the fastest peer": "speedup_vs_peer", "auto": "auto_vs_best"}
    ratios = {name: calls[column].dropna() for name, column in columns.items()}
    return {name: known for name, known in ratios.items() if len(known)}


def _most_frequent(missing: pd.DataFrame) -> dict[str, Any]:
    if missing.empty:
        return {}
    often = missing.groupby(["status", "kernel"])["case"].transform("size")
    return dict(missing.iloc[int(often.argmax())])
