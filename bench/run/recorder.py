"""One benchmark after another in this process: measured, and recorded at once."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..common.errors import UserError
from ..common.provenance import commit_info
from ..machine.devices import Call, device_of, unavailable_reason
from ..machine.info import generated_machine_info, machine_info, packages, settings
from ..measure.benchmark import Sample, kept_reason, measure_sample, verify
from ..measure.ceilings import measure_ceilings
from ..measure.timing import PhaseTimer
from ..plan.benchmark import Benchmark, full_name, predict
from ..plan.grid import GRIDS
from ..plan.selection import Selection
from ..store.schema import Ceilings, ceilings_key
from .aggregate import summarise
from .journal import DEVICE_LOST, JOURNAL_LOST, Done, Event, RunState, Session, Start

SLOW_CALL_S = 0.05  # a call this slow is timed in fewer rounds, unless rounds were asked for
SLOW_ROUNDS = 3  # in two processes enough for `aggregate.MIN_ROUNDS`
DIGITS = 7  # of a number of a sample: the third or fourth is chance, and files stay small


class Recorder:
    """What became of every benchmark so far, and the journal that it is written to at once."""

    def __init__(
        self, axes: Selection, journal: Path | None, process: int | None, few_rounds: bool
    ) -> None:
        self.axes = axes
        self.process = process  # 0 verifies, the others time; None without a runner, for both
        self.state = RunState(journal) if journal else None  # of the run, if this is of one
        self.few_rounds = few_rounds  # of a slow call; not where the command line asks for rounds
        self.results: dict[str, dict[str, Any]] = {}  # the columns of each benchmark by its name
        self._parent = os.getppid()
        self._measured: dict[str, dict[str, Any]] = {}  # ceilings, as a run file has them
        if self.state is not None:
            self.state.read()

    def ceilings(self, device: str) -> Ceilings | None:
        """Return a device's ceilings, measured on first use; None where there is no such device.

        All processes of a run go by what the first of them measured; a few measure again.
        """
        if unavailable_reason(device) is not None:
            return None
        key = ceilings_key(device, self.axes.threads[0])
        known = self.state.ceilings(key) if self.state is not None else []
        is_due = self.state is None or self.state.is_to_probe(key, self.process or 0)
        if is_due and key not in self._measured:
            self._measured[key] = measure_ceilings(device).model_dump(exclude_none=True)
        return Ceilings(**(known[0] if known else self._measured[key]))

    def begin(self, devices: set[str]) -> None:
        """Note where and how this process of a run measures, before its first benchmark."""
        if self.state is not None:
            for device in devices:
                self.ceilings(device)
            machine, commit = generated_machine_info(), commit_info()
            head = {"machine_info": machine, "commit_info": commit, **self.surroundings()}
            self._note(Session(head=head))

    def surroundings(self) -> dict[str, Any]:
        """Return machine, settings and packages, as a run file holds them."""
        return {
            "machine": {**machine_info(), "ceilings": self._measured},
            "settings": {"grid": self.axes.grid, "processes": 1, **settings()},
            "packages": packages(),
        }

    def _note(self, event: Event) -> None:
        try:
            if self.state is not None:
                self.state.note(event)
        except UserError as error:
            pytest.exit(str(error), returncode=JOURNAL_LOST)

    def measure(self, entry: Benchmark, benchmark: Any) -> None:
        """Measure one benchmark and record it; a test of another status is skipped or fails."""
        if self.state is not None and os.getppid() != self._parent:
            pytest.exit("the runner of this session is gone", returncode=JOURNAL_LOST)
        ceilings, spent = self.ceilings(entry.case.device), PhaseTimer()
        name = full_name(entry)
        outcome = predict(entry, ceilings, GRIDS[self.axes.grid].longest_call_s)
        begun: dict[str, Any] = {"process": self.process or 0, "fullname": name}
        self._note(Start(**begun, outcome=outcome.columns()))
        tried, sample = outcome.status == "ok", dict[str, Any]()
        if tried and ceilings is not None:
            with kept_reason(outcome):
                if not self.process:
                    verify(entry, outcome, ceilings, spent)
                if self.process != 0:
                    timer = partial(self._time, benchmark)
                    sample = rounded(measure_sample(entry, timer, spent, self.process or 1))
        columns, timed = outcome.columns(), dict[str, Any]()
        if sample and outcome.status == "ok":  # it may have been timed before it was seen wrong
            timed = {"sample": sample, "benchmark": benchmark.stats.as_dict(include_data=False)}
            if self.process is None:
                columns = summarise(columns, [sample])
                benchmark.extra_info.update(columns)
        self.results[name] = columns
        self._note(Done(**begun, **timed, outcome=outcome.columns(), spent=dict(spent)))
        if not tried:
            pytest.skip(f"{outcome.status}: {outcome.reason}")
        if outcome.status != "ok":
            benchmark.has_error = True
            if benchmark.stats is not None:  # a wrong result carries no time
                benchmark.stats.stats.data.clear()
            if not device_of(entry.case.device).release_memory():
                lost = f"{entry.case.device} is lost to this process: {outcome.reason}"
                pytest.exit(lost, returncode=DEVICE_LOST)
            pytest.fail(f"{outcome.status}: {outcome.reason}", pytrace=False)

    def _time(self, benchmark: Any, call: Call, about_s: float) -> dict[str, Any]:
        if about_s > SLOW_CALL_S and self.few_rounds:
            benchmark.pedantic(call, rounds=SLOW_ROUNDS)
        else:
            benchmark(call)
        if not benchmark.enabled:
            return {}
        stats = benchmark.stats
        return {"median_s": float(stats["median"]), "rounds": int(stats["rounds"])}


def rounded(sample: Sample) -> Sample:
    """Return a sample with its floats to `DIGITS` significant digits."""
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in sample.items()
    }
