"""Frame and runs -> the text of a report, as Markdown that reads well on a forge.

Every function is pure. All text out of a run file is data and goes through `escape`.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from ..analysis.crossover import display_crossings
from ..analysis.frame import (
    MARK,
    SIZES,
    SLICE,
    Slice,
    display,
    display_doubts,
    doubtful,
    doubts,
    problems,
    slices,
)
from ..analysis.growth import display_scaling
from ..analysis.jacobian import HEAVY, LIGHT, display_price, jacobian_price
from ..analysis.peers import display_efficiency, display_standings, first_calls, with_others
from ..analysis.ranking import fastest
from ..common.units import format_bytes, format_case, format_ratio, format_time
from ..store.runs import plain

_SPECIAL = {character: f"&#{ord(character)};" for character in "\\`*[]~|$"}
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"} | _SPECIAL)
_STAGES = {"gradient": "Gradient", "step": "Step", "fit": "Fit"}
HOW_TO_READ = """\
A *pass* is a process of its own that measures every case once, in an order of its own. Times are
medians over the passes with the quartiles q1–q3 over passes in brackets; where there was one pass,
both are over its rounds. *Speedup* is the time of `torch.nn` ÷ the kernel's, taken in neighbouring
slices of one process; above 1 the kernel is faster. In brackets is its 95 % interval over passes;
where there was one pass there is none, and a difference under 10 % is read as none. *Contended* are
passes taken while something else used the machine. A kernel with a † has something doubtful about
it at that size; *Look twice* says what.

*Peak memory* is what one call holds beyond its inputs, *predicted* what the kernel's formula says.
The error is the worst element's, relative to the sum of the absolute products behind it. *Floor* is
the least time that the measured ceilings of the machine allow. On a GPU, *device time* is what the
device itself was busy, with a cold and a hot L2 cache, and the *launch gap* the wall time beyond
it. Machines are never pooled."""
HOW_IT_GROWS = """\
The power of each size by which a kernel's time and memory grow, with its 95 % interval, beside the
same slope of its formulas. It is fitted on the largest sizes, at least three over a factor of four,
where the slope no longer changes; *from* is the first of them. *Not settled* is a curve that still
bends, or whose interval is wider than 0.5: it may be mostly the constant cost of a call."""


HOW_THEY_STAND = """\
A *peer* is the same work by others: torch.compile, JAX, NumPy, SciPy. *auto* is what a user calls,
and takes one of the kernels. A ratio of two kernels is the quotient of their paired ratios to
torch.nn, so above 1 the first is the faster."""


def escape(value: object, limit: int = 200) -> str:
    r"""Return a text that Markdown, its tables and HTML show as it stands, on one line.

    >>> escape("a|b<c>\n")
    'a&#124;b&lt;c&gt;\\n'
    """
    text = plain(value, limit).translate(_ESCAPES)
    # An underscore inside a word is no emphasis; `://` and `www.` alone make a link.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", "&#95;", text)
    text = re.sub(r"(?i)\bwww\.", lambda found: found[0][:-1] + "&#46;", text)
    return text.replace("://", "&#58;//").replace("@", "&#64;")


def markdown_table(table: pd.DataFrame, wide: Iterable[str] = ()) -> str:
    """Return a frame of text as a Markdown table; only the columns in `wide` keep long texts."""
    kept = set(wide)
    shown = pd.DataFrame(
        {
            escape(name): [escape(value, 300 if name in kept else 100) for value in table[name]]
            for name in table
        },
        dtype=object,
    )
    return str(shown.to_markdown(index=False, disable_numparse=True))


def name_of(part: Slice) -> str:
    """Name a slice in words."""
    return f"{name_of_stage(part.stage)} on {escape(part.device)} in {escape(part.dtype)}"


def name_of_stage(stage: object) -> str:
    """Name a stage in words."""
    return _STAGES.get(str(stage), escape(stage))


def sentences(frame: pd.DataFrame) -> list[str]:
    """Say in plain sentences what one run found: the fastest, the Jacobian's price, the rest."""
    best = fastest(frame)
    found = [_winners(part, part.of(best)) for part in slices(frame)]
    return [*found, *_prices(frame), *_doubted(frame), _missing(frame)]


def run_summary(rows: pd.DataFrame) -> str:
    """Return `sentences` of one run as a list, below where its numbers come from."""
    return "\n".join([f"{source(rows)}:\n", *(f"* {said}" for said in sentences(rows))])


