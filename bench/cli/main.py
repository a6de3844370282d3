"""The commands: `python -m bench run | plan | report | gate | rule | machine | …`.

Each imports what it needs when it runs: `--help` and `report` start without torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..common.errors import UserError, in_one_line, raised_at
from ..common.paths import RESULTS, ROOT
from ..plan.selection import DEFAULT_GRID, add_axes
from .types import above_zero, count, duration, formats, shard, share, size

if TYPE_CHECKING:
    from ..plan.grid import Axes


class Parser(argparse.ArgumentParser):
    """An argument parser whose every error is one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def make_parser() -> Parser:
    """Make the parser of every command; imports nothing heavy."""
    parser = Parser(prog="python -m bench", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> Parser:
        added: Parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(run=run, default_grid=DEFAULT_GRID)
        return added

    run = command("run", "measure the cases, store a run, show where", _run)
    add_axes(run.add_argument)
    run.add_argument(
        "--passes", type=count, help="processes that time each benchmark (default: 5, smoke 2)"
    )
    run.add_argument("--out", type=Path, default=RESULTS, help="results folder (default: results)")
    run.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    run.add_argument(
        "--shard", type=shard, metavar="I/K", help="only part I of K, as much work as the others"
    )
    plan = command("plan", "show what would run, with predicted memory and time", _plan)
    add_axes(plan.add_argument)
    plan.add_argument("--passes", type=count, help="as of run")
    plan.add_argument("--shard", type=shard, metavar="I/K", help="as of run")
    report = command("report", "write report.html, REPORT.md, figures and tables", _report)
    report.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN",
        help="run files: show these and nothing else (default: all that the results folder has)",
    )  # fmt: skip
    report.add_argument(
        "--out", type=Path, default=RESULTS,
        help="results folder, as of run: its runs are read, its report/ is written "
        "(default: results)",
    )  # fmt: skip
    report.add_argument(
        "--readme", type=Path,
        help="publish: renew the generated parts of this README, and REPORT.md and figures/ of the "
        "results folder",
    )  # fmt: skip
    report.add_argument(
        "--format",
        type=formats,
        default=("html", "md"),
        help="html,md (the default; html comes with md), and csv or parquet: every case of every "
        "stored run in one table",
    )
    report.add_argument("--filter", help="only these cases: 'stage=step kernel=matmul batch=33'")
    report.add_argument(
        "--compare", action="store_true", help="of two runs: is the second faster, case by case?"
    )
    again = command("repeatability", "run several times over: do runs say the same?", _repeat)
    add_axes(again.add_argument, "smoke")
    again.set_defaults(default_grid="smoke")
    again.add_argument("--passes", type=count, default=5, help="of each run (default: 5)")
    again.add_argument("--runs", type=count, default=4, help="how many (default: 4)")
    again.add_argument("--out", type=Path, default=RESULTS / "repeatability", help="where to")
    again.add_argument(
        "--unsteady", action="store_true", help="leave the threads and the allocator as found"
    )
    gate = command("gate", "hold new code against old: is anything slower?", _gate)
    gate.add_argument("base", metavar="BASE", help="the old side: a revision, wheel or directory")
    gate.add_argument(
        "head", metavar="HEAD", nargs="?", help="the new side (default: the working tree)"
    )
    gate.epilog = (
        "Exit status: 0 no slow-down; 1 slower, more memory or operations, wrong, or gone; 2 could "
        "not measure, one line says why; 3 cannot tell; 4 the machine is too noisy. Python itself "
        "ends with 1 too where it finds no module bench: run it from the checkout."
    )
    add_axes(gate.add_argument, "smoke")
    gate.set_defaults(default_grid="smoke", device="cpu")
    gate.add_argument("--budget", type=duration, default=600.0, help="time for it (default: 10m)")
    gate.add_argument(
        "--tolerance", type=share, default=0.02, help="a slow-down that is let pass (default: 2%%)"
    )
    gate.add_argument(
        "--target", type=share, default=0.05, help="a slow-down that must be found (default: 5%%)"
    )
    gate.add_argument(
        "--allow", default="", help="kernels that may vanish, fail, or take more memory"
    )
    gate.add_argument("--thorough", action="store_true", help="more blocks for what is undecided")
    gate.add_argument("--base-python", metavar="PYTHON", help="interpreter of the old side")
    gate.add_argument("--head-python", metavar="PYTHON", help="interpreter of the new side")
    gate.add_argument(
        "--out", type=Path, default=ROOT / ".benchmarks" / "gate", help="where the verdict goes"
    )
    trials = command("gate-trials", "try the gate on code that is the same, or slowed", _trials)
    trials.add_argument(
        "kind",
        choices=("same", "loaded", "slow5", "slow10", "slow20", "all10", "mutants"),
        help="what to try",
    )
    trials.add_argument("--count", type=count, default=1, help="how many to add (default: 1)")
    trials.add_argument("--out", type=Path, default=RESULTS / "gate", help="where they are kept")
    rule = command("rule", "let `auto` take what runs found the fastest here", _rule)
    rule.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="stored runs (default: all of them)"
    )
    rule.description = (
        "Write down which kernel was the fastest of each case of stored runs, and how much work is "
        "worth another thread. mlr reads that from then on in every program of this user on this "
        "machine: `auto` follows it. It is written to ~/.config/mlr/rule.json "
        "($XDG_CONFIG_HOME/mlr/rule.json where that is set), or to the file that MLR_RULE names; "
        "remove the file to undo it."
    )
    rule.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="another file, which mlr reads if MLR_RULE names it",
    )
    rule.add_argument("--dry-run", action="store_true", help="print it and write nothing")
    curves = command("curves", "train until it fits: how long does each way take?", _curves)
    for name, least, text in (
        ("--rows", 10_000, "training rows"),
        ("--features", 6, "in features n"),
        ("--outputs", 3, "out features o"),
        ("--batch-size", 100, "rows of a mini-batch"),
    ):
        curves.add_argument(name, type=size, default=least, help=f"{text} (default: {least:,})")
    curves.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    curves.add_argument("--lr", type=above_zero, default=0.1, help="learning rate (default: 0.1)")
    curves.add_argument("--passes", type=count, default=5, help="fresh processes (default: 5)")
    curves.add_argument("--out", type=Path, default=RESULTS / "curves", help="where they are kept")
    scale = command("scale", "under torchrun: what do more workers bring?", _scale)
    add_axes(scale.add_argument, "scale")
    scale.set_defaults(default_grid="scale", device="cpu")
    mode = scale.add_mutually_exclusive_group()
    mode.add_argument("--strong", action="store_true", help="the same rows shared (the default)")
    mode.add_argument("--weak", action="store_true", help="as many rows for each worker")
    scale.add_argument("--rounds", type=count, default=30, help="of each slice (default: 30)")
    scale.add_argument("--timeout", type=duration, default=60.0, help="in a sum (default: 60s)")
    scale.add_argument("--out", type=Path, default=RESULTS / "scaling", help="where to")
    command("machine", "measure what this machine can do at best", _machine)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; a user's mistake is one line and 2."""
    arguments = make_parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        further = (
            "; `run --resume` with the same axes goes on" if arguments.command == "run" else ""
        )
        print(f"stopped{further}", file=sys.stderr)
        return 130
    return status


