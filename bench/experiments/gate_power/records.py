"""The stored trials of the gate: one JSON object a line, one file a machine. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from ...common.errors import UserError
from ...gate.sequential import REGRESSION, ExitStatus

UNCHANGED = ("a_a", "a_a_loaded")
# The share by which head code is slowed in a trial of each kind: one case, or all of them.
SLOWED_ALL = "slowdown-all-10"
SLOWED_ONE = {"slowdown-5": 0.05, "slowdown-10": 0.10, "slowdown-20": 0.20}
SLOWED = SLOWED_ONE | {SLOWED_ALL: 0.10}
MUTATION = "mutation"
KINDS = (*UNCHANGED, *SLOWED, MUTATION)
GATE = "this gate"


class _Record(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)


class CaseRecord(_Record):
    """What a trial found of one case; of each exact failure the metric, base and head."""

    timing: str | None
    failures: list[tuple[str, int | str, int | str]]
    log_ratios: list[float]

    @property
    def found_by(self) -> set[str]:
        """What fails it: exact metrics, and `time`."""
        slower = {"time"} if self.timing == REGRESSION else set()
        return {metric for metric, *_ in self.failures} | slower


class Trial(_Record):
    """One trial, a whole gate."""

    kind: Literal[KINDS]  # type: ignore[valid-type]
    at: str
    commit: str | None
    exit_status: int
    wall_s: float
    blocks: int
    control: float | None
    cases: dict[str, CaseRecord]
    changed: str | None = None  # the case whose head differs from its base; None for none, or all
    mutation: str | None = None  # the mistake that was put into its kernel
    baselines: dict[str, list[str]] = {}  # the cases that the rule of each other tool fails


def read_trials(path: Path) -> list[Trial]:
    """Read the trials done so far; a last line that a kill left unfinished does not count.

    Raises:
        UserError: The file cannot be read, or a line of it is no trial.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [Trial.model_validate_json(line) for line in lines if line.endswith("\n")]
    except (OSError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise UserError(f"trials are one JSON object a line; {path} is not: {why}") from error


def read_all(paths: Iterable[Path]) -> dict[str, list[Trial]]:
    """Read the trials of several machines, each file named after its own; raises as one."""
    found = {path.stem: read_trials(path) for path in paths}
    return {name: trials for name, trials in found.items() if trials}


def append_trial(path: Path, trial: Trial) -> None:
    """Add a trial to a file, on disk when this returns; a line that a kill left is cut off."""
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)
    with path.open("a", encoding="utf-8") as file:
        file.write(trial.model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


def to_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row a trial, case and rule: whether the case was `changed`, and has `failed`."""
    rows = [
        {
            **{"trial": number, "kind": trial.kind, "mutation": trial.mutation},
            **{"exit_status": trial.exit_status, "wall_s": trial.wall_s, "case": name},
            **{"timing": case.timing, "log_ratios": case.log_ratios, "found_by": case.found_by},
            "changed": trial.kind == SLOWED_ALL or name == trial.changed,
            "failed": {
                GATE: case.found_by and trial.exit_status == ExitStatus.REGRESSION,
                **{rule: name in failed for rule, failed in trial.baselines.items()},
            },
        }
        for number, trial in enumerate(trials)
        for name, case in trial.cases.items()
    ]
    return pd.DataFrame(
        [row | {"rule": rule, "failed": bool(failed)} for row in rows
         for rule, failed in row["failed"].items()]
    )  # fmt: skip