def source(frame: pd.DataFrame) -> str:
    """Say where a run's numbers come from."""
    first = frame.iloc[0]
    return (
        f"{escape(first['machine'])}, commit {escape(first['commit'][:10])}"
        f"{' with uncommitted changes' if first['dirty'] else ''}, run {escape(first['run'])}"
    )


def slice_section(frame: pd.DataFrame, part: Slice, figures: Mapping[str, str]) -> str:
    """Return the section of one slice: its figures and its table."""
    rows = part.of(frame)
    table = markdown_table(display(rows))
    marked = [f"{MARK} Something is doubtful about it: see *Look twice*."]
    notes = marked if doubtful(rows).any() else []
    return "\n\n".join([figure_section(part, figures), table, *notes])


def figure_section(part: Slice, figures: Mapping[str, str]) -> str:
    """Return the figures of one slice, below its name."""
    name = name_of(part)
    images = [image(f"{name}: {what}", path) for what, path in figures.items()]
    return "\n\n".join([f"### {name}", *images])


def image(text: str, path: str | None) -> str:
    """Return a figure with what it shows; '' without a path."""
    return f"![{text}]({path})" if path else ""


def price_section(frame: pd.DataFrame) -> str:
    """Return the tables of the Jacobian's price, one for each device and dtype; '' without any."""
    price = jacobian_price(frame)
    parts = [f"### Price of the Jacobian: {HEAVY} ÷ {LIGHT}"]
    for (device, dtype), rows in price.groupby(["device", "dtype"]):
        parts += [f"On {escape(device)} in {escape(dtype)}:", markdown_table(display_price(rows))]
    return "\n\n".join(parts) if len(price) else ""


def standing_section(table: pd.DataFrame) -> str:
    """Return how far kernels, `auto`, peers and the floor stand apart; '' where none stands by.

    Args:
        table: The standings of one run.
    """
    tables = standing_tables(table)
    head = f"### Beside others, and beside the floor\n\n{HOW_THEY_STAND}"
    return f"{head}\n\n{tables}" if tables else ""


def standing_tables(table: pd.DataFrame) -> str:
    """Return the tables of `standing_section` by themselves."""
    parts = []
    for (stage, device), rows in with_others(table).groupby(["stage", "device"]):
        parts += [
            f"{name_of_stage(stage)} on {escape(device)}, over every dtype:",
            markdown_table(display_standings(rows)),
            markdown_table(display_efficiency(rows)),
        ]
    return "\n\n".join(parts)


def first_call_section(frame: pd.DataFrame) -> str:
    """Return what the first call of compiled kernels costs; '' where none is compiled."""
    table = first_calls(frame)
    said = (
        "### Before the first result\n\nBinding and the first call, compilation included, which no "
        "time above contains: over the cases of a kernel, of each the most over its passes."
    )
    return f"{said}\n\n{markdown_table(table)}" if len(table) else ""


def growth_section(table: pd.DataFrame) -> str:
    """Return the exponents of one run, a table for each stage, device and dtype; '' without any."""
    return _by_slice(f"### How it grows\n\n{HOW_IT_GROWS}", table, display_scaling)


def crossing_section(table: pd.DataFrame) -> str:
    """Return where the fastest kernels change places; '' where none do."""
    said = (
        "### Who overtakes whom\n\nOnly where both kernels are told apart on both sides, and one "
        "of the two is the fastest of all on at least one of them."
    )
    return _by_slice(said, table, display_crossings)


def doubt_section(frame: pd.DataFrame) -> str:
    """Return the measured cases that are worth a second look, in plain words; '' without any."""
    table = doubts(frame)
    contended = int(frame["contended_passes"].gt(0).sum())
    parts = []
    if contended:
        cases = "1 case has" if contended == 1 else f"{contended} cases have"
        parts.append(
            f"{cases} passes taken while something else used the machine, "
            "because too few were quiet; the status says how many."
        )
    if len(table):
        marked = f"{len(table)} of {int(frame['status'].eq('ok').sum())} measured cases"
        parts.append(f"{marked} have something doubtful about them, marked † above:")
        parts.append(markdown_table(display_doubts(table), wide=["what is doubtful"]))
    return "\n\n".join(["### Look twice", *parts]) if parts else ""