def _axes(arguments: argparse.Namespace) -> Axes:
    """Read the axes, and check them."""
    from ..plan.grid import Axes

    return Axes.parse(lambda name: getattr(arguments, name), arguments.default_grid)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _run(arguments: argparse.Namespace) -> int:
    from ..machine.lock import turn
    from ..plan.grid import PASSES, planned, require_supported
    from ..plan.split import part_of
    from ..run.runner import run_plan
    from ..store.runs import load_frame, load_run
    from .console import following, print_run

    axes = _axes(arguments)
    plan, told = part_of(planned(axes), axes, arguments.shard)
    require_supported(plan)
    with turn(_say), following(len(plan)) as show:
        path = run_plan(
            plan,
            axes,
            arguments.out,
            show,
            passes=arguments.passes or PASSES[axes.grid],
            resume=arguments.resume,
            shard=told,
        )
    frame = load_frame([path])
    print_run(frame, load_run(path).settings)
    print(path)
    return 1 if frame["status"].isin(["wrong", "crashed"]).any() else 0


def _plan(arguments: argparse.Namespace) -> int:
    from ..machine.info import absent, machine_slug
    from ..measure.benchmark import foretell
    from ..measure.ceilings import measure_ceilings
    from ..plan.grid import LONGEST_CALL_S, PASSES, planned
    from ..plan.split import part_of
    from ..store.runs import pace
    from .console import print_plan

    axes = _axes(arguments)
    plan, _ = part_of(planned(axes), axes, arguments.shard)
    longest = LONGEST_CALL_S[axes.grid]
    devices = {entry.case.device for entry in plan}
    ceilings = {d: measure_ceilings(d) for d in devices if absent(d) is None}
    told = [(e, foretell(e, ceilings.get(e.case.device), longest)) for e in plan]
    passes = arguments.passes or PASSES[axes.grid]
    print_plan(told, ceilings, passes, pace(RESULTS / "runs", machine_slug()))
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from . import report as reporting

    return reporting.run(arguments)


