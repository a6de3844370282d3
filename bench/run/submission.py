"""A run file that somebody sends: is it as a run writes it, and does what it says hang together?

What a run works out of its samples is worked out again and must come out the same; what its samples
say of one another must agree; and no ceiling may be beyond what processors can do. Numbers that are
made up consistently cannot be told from measured ones.
"""

import json
import math
import re
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlr

from ..common.errors import UserError, single_line
from ..common.paths import ROOT
from ..common.units import format_bytes
from ..plan.selection import files_of
from ..stats.estimators import repeated_error
from ..store.columns import MEASURED, SHARED
from ..store.files import file_stem
from ..store.runs import find_runs, load_heads, load_run
from ..store.schema import Benchmark, Ceilings, Outcome, Run
from .aggregate import summarise, with_bounds
from .journal import LONG_PROCESSES
from .slowdown import baseline_times
from .stopping import SPEEDUPS, priors_by_threads, uncontended

MAX_BYTES = 2_000_000
CLOSE = 1e-9  # relative: sums in another order
# The baseline is measured beside every kernel of a case. Of its least time in the processes of a
# kernel: on a machine that was slow a third of the time it was within 1.51 of the others'.
MAX_DISAGREEMENT = 1.7
MAX_DRIFT = 2.0  # of a machine's ceilings from one stored run to another of equal settings
# Of a thread on any processor: 6 GHz, in each cycle two multiply-adds and two loads of 64 bytes.
MOST_PER_S = {
    "float32": 6e9 * 64, "float64": 6e9 * 32, "bandwidth of the first cache": 6e9 * 128,
}  # fmt: skip
_MARKUP = re.compile(r"<\s*[a-zA-Z!/]|[\x00-\x08\x0b-\x1f\x7f]")
_VERIFIED = (
    "max_rel_error",
    "tolerance_of",
    "peak_bytes",
    "untracked_bytes",
    "warnings",
)  # once, by no sample
_COMPUTED = [column.name for column in MEASURED if column.name not in _VERIFIED]


def find_problems(path: Path, results: Path) -> list[str]:
    """Return what is wrong with a run file, a sentence each; `results` has the machine's others."""
    size = path.stat().st_size if path.is_file() else 0
    if size > MAX_BYTES:
        return [f"a run file is at most {format_bytes(MAX_BYTES)}; this has {format_bytes(size)}"]
    try:
        run = load_run(path)
    except UserError as error:
        return [single_line(error, 1_000)]
    checks = (_texts(path), _provenance(path, run), _kernels(run), _columns(run), _baselines(run),
              _ceilings(path, run, results))  # fmt: skip
    return list(dict.fromkeys(problem for check in checks for problem in check))


def _texts(path: Path) -> Iterator[str]:
    def walk(value: Any, place: str) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inside in value.items():
                yield from walk(str(key), f"a name in {place}")
                yield from walk(inside, f"{place}.{key}" if place else str(key))
        elif isinstance(value, list):
            for inside in value:
                yield from walk(inside, place)
        elif isinstance(value, str) and _MARKUP.search(value):
            yield f"a text is plain; {single_line(place)} has {single_line(repr(value), 60)}"

    yield from walk(json.loads(path.read_text(encoding="utf-8")), "")


def _provenance(path: Path, run: Run) -> Iterator[str]:
    commit = run.commit_info
    if commit.dirty:
        yield "a run is of committed code; this one had uncommitted changes: commit, then measure"
    known = re.fullmatch(r"[0-9a-f]{40}", commit.id) is not None
    if known and _git("rev-parse", "--is-shallow-repository") == "false":
        known = _git("cat-file", "-t", commit.id) == "commit"
    if not known:
        yield f"its commit must be one of this repository; {single_line(commit.id)} is not"
    name = file_stem(commit.id, run.datetime, str(run.settings.get("grid")))
    if not re.fullmatch(rf"{re.escape(name)}(-\d+)?", path.stem):
        yield f"its name says when, of which commit and grid it is: {name}.json; keep that name"
    if path.parent.name != run.machine.slug:
        yield f"it lies in the folder of its machine, {run.machine.slug}; got {path.parent.name}"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True
    )
    return done.stdout.strip()


def _kernels(run: Run) -> Iterator[str]:
    for file in files_of(None, str(run.settings.get("grid"))):
        mlr.load_kernels(file)
    for outcome in run.outcomes:
        kernel = _kernel(outcome)
        if kernel is None:
            yield f"its kernels are this repository's; {single_line(outcome.kernel)} is not"
            continue
        if (kernel.operation, kernel.role) != (outcome.operation, outcome.role):
            yield f"{kernel.name} is a {kernel.role} of {kernel.operation}; the run says otherwise"
        if outcome.status != "ok" and not outcome.reason:
            yield f"what is not ok has a reason; {single_line(outcome.fullname)} has none"


def _kernel(outcome: Outcome) -> mlr.Kernel | None:
    """Return the kernel of its operation, or else of another one, if there is one of that name."""
    for operation in (outcome.operation, None):
        with suppress(ValueError):
            return mlr.get_kernel(outcome.kernel, operation)
    return None


