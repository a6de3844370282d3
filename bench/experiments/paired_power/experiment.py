"""Trials of `paired`, each a session of pytest whose pairs are known; `sessions.toml` says which.

The rule of tango judges the pairs of every trial too, and other tools those of some. Trials are
appended to one file as they end, until there are as many as are wanted; more can be added any day.
"""

import argparse
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from ...common.errors import UserError
from ...common.provenance import commit_info
from ...common.units import counted
from ...gate.gate import Show
from ...machine.info import machine_slug, packages
from ...measure.timing import wall_clock
from ...store.files import require_writable
from .. import add_trials as trials
from ..machine_load import under_load
from ..progress import on_exclusive_machine
from .analysis import KINDS, SUITE, Trial, missing, read_trials, subject
from .pairs import draw, write_pairs
from .session import CommandError, run_session
from .tools import TANGO, TOOLS, installed, judge_by_tango, judge_by_tools


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    trials.add_arguments(parser, KINDS)


def run(given: argparse.Namespace) -> int:
    """Add trials, print what all of the machine say, and return 0."""
    with on_exclusive_machine() as show:
        folder = given.out / "paired"
        path = run_trials(given.kind, given.count, given.max_time, folder, show)
    stored = read_trials(path)
    wanted = missing(stored).items()
    left = {f"{kind} with {counted(size, 'pair')}": number for (kind, size), number in wanted}
    return trials.show_trials(path, subject({path.stem: stored}), left)


def run_trials(
    kinds: Collection[str], count: float, max_time_s: float, folder: Path, show: Show
) -> Path:
    """Add trials of some kinds that are wanted still, and return their file.

    For `count` and `max_time_s` see `add_trials`.

    Raises:
        UserError: The folder cannot be written to, or a session cannot be run or read.
    """
    require_writable("trials", folder)

    def shares(earlier: Sequence[Trial]) -> dict[tuple[str, int], float]:
        left = missing(earlier).items()
        return {(kind, size): number / KINDS[kind].sessions[size]
                for (kind, size), number in left if kind in kinds}  # fmt: skip

    def run_next(unit: tuple[str, int], earlier: Sequence[Trial]) -> Trial:
        return run_trial(*unit, earlier, show)

    path = folder / f"{machine_slug()}.jsonl"
    return trials.add_trials(path, count, max_time_s, read_trials, shares, run_next)


def run_trial(name: str, size: int, earlier: Sequence[Trial], show: Show) -> Trial:
    """Run a session of so many pairs, drawn by how many trials there were, and let others judge."""
    kind, number = KINDS[name], len(earlier)
    pairs = draw(number, size, kind.slowed)
    alike = [one for one in earlier if (one.suite, one.kind, len(one.pairs)) == (SUITE, name, size)]
    done = {tool.rules[0]: sum(tool.rules[0] in one.failed_by for one in alike) for tool in TOOLS}
    wanted = {rule: size == 1 and count < kind.tools for rule, count in done.items()}
    with under_load(kind.loaded), TemporaryDirectory() as place:
        folder = Path(place).resolve()
        write_pairs(folder, pairs)
        show(f"trial {number + 1}, {name}: a session of {counted(size, 'pair')}")
        at, start = datetime.now(UTC).isoformat(timespec="seconds"), wall_clock()
        exit_status, found = run_session(folder, pairs)
        wall_s = wall_clock() - start
        show(f"trial {number + 1}, {name}: other tools on the same functions")
        try:
            by_tango = judge_by_tango(folder)
        except CommandError as error:
            raise UserError(f"the rule of tango needs samples of each pair; {error}") from error
        failed_by, absent = judge_by_tools(folder, pairs[0], wanted)
    others = {name: installed(name) for name in sorted({tool.distribution for tool in TOOLS})}
    return Trial(
        kind=name,
        suite=SUITE,
        number=number,
        at=at,
        commit=commit_info().get("id"),
        versions=packages() | {name: found for name, found in others.items() if found},
        exit_status=exit_status,
        wall_s=round(wall_s, 1),
        pairs=found,
        failed_by={TANGO: by_tango} | failed_by,
        absent=absent,
    )
