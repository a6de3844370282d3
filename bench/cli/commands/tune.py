"""Write which kernel stored runs found the fastest at each size, for `kernel="auto"`."""

import argparse
import json
import math
import os
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

import pandas as pd
import torch

from mlr import KERNELS, OPERATIONS, Case, Problem
from mlr.dispatch import is_selectable
from mlr.one_pass.bind import bind_step
from mlr.operations import STEP
from mlr.tuning import TABLE_VARIABLE, hardware, table_path

from ...analysis.frame import by_size
from ...analysis.ranking import fastest
from ...common.errors import UserError
from ...common.paths import COMMAND, RESULTS
from ...common.units import counted
from ...machine.info import machine_slug
from ...measure.ratio import paired_ratio
from ...store.columns import SIZES
from ...store.files import atomic_write, writing
from ...store.runs import find_runs, load_frame
from ..types import say

# Steps that threads are tried on: bound by the call, by products, and by memory in turn.
TRIED = ((6, 3), (32, 4))
TRIED_ROWS = tuple(2**power for power in range(8, 21))
BLOCKS = 12
CASE = ["operation", "device", "dtype"]  # and the sizes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help="stored runs (default: all of them)")
    add("--dry-run", action="store_true", help="print it and write nothing")
    parser.description = (
        "Write down which kernel was the fastest of each case of stored runs, and from how much "
        "work on another thread pays. mlr reads that from then on in every program of this user on "
        "this machine: `auto` follows it. It is written to ~/.config/mlr/tuning.json "
        "($XDG_CONFIG_HOME/mlr/tuning.json where that is set), or to the file that "
        "MLR_TUNING_TABLE names; remove the file to undo it."
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    text, told = make_table(arguments.runs or find_runs(RESULTS / "runs"))
    path = table_path()
    if arguments.dry_run:
        print(text, end="")
        say(f"{path}: {told}; nothing is written")
        return 0
    with writing("the tuning table", path):
        atomic_write(path, text)
    print(f"{path}: {told}")
    named = f" where {TABLE_VARIABLE} names it" if os.environ.get(TABLE_VARIABLE) else ""
    print(
        "mlr reads this file from now on, in every program of this user on this machine"
        f"{named}; remove it to undo"
    )
    return 0


def make_table(runs: Sequence[Path]) -> tuple[str, str]:
    """Make the tuning table of this machine from stored runs; return its text, and what it says."""
    frame, slug, here = load_frame(runs), machine_slug(), torch.get_num_threads()
    frame = frame[frame["machine"] == slug]
    used = min(frame["threads"].unique(), key=lambda count: abs(count - here), default=here)
    rows = fastest_rows(frame[frame["threads"] == used])
    if not len(rows):
        raise UserError(
            f"a tuning table needs a run of this machine, {slug}; found none among {len(runs)}; "
            f"`{COMMAND} run` makes one"
        )
    part_flops = measure_part_flops()
    threads = "threads were not tried, or did not pay"
    if part_flops is not None:
        threads = f"another thread pays from {part_flops:,} operations on"
    table = {"of": hardware(), "part_flops": part_flops, "fastest": rows.to_numpy().tolist()}
    text = json.dumps(table).replace("], [", "],\n[")  # a line of each case
    told = f"the fastest kernel of {len(rows)} cases with {counted(used, 'thread')}; {threads}"
    return f"{text}\n", told


def fastest_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the fastest kernel of each case that `auto` may take; of several runs the newest's."""
    known = [kernel.name for kernel in KERNELS.values() if is_selectable(kernel)]
    operations = [name for name, declared in OPERATIONS.items() if declared.preferred]
    rows = frame[frame["kernel"].isin(known) & frame["operation"].isin(operations)]
    best = fastest(rows).merge(rows[["run", "datetime"]].drop_duplicates(), on="run")
    best = best.sort_values("datetime", kind="stable")
    best = best.drop_duplicates([*CASE, "case"], keep="last")
    return best.sort_values([*CASE, "case"], key=by_size)[[*CASE, *SIZES, "kernel"]]


def measure_part_flops() -> int | None:
    """Measure from how many operations on a part of a step pays for a thread of its own.

    Sizes are tried from the largest down, one part against one for each thread, interleaved; the
    answer is the work of a part at the least size from which on the parts always win. None where
    there is one thread only, or where parts do not even win at the largest size.
    """
    threads = torch.get_num_threads()
    if threads < 2:
        return None
    found = []
    for n, o in TRIED:
        cases = (Case(STEP.name, "cpu", "float64", m, n, o) for m in reversed(TRIED_ROWS))
        won = list(takewhile(lambda case: _parts_win(case, threads), cases))
        if not won:
            return None
        found.append(4 * math.prod(won[-1].sizes) // threads)
    return max(found)


def _parts_win(case: Case, threads: int) -> bool:
    def bound(parts: int) -> Callable[[], None]:
        problem = Problem(case)
        inputs = problem.x, problem.y, problem.weight, problem.bias
        return bind_step(*inputs, 0.0, parts)

    ratios = sorted(paired_ratio(bound(threads), bound(1), case.device, blocks=BLOCKS).log_ratios)
    return ratios[len(ratios) * 3 // 4] < 0
