"""Scaling runs -> their tables and section of a report. Needs no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from ..common.units import (
    UNKNOWN,
    digits,
    format_case,
    format_percent,
    format_ratio,
    format_time,
)
from ..report.html import Section
from ..report.markdown import escape, image, markdown_table
from ..report.subject import Paths, Subject
from ..store.runs import plain
from .figures import scaling_figures
from .link_model import (
    LINKS,
    MOST_WORKERS,
    Link,
    fit_link,
    held_out,
    links,
    one_world,
    predictions,
    step_errors,
)
from .records import (
    DDP,
    STATISTICS,
    Scaled,
    Scaling,
    ddp_ratio,
    efficiency,
    largest,
    median,
    scaling_name,
    speedups,
    straggling,
)

SHOWN = (1, 8, 64, 512, 4096)  # workers in the table of predictions
_MODEL = "T(P, s, c) = γ + 2(P−1)·α + 2(P−1)/P · s/B + ω·(1 − e^(−c/τ))"


def scaling_table(scaling: Scaling) -> pd.DataFrame:
    """Return every case as text, by its size, the fastest kernel first."""
    return pd.DataFrame([_row(scaling, one) for one in _in_order(scaling)], dtype=object)


def link_table(scaling: Scaling, link: Link | None) -> pd.DataFrame:
    """Return the links of the predictions as text: γ, α, B and ω, and where these are from."""
    rows = [
        {
            "link": name,
            "γ, the call": "in α" if name not in LINKS and one_world(scaling)
                           else format_time(one.call_s),
            "α, a message": format_time(one.latency_s),
            "B, bandwidth": _bandwidth(one),
            "ω, after computing": format_time(one.cold_s),
            "its numbers are": "stated" if name in LINKS else "fitted to this run",
        }
        for name, one in links(scaling, link).items()
    ]  # fmt: skip
    return pd.DataFrame(rows, dtype=object)


def predictions_table(scaling: Scaling, link: Link | None) -> pd.DataFrame:
    """Return `predictions` as text, a row for each link; nothing where there is none."""
    rows = []
    for name, told in predictions(scaling, link).groupby("link", sort=False):
        steps = told.set_index("workers")["step_s"]
        until = told["worth_until"].iloc[0]
        rows.append(
            {"link": name}
            | {_number(workers, "worker"): format_time(steps[workers])
               for workers in SHOWN}
            | {"no longer pays from": f"{until:,.0f} on" if until == until else
               f"beyond {MOST_WORKERS:,}"}
        )  # fmt: skip
    return pd.DataFrame(rows, dtype=object)


def scaling_section(scaling: Scaling, figures: Mapping[str, str]) -> str:
    """Return the report's part on one run.

    Args:
        scaling: The run.
        figures: The path of each of `scaling_figures` that is shown.
    """
    link = fit_link(scaling.exchanges)
    rounds = max((len(one.step_s) for one in scaling.scaled), default=0)
    changed = " with uncommitted changes" if scaling.commit_info.dirty else ""
    parts = [
        f"### {scaling.mode.capitalize()} scaling over {scaling.world} processes",
        _meaning(scaling),
        image("A step's parts, and the all-reduce against its bytes", figures.get("scaling")),
        markdown_table(scaling_table(scaling), wide=["status"]),
        _ddp_said(scaling),
        " ".join([_link_said(scaling, link), *(_errors_said(scaling, link) if link else [])]),
    ]
    predicted = predictions_table(scaling, link)
    if len(predicted):
        what = "Prediction: a step's time against the number of workers"
        parts += [
            _prediction_said(scaling),
            image(what, figures.get("prediction")),
            markdown_table(predicted),
            markdown_table(link_table(scaling, link)),
        ]
    parts.append(
        f"Measured on {escape(scaling.machine)}, commit {escape(scaling.commit_info.id[:10])}"
        f"{changed}, {rounds} rounds; processes: {_places(scaling)}."
        f"{' The run was stopped before its end.' * (scaling.settings.get('complete') is False)}"
    )
    return "\n\n".join(part for part in parts if part)


def _row(scaling: Scaling, one: Scaled) -> dict[str, str]:
    """Return a case as text."""
    texts = {
        "kernel": one.kernel,
        "dtype": one.dtype,
        "m × n → o": format_case(*one.case),
        "step: median (q1–q3)": format_time(*_quartiles(one.step_s)),
        "one process: median (q1–q3)": format_time(*_quartiles(one.alone_s)),
    }
    if scaling.mode == "strong":
        texts["speedup to one process (q1–q3)"] = format_ratio(*_quartiles(speedups(one)))
    ratio = ddp_ratio(one)
    return texts | {
        "efficiency": format_percent(efficiency(scaling, one)),
        "compute": format_time(median(one.slowest_s)),
        "all-reduce": format_time(median(one.exchange_s)),
        "straggler spread": format_ratio(straggling(one)),
        "times as fast as DDP (95 %)": "baseline" if one.kernel == DDP and one.step_s else
                                       format_ratio(*ratio) if ratio else UNKNOWN,
        "status": one.status if one.reason is None else f"{one.status}: {one.reason}",
    }  # fmt: skip


def _meaning(scaling: Scaling) -> str:
    strong = scaling.mode == "strong"
    return (
        f"The processes share a batch of m rows, add up their gradients with one all-reduce, and "
        f"take the same step. One process by itself, in the same round, has "
        f"{'all the rows' if strong else 'the rows of one of them'}; efficiency is its time ÷ "
        f"{f'({scaling.world} × the step)' if strong else 'the step'}, the median over rounds. "
        "*Compute* is what the slowest rank does by itself, *all-reduce* what a step takes beyond "
        "it, *straggler spread* the slowest rank's compute ÷ the fastest's; they are "
        "timed beside the step and need not add up to it. The ratio to DDP, PyTorch's "
        "DistributedDataParallel, is the geometric mean over rounds in turns."
    )


def _ddp_said(scaling: Scaling) -> str:
    """Say how our own kernels stand to DDP over all cases; nothing where there is no ratio."""
    found = {
        (one.kernel, one.dtype, one.case): ratio.ratio
        for one in scaling.scaled
        if one.kernel != STATISTICS and (ratio := ddp_ratio(one)) is not None
    }
    if not found:
        return ""
    worst = min(found, key=lambda key: found[key])
    mean = math.exp(math.fsum(map(math.log, found.values())) / len(found))
    return (
        f"Over {_number(len(found), 'step')} of the kernels, the statistics' apart, they are "
        f"{format_ratio(mean)} as fast as DDP in the geometric mean, {format_ratio(found[worst])} "
        f"at least ({escape(worst[0])} at {format_case(*worst[2])} in {worst[1]})."
    )


def _link_said(scaling: Scaling, link: Link | None) -> str:
    if link is None:
        return "Too few all-reduces were measured by themselves to fit a model of the link."
    call = f"γ = {format_time(link.call_s)} a call"
    if one_world(scaling):
        call = (
            "γ, the call's, is in α, from which one number of processes cannot tell it, so that "
            "for more of them the model is rather too slow"
        )
    told = "is" if math.isinf(link.bytes_per_s) else "="
    return (
        "A ring all-reduce of s bytes over P processes that have computed for c before is modelled "
        f"as {_MODEL}: Hockney's α-β model (Thakur, Rabenseifner, Gropp 2005), and what long "
        "computing adds, for threads sleep meanwhile, caches hold other things and workers come "
        f"out of step. Fitted here: {call}, α = {format_time(link.latency_s)} a message, "
        f"B {told} {_bandwidth(link)}, ω = {format_time(link.cold_s)}"
        f"{f' with τ = {format_time(link.cooling_s)}' if link.cold_s else ''}."
    )


def _errors_said(scaling: Scaling, link: Link) -> list[str]:
    found = []
    for table, what in (
        (held_out(scaling, link), "all-reduces held out of the fit"),
        (step_errors(scaling, link), "steps, as the slowest rank's compute c + T(P, s, c),"),
    ):
        off = table["off"].abs()
        if len(off):
            found.append(
                f"Of {len(off)} {what} it is off by {format_percent(off.median())} in the median "
                f"and {format_percent(off.max())} at most."
            )
    return found


def _prediction_said(scaling: Scaling) -> str:
    one = largest(scaling, own=True)[0]
    return (
        f"**Predictions, not measurements:** a step of {escape(one.kernel)} at "
        f"{format_case(*one.case)} in {one.dtype} that P workers share, as one process's "
        f"{format_time(median(one.alone_s))} ÷ P, its c, + T(P, {one.message_bytes:,} bytes, c). "
        "The compute is taken to divide without loss, every worker to be as fast as this one, and "
        "all neighbours of the ring to have the same link. The numbers of the links are stated, "
        "not measured, but for this machine's own. *No longer pays* is the number of workers of "
        "the shortest step: one more makes it longer."
    )


def _places(scaling: Scaling) -> str:
    """Say on which machines how many of the processes ran."""
    places = Counter((one.machine, one.cores, one.threads) for one in scaling.ranks)
    said = [
        f"{count} on {machine}, {_number(cores, 'core')}, {_number(threads, 'thread')} each"
        for (machine, cores, threads), count in places.items()
    ]
    hosts = len({one.host for one in scaling.ranks})
    return escape(f"{'; '.join(said)} ({_number(hosts, 'host')})")


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count > 1)}"


def _bandwidth(link: Link) -> str:
    if math.isinf(link.bytes_per_s):
        return "not to be told"
    return f"{digits(link.bytes_per_s / 1e9)} GB/s"


def _in_order(scaling: Scaling) -> list[Scaled]:
    """Return the cases by their work and dtype, the fastest first, those without times last."""
    return sorted(
        scaling.scaled,
        key=lambda one: (math.prod(one.case), one.case, one.dtype, one.status != "ok",
                         median(one.step_s) if one.step_s else 0.0, one.kernel),
    )  # fmt: skip


def _quartiles(values: Sequence[float]) -> list[float]:
    """Return the median and the quartiles; NaN where there is no value."""
    if not values:
        return [math.nan]
    found: list[float] = np.quantile(values, [0.5, 0.25, 0.75]).tolist()
    return found


def subject(scalings: Sequence[Scaling]) -> Subject:
    """Return what a report tells of scaling runs; it shows that of the most cases, strong ones."""
    published = {}
    if scalings:
        widest = max(scalings, key=lambda one: (sum(c.status == "ok" for c in one.scaled),
                                                one.mode == "strong"))  # fmt: skip
        published["scaling"] = _stem(widest, "scaling")
    return Subject(
        sections=partial(_sections, scalings),
        figures={
            _stem(one, what): draw
            for one in scalings
            for what, draw in scaling_figures(one).items()
        },
        published=published,
    )


def _stem(one: Scaling, what: str) -> str:
    return f"{scaling_name(one)}-{what}"


def _sections(scalings: Sequence[Scaling], paths: Paths) -> list[Section]:
    said: dict[str, list[str]] = {}
    for one in scalings:
        stems = {what: _stem(one, what) for what in scaling_figures(one)}
        shown = {what: paths[stem] for what, stem in stems.items() if stem in paths}
        said.setdefault(one.machine, []).append(scaling_section(one, shown))
    return [Section(f"Scaling on {plain(machine)}", "\n\n".join(some))
            for machine, some in said.items()]  # fmt: skip