def _columns(run: Run) -> Iterator[str]:
    """Work everything out again that a run makes of its samples."""
    samples = {one.fullname: _samples(one) for one in run.benchmarks}
    planned = {outcome.fullname: outcome for outcome in run.outcomes}
    threads = {one.fullname: one.extra_info.threads or 1 for one in run.benchmarks}
    priors = {name: priors_by_threads(samples, threads, log) for name, log in SPEEDUPS.items()}
    errors = _errors(run)
    for one in run.benchmarks:
        told = one.extra_info.model_dump() | planned[one.fullname].model_dump()
        used = uncontended(samples[one.fullname])
        if not used:
            yield f"what is ok has samples; {one.name} has none"
            continue
        known = with_bounds(told | {"warnings": []}, run.machine.ceilings)
        common = {name: some[threads[one.fullname]] for name, some in priors.items()}
        # Older runs have cold intervals without what the variances have in common.
        tries = [
            summarise(known, samples[one.fullname], shared, error)
            for error in errors
            for shared in (common, common | {"speedup_cold": None})
        ]
        differing = [[n for n in _COMPUTED if not _same(told[n], again[n])] for again in tries]
        again, wrong = min(zip(tries, differing, strict=True), key=lambda found: len(found[1]))
        if not _same(one.stats.median, statistics.median(each["median_s"] for each in used)):
            wrong.append("stats.median")
        if missing := {*again["warnings"]} - {*(told["warnings"] or ())}:
            wrong.append(f"warnings (without {sorted(missing)[0]!r})")
        if wrong:
            yield f"{one.name} says other than its samples: {', '.join(wrong)}"


def _errors(run: Run) -> list[float]:
    """Return how often an interval may err, of a benchmark and of one whose call is long.

    The settings say how many processes time a benchmark, `5` or `2 to 5`; fewer time a long call.
    """
    said = str(run.settings.get("processes", ""))
    counts = [int(one) for one in re.findall(r"[1-9]\d?", said)] or [2]
    least, most = min(counts), max(counts)
    short = min(least, LONG_PROCESSES), min(most, LONG_PROCESSES)
    return [repeated_error(*processes) for processes in dict.fromkeys([(least, most), short])]


def _samples(one: Benchmark) -> list[dict[str, Any]]:
    return [sample.model_dump(by_alias=True) for sample in one.samples]


def _same(told: object, again: object) -> bool:
    if isinstance(told, (int, float)) and isinstance(again, (int, float)):
        return math.isclose(told, again, rel_tol=CLOSE)
    return told == again


def _baselines(run: Run) -> Iterator[str]:
    """Compare the baseline's time as every kernel of a case has it, hot and cold."""
    cases = defaultdict[tuple[Any, ...], dict[str, float]](dict)
    for one in run.benchmarks:
        case = [getattr(one.extra_info, name) for name in SHARED]
        for sample in _samples(one):
            for column, seconds in baseline_times(sample):
                own = cases[column, *case]
                own[one.name] = min(seconds, own.get(one.name, math.inf))
    for (column, *_), told in cases.items():
        usual = statistics.median(told.values())
        for name, own_s in told.items():
            if not 1 / MAX_DISAGREEMENT < own_s / usual < MAX_DISAGREEMENT:
                yield (
                    f"the kernels of a case have one baseline; by {column} of {name} it takes "
                    f"{own_s / usual:.2f} times what the others say"
                )


def _ceilings(path: Path, run: Run, results: Path) -> Iterator[str]:
    """Hold the ceilings against any processor's, and against those of the machine's other runs."""
    folder = results / "runs" / run.machine.slug
    heads = load_heads(other for other in find_runs(folder) if other.resolve() != path.resolve())
    for key, best in run.machine.ceilings.items():
        known = [head.machine.ceilings.get(key) for head in heads.values()]
        others = [_rates(one) for one in known if one is not None]
        device, _, number = key.partition(", ")
        threads = int(number.split()[0]) if number else 1
        for name, rate in _rates(best).items():
            if device == "cpu" and rate > MOST_PER_S.get(name, math.inf) * threads:
                yield f"{key}: {name} of {rate:.3g} a second is beyond any processor's"
            usual = statistics.median([one[name] for one in others if name in one] or [rate])
            if not 1 / MAX_DRIFT < rate / usual < MAX_DRIFT:
                yield (
                    f"{key}: {name} is {rate / usual:.2f} times that of this machine's other "
                    "runs; measure again while it is idle"
                )


def _rates(ceilings: Ceilings) -> dict[str, float]:
    rates = sorted(ceilings.bandwidth_bytes_per_s)
    if not rates:
        return ceilings.flops_per_s
    ends = {"bandwidth of the first cache": rates[0][1], "bandwidth of the memory": rates[-1][1]}
    if ceilings.cold_bytes_per_s is not None:
        ends["bandwidth of evicted memory"] = ceilings.cold_bytes_per_s
    return ceilings.flops_per_s | ends