def _repeat(arguments: argparse.Namespace) -> int:
    from ..experiments.repeatability.experiment import (
        agreement,
        agreement_promise,
        repeat,
        write_proof,
    )
    from ..machine.info import machine_slug
    from .console import following, print_promises

    axes = _axes(arguments)
    with following(0) as show:
        proof = repeat(axes, arguments.runs, arguments.passes, show, steady=not arguments.unsteady)
    apart = agreement(axes)
    promises = [*proof.promises, agreement_promise(apart)]
    name = f"{machine_slug()}{'-unsteady' * arguments.unsteady}"
    print_promises(promises)
    print(write_proof(proof, apart, promises, arguments.out, name))
    return 0 if all(promise.kept for promise in promises) else 1


def _gate(arguments: argparse.Namespace) -> int:
    """Return the gate's exit status, 1 for a regression only: whatever else stops it is 2."""
    try:
        return _hold(arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"the gate could not measure: {in_one_line(error)} (at {raised_at(error)})"
        ) from error


def _hold(arguments: argparse.Namespace) -> int:
    from ..gate.config import kernel_rules, read_table, rule_of
    from ..gate.gate import Options, comparable, run_gate
    from ..gate.output import following, print_verdict, write_verdict
    from ..gate.versions import bring, of_kernel_file, scratch, take

    axes = _axes(arguments)
    rule = rule_of(arguments.tolerance, arguments.target)
    table = read_table(ROOT / "pyproject.toml")
    options = Options(
        rule=rule,
        rules=kernel_rules(table, rule),
        allowed=frozenset([*table.allow, *filter(None, arguments.allow.split(","))]),
        budget_s=arguments.budget,
        thorough=arguments.thorough,
        seed=axes.seed,
        pythons=_pythons(arguments),
        kernels=axes.kernel,
    )
    with scratch() as folder, following() as show:
        base = take(arguments.base, folder / "old", ROOT)
        head = take(arguments.head, folder / "new", ROOT)
        if axes.kernel_file is not None:
            base, head = bring(Path(axes.kernel_file), base, head, ROOT)
        for note in of_kernel_file(base, head):
            _say(note)
        verdict = run_gate(comparable(axes), base, head, options, show)
    print_verdict(verdict)
    for path in write_verdict(verdict, base, head, arguments.out):
        print(path)
    return verdict.code