def problem_section(frame: pd.DataFrame) -> str:
    """Return the table of the cases without numbers and why; '' if every case has them."""
    table = problems(frame)
    if table.empty:
        return ""
    text = pd.DataFrame(
        {
            "case": [format_case(*row) for row in table[SIZES].itertuples(index=False)],
            "kernel": table["kernel"],
            "stage": table["stage"],
            "device, dtype": table["device"] + ", " + table["dtype"],
            "status": table["status"],
            "predicted memory": [format_bytes(value) for value in table["predicted_peak_bytes"]],
            "reason": table["reason"],
        },
        dtype=object,
    )
    return f"### Planned, without numbers\n\n{markdown_table(text, wide=['reason'])}"


def _by_slice(head: str, table: pd.DataFrame, write: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
    parts = [head]
    for part in slices(table):
        parts += [f"{name_of(part)}:", markdown_table(write(part.of(table)))]
    return "\n\n".join(parts) if len(table) else ""


def _winners(part: Slice, best: pd.DataFrame) -> str:
    if best.empty:
        return f"{name_of(part)}: no case has a time."
    counts = best.groupby("kernel").size().sort_values(ascending=False, kind="stable")
    shares = [_share(str(kernel), best) for kernel in counts.index[:4]]
    more = f", {len(counts) - 4} other kernels at the rest" if len(counts) > 4 else ""
    close = int((best["also"] != "").sum())
    tied = (
        f" At {close} of them another kernel is within its interval, or within 10 %."
        if close
        else ""
    )
    said = f"of {len(best)} sizes the fastest is {', '.join(shares)}{more}"
    if len(counts) == 1:
        said = f"**{escape(counts.index[0], 60)}** is the fastest at all {len(best)} sizes"
    return f"{name_of(part)}: {said}.{tied}{_against_torch(best)}"


def _share(kernel: str, best: pd.DataFrame) -> str:
    won = best[best["kernel"] == kernel]
    named = [format_case(*row) for row in won[SIZES].head(3).itertuples(index=False)]
    more = "; …" if len(won) > 3 else ""
    return f"**{escape(kernel, 60)}** at {len(won)} ({'; '.join(named)}{more})"


def _against_torch(best: pd.DataFrame) -> str:
    ahead = best.loc[best["kernel"] != best["baseline"], "speedup"].dropna()
    if ahead.empty:
        return ""
    baseline = escape(best["baseline"].iloc[0], 60)
    return f" The fastest is {_range(ahead)} as fast as torch.nn ({baseline})."


def _prices(frame: pd.DataFrame) -> list[str]:
    said = []
    for (device, dtype), price in jacobian_price(frame).groupby(["device", "dtype"]):
        known = price.dropna(subset=["time_ratio"])
        if known.empty:
            continue
        worst = known.sort_values("time_ratio", kind="stable").iloc[-1]
        memory = known["memory_ratio"].dropna()
        held = f" and {_range(memory)} the memory" if len(memory) else ""
        said.append(
            f"Forming the Jacobian ({HEAVY} instead of {LIGHT}) on {escape(device)} in "
            f"{escape(dtype)} takes {_range(known['time_ratio'])} the time{held} over {len(known)} "
            f"sizes; the most time at {format_case(*worst[SIZES])}: "
            f"{format_time(worst['median_s_heavy'])} and {format_bytes(worst['peak_bytes_heavy'])} "
            f"against {format_time(worst['median_s_light'])} and "
            f"{format_bytes(worst['peak_bytes_light'])}."
        )
    return said


def _doubted(frame: pd.DataFrame) -> list[str]:
    table = doubts(frame)
    if table.empty:
        return []
    first = table.iloc[0]
    return [
        f"{len(table)} of {int(frame['status'].eq('ok').sum())} measured cases are worth a second "
        f"look; for example {escape(first['kernel'], 60)} at {format_case(*first[SIZES])}: "
        f"{escape(first['suspicions'])}."
    ]


def _missing(frame: pd.DataFrame) -> str:
    table = problems(frame)
    if table.empty:
        return f"All {len(frame)} planned cases have numbers."
    counts = [f"{count} {status}" for status, count in sorted(_count(table["status"]).items())]
    first = table.sort_values(["status", *SLICE, *SIZES], kind="stable").iloc[0]
    return (
        f"{len(table)} of {len(frame)} planned cases have no number: {', '.join(counts)}; for "
        f"example {escape(first['kernel'], 60)} at {format_case(*first[SIZES])} is "
        f"{first['status']}: {escape(first['reason'])}."
    )


def _count(values: pd.Series) -> dict[str, int]:
    return {str(value): int((values == value).sum()) for value in values.unique()}


def _range(ratios: pd.Series) -> str:
    low, high = format_ratio(ratios.min()), format_ratio(ratios.max())
    return low if low == high else f"{low} to {high}"
