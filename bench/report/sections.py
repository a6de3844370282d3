"""What a report has to tell of runs and their history -> its sections.

The same is told once in REPORT.md, with few figures and every table, and once on the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ..analysis.crossover import crossovers
from ..analysis.frame import FIT, SIZES, Facet, facets, flagged_results, in_order, missing_results
from ..analysis.growth import growth_exponents
from ..analysis.history import History, changed
from ..analysis.jacobian import jacobian_overhead
from ..analysis.peers import (
    mean_ratios,
    relative_performance,
    roofline_efficiency,
    slow_first_calls,
    with_others,
)
from ..analysis.ranking import fastest
from ..common.units import digits, format_bytes, format_percent, format_time
from ..store.runs import single_line
from ..store.schema import Ceilings, Head, Run
from ..store.settings import flat
from ..store.shards import group_shards
from . import tables
from .figures import View, kinds
from .figures.history import history_figure, parts_of
from .markdown import Markdown, escape, image, render_template
from .subject import Make, Paths, Section, Shown, Subject, safe

WHICH = "Fastest kernel at each size"
_PACKAGES = 4  # to a row


class RunAnalysis:
    """What there is to tell of one run.

    Attributes:
        rows: Its cases.
        run: The run itself.
        name: That of its file, without the suffix.
        title: What it is called.
        stems: How the names of the files of each slice begin.
        overhead: What the Jacobian costs.
        growth: How time and memory grow.
        crossovers: Where one kernel becomes faster than another.
        relative: The fastest kernel beside others and the roofline bound.
    """

    def __init__(self, rows: pd.DataFrame, run: Run, name: str, stems: Mapping[Facet, str]) -> None:
        """Analyse a run."""
        self.rows, self.run, self.name = rows, run, name
        self.title = f"{run.machine.slug}, run {single_line(name)}"
        self.stems = {part: stems[part] for part in facets(rows) if part in stems}
        self.overhead, self.growth = jacobian_overhead(rows), growth_exponents(rows)
        self.crossovers, self.relative = crossovers(rows), relative_performance(rows)

    def makes(self) -> dict[str, Make]:
        """Return how to draw each of its figures, by stem."""
        views = {stem: View(self.rows, part, self.run) for part, stem in self.stems.items()}
        return {
            f"{stem}-{kind.name}": partial(_draw, kind.name, view)
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
            first_calls=slow_first_calls(rows),
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
            yield f"{stem}-jacobian", jacobian_overhead(rows)
            yield f"{stem}-growth", part.of(self.growth)
            yield f"{stem}-crossovers", part.of(self.crossovers)
            yield f"{stem}-peers", with_others(part.of(self.relative))
            yield f"{stem}-missing", missing_results(rows)


def _draw(kind: str, view: View) -> Figure | None:
    return kinds()[kind].make(view)


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
    grouped = with_others(relative).groupby(["operation", "device"], sort=False)
    return [
        (f"{str(operation).capitalize()} on {device}", mean_ratios(rows), roofline_efficiency(rows))
        for (operation, device), rows in grouped
    ]


def fastest_section(frame: pd.DataFrame) -> Section:
    """Return the fastest kernel at each size, a table for each operation and dtype."""
    best = fastest(frame[frame["operation"] != FIT])
    parts = []
    for (operation, dtype), rows in best.groupby(["operation", "dtype"]):
        alone = facets(rows)[0] if rows["device"].nunique() == 1 else None
        rows = rows.sort_values([*SIZES, "device", "machine", "run"], kind="stable")
        apart = [column for column in tables.APART if rows[column.names[0]].nunique() > 1]
        name = name_of(alone) if alone else f"{str(operation).capitalize()} in {dtype}"
        parts.append((name, rows, [*tables.FASTEST, *apart]))
    return Section(WHICH, render_template("fastest", parts=parts))


def shards_section(heads: Mapping[Path, Head]) -> list[Section]:
    """Return which runs are put together from shards, and which are parts of one."""
    lines = [one.describe() for one in group_shards(heads)]
    said = [f"* {escape(line, len(line))}." for line in lines]
    return [Section("Sharded runs", "\n".join(said))] if said else []


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
        title = f"History on {where}, {len(one.runs)} runs"
        sections.append(Section(title, body))
    return sections


def _by_facet(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(name_of(part), part.of(table)) for part in facets(table)]


def _method(run: Run, name: str) -> list[tuple[str, object]]:
    """Return machine, commit, date, cost, ceilings, settings and packages, none of them wide."""
    machine, commit, cost = run.machine, run.commit_info, run.cost
    changed = " with uncommitted changes" if commit.dirty else ""
    settings = flat(run.settings)
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
