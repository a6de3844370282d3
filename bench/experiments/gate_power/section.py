"""Trials of the gate -> what a report and a README tell of them. Needs no torch."""

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from ...common.errors import single_line
from ...report.markdown import escape, markdown_table, render_template
from ...report.style import COLOURS, GREY, label
from ...report.subject import Section, Subject, safe
from . import analysis as gate
from .analysis import Trial


def subject(trials: Mapping[str, Sequence[Trial]]) -> Subject:
    """Return what a report tells of the gate's trials, by machine; it shows those of the most."""
    frames = {machine: gate.to_frame(some) for machine, some in trials.items() if some}
    stems = {machine: f"{safe(machine)}-gate" for machine in frames}  # of the figures
    most = max(frames, key=lambda machine: len(trials[machine]), default=None)
    tables = [trials_table(rows, machine) for machine, rows in frames.items()]
    return Subject(
        sections=lambda paths: [
            Section(
                f"The gate on {single_line(name)}", trials_section(rows, paths.get(stems[name]))
            )
            for name, rows in frames.items()
        ],
        figures={stems[name]: partial(trials_figure, rows, name) for name, rows in frames.items()},
        published={} if most is None else {"gate": stems[most]},
        readme={"gate": "\n\n".join(tables) or "No trials are stored yet."},
    )


def _count(rows: pd.DataFrame) -> int:
    return int(rows.loc[rows["kind"] != gate.MUTATION, "trial"].nunique())


def trials_table(rows: pd.DataFrame, machine: str) -> str:
    """Return the table of a README: what each rule did, and on which machine."""
    table = markdown_table(gate.rates_table(rows))
    return f"{table}\n\n{_count(rows)} trials on {escape(machine)}."


def trials_section(rows: pd.DataFrame, figure: str | None) -> str:
    """Return the report's part on the gate's trials of one machine."""
    still = rows[(rows["rule"] == gate.GATE) & rows["kind"].isin(gate.UNCHANGED)]
    still = still.drop_duplicates("trial")
    mutations = gate.mutations_table(rows)
    return render_template(
        "gate_power",
        cases=rows.loc[rows["kind"] != gate.MUTATION, "case"].nunique(),
        slowed_all=gate.SLOWED_ALL,
        figure=figure,
        rates=markdown_table(gate.rates_table(rows)),
        wall_s=still["wall_s"],
        undecided=gate.rate(still["exit_status"].isin(gate.UNDECIDED)),
        slow_downs=gate.slow_downs(rows),
        mutations=markdown_table(mutations) if len(mutations) else "",
    )


def trials_figure(rows: pd.DataFrame, machine: str) -> Figure:
    """Draw the share of trials that each rule fails, by the size of the slow-down."""
    figure = Figure(figsize=(8, 4.4))
    figure.set_layout_engine("constrained", rect=(0, 0.05, 1, 0.95))
    axes = figure.subplots()
    for number, (rule, own) in enumerate(rows.groupby("rule", sort=False)):
        slowed = [gate.power(own, kind) for kind in gate.SLOWED_ONE]
        shares = pd.DataFrame([gate.false_alarms(own, *gate.UNCHANGED), *slowed])
        shares = shares[shares["of"] > 0]
        middle = shares["hits"] / shares["of"]
        is_gate = rule == gate.GATE
        axes.errorbar(
            shares.index + (number - 2.5) * 0.13, middle,
            yerr=[middle - shares["low"], shares["high"] - middle], label=label(str(rule)),
            color=("black", *COLOURS)[number % 8], marker="o" if is_gate else "s",
            markersize=7 if is_gate else 5, capsize=2, linestyle="none",
        )  # fmt: skip
    names = ["unchanged", *(f"+{share:.0%}" for share in gate.SLOWED_ONE.values())]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("what one case was slowed by")
    axes.set_ylabel("trials that fail: 95 % interval")
    title = "Which rule stops a slow-down, and which raises false alarms?"
    figure.suptitle(title, x=0.01, ha="left")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    said = label(f"{machine}, {_count(rows)} trials")
    figure.text(0.99, 0.005, said, ha="right", fontsize=7.5, color=GREY)
    return figure
