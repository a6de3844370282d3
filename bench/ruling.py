"""Runs of this machine -> the rule that `mlr`'s `auto` follows: which kernel is fastest where."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.errors import UserError
from bench.machine import machine_slug
from bench.ranking import fastest
from bench.store import load_frame
from bench.tables import SIZES
from mlr import KERNELS
from mlr.choice import can_be_chosen, rule_path, surroundings

CASE = ["stage", "device", "dtype", *SIZES]


def rule_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the fastest kernel that `auto` may take, of each case; of several runs the newest's.

    Args:
        frame: The rows of runs of one machine.
    """
    known = [name for name, kernel in KERNELS.items() if can_be_chosen(kernel)]
    rows = frame[frame["kernel"].isin(known) & frame["stage"].isin(["gradient", "step"])]
    best = fastest(rows).merge(rows[["run", "datetime"]].drop_duplicates(), on="run")
    best = best.sort_values("datetime", kind="stable").drop_duplicates(CASE, keep="last")
    return best.sort_values(CASE)[[*CASE, "kernel"]]


def write_rule(runs: Sequence[Path]) -> tuple[Path, int]:
    """Write the rule of this machine's runs where `auto` looks for it.

    Returns:
        The file, and how many cases it holds.

    Raises:
        UserError: If no run is of this machine, or the file cannot be written.
    """
    frame = load_frame(runs)
    slug = machine_slug()
    rows = rule_rows(frame[frame["machine"] == slug])
    if not len(rows):
        raise UserError(
            f"a rule needs a run of this machine, {slug}; found none among {len(runs)}; "
            "`python -m bench run` makes one"
        )
    found = [[*map(str, row[:3]), *map(int, row[3:6]), str(row[6])] for row in rows.to_numpy()]
    path = rule_path()
    lines = ",\n".join(json.dumps(row) for row in found)
    text = f'{{"of": {json.dumps(surroundings())},\n"fastest": [\n{lines}\n]}}\n'
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"the rule must be writable; {path}: {error.strerror}") from error
    return path, len(found)
