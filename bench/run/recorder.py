"""One benchmark after another in this process: measured, and recorded at once."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.utils import get_commit_info

from ..common.errors import UserError
from ..machine.devices import unavailable_reason
from ..machine.info import machine_info, packages, settings
from ..measure.benchmark import kept_reason, measure_sample, verify
from ..measure.ceilings import measure_ceilings
from ..measure.timing import PhaseTimer
from ..plan.benchmark import Benchmark, Outcome, predict
from ..plan.grid import GRIDS
from ..plan.selection import Selection
from ..store.schema import Ceilings, ceilings_key
from .aggregate import summarise
from .journal import JOURNAL_LOST, Done, Event, RunState, Session, Start

SLOW_CALL_S = 0.05  # a call this slow is timed in fewer rounds, unless rounds were asked for
SLOW_ROUNDS = 2


class Recorder:
    """What became of every benchmark so far, and the journal that it is written to at once."""

    def __init__(
        self, axes: Selection, journal: Path | None, process: int | None, few_rounds: bool
    ) -> None:
        self.axes = axes
        self.process = process  # 0 verifies, the others time; None without a runner, for both
        self.state = RunState(journal) if journal else None  # of the run, if this is of one
        self.few_rounds = few_rounds  # of a slow call; not where the command line asks for rounds
        self.outcomes: dict[str, Outcome] = {}
        self.results: dict[str, dict[str, Any]] = {}  # with the columns of a sample, if any
        self._parent = os.getppid()
        self._ceilings: dict[str, Ceilings] = {}
        if self.state is not None:
            self.state.read()

    def ceilings(self, device: str) -> Ceilings | None:
        """Measure a device's ceilings on first use; None where there is no such device."""
        if unavailable_reason(device) is not None:
            return None
        if device not in self._ceilings:
            self._ceilings[device] = measure_ceilings(device)
        return self._ceilings[device]

    def begin(self, devices: set[str]) -> None:
        """Note where and how this process of a run measures, before its first benchmark."""
        if self.state is not None:
            for device in devices:
                self.ceilings(device)
            machine, commit = pytest_benchmark_generate_machine_info(), get_commit_info()
            head = {"machine_info": machine, "commit_info": commit, **self.surroundings()}
            self._note(Session(head=head))

    def surroundings(self) -> dict[str, Any]:
        """Return machine, settings and packages, as a run file holds them."""
        known = {
            ceilings_key(device, self.axes.threads[0]): found.model_dump(exclude_none=True)
            for device, found in sorted(self._ceilings.items())
        }
        return {
            "machine": {**machine_info(), "ceilings": known},
            "settings": {"grid": self.axes.grid, "processes": 1, **settings()},
            "packages": packages(),
        }

    def _note(self, event: Event) -> None:
        try:
            if self.state is not None:
                self.state.note(event)
        except UserError as error:
            pytest.exit(str(error), returncode=JOURNAL_LOST)

    def measure(self, entry: Benchmark, name: str, benchmark: Any) -> None:
        """Measure one benchmark and record it; a test of another status is skipped or fails."""
        if self.state is not None and os.getppid() != self._parent:
            pytest.exit("the runner of this session is gone", returncode=JOURNAL_LOST)
        ceilings, spent = self.ceilings(entry.case.device), PhaseTimer()
        outcome = predict(entry, ceilings, GRIDS[self.axes.grid].longest_call_s)
        begun: dict[str, Any] = {"process": self.process or 0, "fullname": name}
        self._note(Start(**begun, outcome=outcome.columns()))
        tried, measured = outcome.status == "ok", dict[str, Any]()
        if tried and ceilings is not None:
            with kept_reason(outcome):
                if not self.process:
                    verify(entry, outcome, ceilings, spent)
                if self.process != 0:
                    measured = self._sample(entry, outcome, name, benchmark, spent)
        self.outcomes[name] = outcome
        if outcome.status != "ok":  # it may have been timed before that was seen
            measured = {}
            self.results.pop(name, None)
        self.results.setdefault(name, {**outcome.columns(), "median_s": None})
        self._note(Done(**begun, **measured, outcome=outcome.columns(), spent=dict(spent)))
        if not tried:
            pytest.skip(f"{outcome.status}: {outcome.reason}")
        if outcome.status != "ok":
            benchmark.has_error = True
            if benchmark.stats is not None:  # a wrong result carries no time
                benchmark.stats.stats.data.clear()
            pytest.fail(f"{outcome.status}: {outcome.reason}", pytrace=False)

    def _sample(
        self, entry: Benchmark, outcome: Outcome, name: str, benchmark: Any, spent: PhaseTimer
    ) -> dict[str, Any]:
        def timer(call: Callable[[], Any], about_s: float) -> dict[str, Any]:
            if about_s > SLOW_CALL_S and self.few_rounds:
                benchmark.pedantic(call, rounds=SLOW_ROUNDS)
            else:
                benchmark(call)
            if not benchmark.enabled:
                return {}
            stats = benchmark.stats
            return {"median_s": float(stats["median"]), "rounds": int(stats["rounds"])}

        if not (sample := measure_sample(entry, timer, spent, self.process or 1)):
            return {}
        if self.process is None:
            columns = summarise(outcome.columns(), [sample], None)
            benchmark.extra_info.update(columns)
            self.results[name] = {**columns, "median_s": columns["paired_s"]}
        stats = benchmark.stats.as_dict(include_data=False)
        return {"sample": sample, "benchmark": stats}
