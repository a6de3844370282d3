"""Trials of the gate -> what a report and a README tell of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ...report.catalogue import safe
from ...report.html import Section
from ...report.subject import Paths, Subject
from ...store.runs import plain
from .analysis import Trial, trials_figure, trials_section, trials_table

Trials = Mapping[str, Sequence[Trial]]  # by machine


def subject(trials: Trials) -> Subject:
    """Return what a report tells of the gate's trials; it shows those of the most on a machine."""
    published = {}
    if trials:
        published["gate"] = _stem(max(trials, key=lambda machine: len(trials[machine])))
    tables = (trials_table(some, machine) for machine, some in trials.items())
    return Subject(
        sections=partial(_sections, trials),
        figures={_stem(name): partial(trials_figure, some, name) for name, some in trials.items()},
        published=published,
        readme={"gate": "\n\n".join(tables) or "No trials are stored yet."},
    )


def _stem(machine: str) -> str:
    return f"{safe(machine)}-gate"


def _sections(trials: Trials, paths: Paths) -> list[Section]:
    return [
        Section(f"The gate on {plain(name)}", trials_section(some, name, paths.get(_stem(name))))
        for name, some in trials.items()
    ]
