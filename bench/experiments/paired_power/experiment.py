"""Trials of `paired`, each a session of pytest whose pairs are known; `sessions.toml` says which.

The rule of tango judges the pairs of every trial too, and other tools those of some. Trials are
appended to one file as they end, until there are as many as are wanted; more can be added any day.
"""

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
from ...store.files import append_line, require_writable
from ..machine_load import under_load
from .analysis import KINDS, SUITE, Trial, missing, read_trials
from .pairs import draw, write_pairs
from .session import CommandError, run_session
from .tools import TANGO, TOOLS, installed, judge_by_tango, judge_by_tools


def run_trials(
    kinds: Collection[str], count: float, max_time_s: float, folder: Path, show: Show
) -> Path:
    """Add trials of some kinds that are wanted still, and return their file.

    The next is always of what most of its trials are missing of. After `count` of them, or that
    much time, no further one is begun.

    Raises:
        UserError: The folder cannot be written to, or a session cannot be run or read.
    """
    require_writable("trials", folder)
    path, start = folder / f"{machine_slug()}.jsonl", wall_clock()
    while count > 0 and wall_clock() - start < max_time_s:
        earlier = read_trials(path)
        left = {unit: number for unit, number in missing(earlier).items() if unit[0] in kinds}
        if not left:
            break
        kind, size = max(left, key=lambda unit: left[unit] / KINDS[unit[0]].sessions[unit[1]])
        append_line(path, run_trial(kind, size, earlier, show).model_dump_json())
        count -= 1
    return path


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
