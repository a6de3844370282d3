"""What a results folder has, for the commands that show it: runs, trials, and other subjects."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..common.errors import UserError, single_line
from ..common.paths import COMMAND
from ..convergence import section as convergence
from ..convergence.records import ConvergenceRun
from ..experiments.gate_power import analysis as gate_power
from ..experiments.paired_power import analysis as paired_power
from ..experiments.torch_releases import analysis as torch_releases
from ..overhead.section import every_subject
from ..report.subject import Beside
from ..scaling import section as scaling
from ..scaling.records import ScalingRun
from ..store.runs import find_runs


def stored_runs(results: Path) -> list[Path]:
    """Return every run that a results folder has, at least one."""
    found = find_runs(results / "runs")
    if not found:
        raise UserError(
            f"a report needs stored runs: {single_line(results / 'runs')} has none; measure with "
            f"`{COMMAND} run --out {single_line(results)}`, give the --out of an earlier "
            "run, or name its files"
        )
    return found


def stored_trials(results: Path) -> dict[str, list[gate_power.Trial]]:
    """Return the trials of the gate that a results folder has, by machine."""
    paths = sorted((results / "gate").glob("*.jsonl"))
    return {path.stem: gate_power.read_trials(path) for path in paths}


def others(results: Path, trials: Mapping[str, Sequence[gate_power.Trial]]) -> list[Beside]:
    """Return what a results folder has beside its runs and the trials of the gate, and these."""
    return [
        *every_subject(),
        convergence.subject(ConvergenceRun.latest(results / "convergence")),
        scaling.subject(ScalingRun.latest(results / "scaling")),
        gate_power.subject(trials),
        paired_power.subject(paired_power.stored_trials(results)),
        torch_releases.subject(torch_releases.stored_in(results)),
    ]