def _pythons(arguments: argparse.Namespace) -> tuple[str, str] | None:
    """Return the interpreters of a gate over two environments, where one is named."""
    named = arguments.base_python, arguments.head_python
    return (named[0] or sys.executable, named[1] or sys.executable) if any(named) else None


def _trials(arguments: argparse.Namespace) -> int:
    from ..experiments.gate_power.analysis import (
        added_to,
        facts,
        more_needed,
        mutants_table,
        read_trials,
    )
    from ..experiments.gate_power.experiment import run_trials
    from ..experiments.gate_power.output import print_trials
    from ..gate.output import following

    with following() as show:
        path = run_trials(arguments.kind, arguments.count, arguments.out, show)
    known = read_trials(path)
    trials = added_to(known)
    said = [*facts(trials), f"{more_needed(trials)} more unchanged trials without a false alarm "
            "would bound their rate by 5 %"]  # fmt: skip
    print_trials(trials, mutants_table(known), said)
    print(path)
    return 0


def _rule(arguments: argparse.Namespace) -> int:
    from mlr.rule import rule_path

    from ..store.runs import find_runs
    from ..tune import effect, make_rule, write_rule

    rule = make_rule(arguments.runs or find_runs(RESULTS / "runs"))
    path = arguments.out or rule_path()
    threads = "threads were not tried, or did not pay"
    if rule.part_flops is not None:
        threads = f"a thread is worth its while from {rule.part_flops:,} operations on"
    told = f"{path}: the fastest kernel of {rule.cases} cases; {threads}"
    if arguments.dry_run:
        print(rule.text, end="")
        _say(f"{told}; nothing is written")
        return 0
    write_rule(rule, path)
    print(told)
    print(effect(path))
    return 0


def _curves(arguments: argparse.Namespace) -> int:
    from ..convergence.records import curves_table, load_curves
    from ..convergence.run import measure_curves
    from ..convergence.worker import Wanted
    from .console import doing, print_curves

    named = ("rows", "features", "outputs", "dtype", "lr", "batch_size")
    wanted = Wanted(**{name: getattr(arguments, name) for name in named})
    with doing() as show:
        path = measure_curves(wanted, arguments.passes, arguments.out, show)
    print_curves(curves_table(load_curves(path)))
    print(path)
    return 0


def _scale(arguments: argparse.Namespace) -> int:
    import os
    from contextlib import nullcontext

    from ..machine.environment import STEADY, environment

    if "RANK" in os.environ and STEADY.keys() - os.environ.keys():
        again = [sys.executable, "-m", "bench", *sys.argv[1:]]
        os.execve(sys.executable, again, environment(os.environ))  # the allocator reads it at start

    from mlr.distributed import WorkerError, join

    from ..machine.lock import turn
    from ..plan.grid import cases
    from ..scaling.measure import DEFAULT_KERNELS, measure_scaling
    from .console import doing

    axes = _axes(arguments)
    if axes.device not in (("cpu",), ("cuda",)):
        raise UserError(f"scale takes --device cpu or cuda; got {arguments.device}")
    wanted = cases(replace(axes, stage=("gradient",)))
    mode, rank = "weak" if arguments.weak else "strong", os.environ.get("RANK", "0")
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of this machine: it takes the turn for all
    try:
        with (
            turn(_say) if first else nullcontext(),
            join(axes.device[0], timeout_s=arguments.timeout) as workers,
        ):
            quiet = nullcontext(lambda _: None)
            with doing() if workers.rank == 0 else quiet as show:
                kernels = axes.kernel or DEFAULT_KERNELS
                path = measure_scaling(
                    workers, wanted, kernels, mode, arguments.rounds, arguments.out, show
                )
    except (WorkerError, ValueError) as error:
        raise UserError(f"rank {rank}: {error}; what was measured is stored") from error
    if path is not None:
        print(path)
    return 0


def _machine(arguments: argparse.Namespace) -> int:
    from .console import print_machine

    print_machine()
    return 0
