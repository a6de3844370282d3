"""Strong and weak scaling: one step over the workers of torchrun, beside DDP and one process.

Every worker runs this; worker 0 alone holds results against the oracle, stores and shows.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from pytest_benchmark.utils import get_commit_info

from mlr import Case, Gradient, LinearRegression, Problem, check, get_kernel
from mlr.case import DTYPES, LEARNING_RATE
from mlr.distributed import SyntheticRows, Workers, make_step
from mlr.distributed.steps import DDPStep, Step
from mlr.oracle import checked_calls

from ..common.errors import UserError
from ..common.garbage import gc_paused
from ..machine.info import machine_info, machine_slug, packages
from ..measure.timing import repeats_of, time_batch, time_parts, warm_up
from ..store.files import store_model
from .allreduce import SIZES, split_calls, sweep_all_reduces
from .metrics import Sample, times_by_round
from .records import DDP, PEERS, AllReducePoint, Mode, ScalingResult, ScalingRun

DEFAULT_KERNELS = ("matmul", "one_pass")
SLICE_S = 0.005
SWEEPS = 3  # of all-reduces by themselves, after each case

Piece = tuple[torch.Tensor, torch.Tensor]


class Plan(NamedTuple):
    """What to measure.

    Attributes:
        cases: Of operation gradient; in weak scaling their batch is that of one worker.
        kernels: Of operation gradient.
        mode: `strong` or `weak`.
        rounds: How often each slice is measured.
    """

    cases: Sequence[Case]
    kernels: Sequence[str]
    mode: Mode
    rounds: int


class Rows(NamedTuple):
    """The rows of a case: how many all workers have, this worker's, and all of them on worker 0."""

    total: int
    mine: Piece
    all: Piece | None


@dataclass
class Candidate:
    """One way of taking the step of a case.

    Attributes:
        name: A kernel's, or a peer's.
        step: Its step over the workers.
        call: Takes one.
        parts: What it consists of: compute, all-reduce, apply; of DDP's the first two are one.
        single: Takes one in a single process, on worker 0; None on the others.
        repeats: Steps of a slice.
    """

    name: str
    step: Step
    call: Callable[[], None]
    parts: Sequence[Callable[[], None]]
    single: Callable[[], None] | None
    repeats: int = 1


def measure_scaling(
    workers: Workers, plan: Plan, out: Path, show: Callable[[str], None]
) -> Path | None:
    """Measure every case, and on worker 0 store what is known after each; return where.

    Args:
        workers: All of the job.
        plan: What to measure.
        out: The folder of scaling runs; the file goes below it by machine.
        show: Called with what is being done, on worker 0.

    Raises:
        WorkerError: A worker failed; what was measured before is stored.
        UserError: There is one worker alone, or the file cannot be written.
    """
    if workers.world == 1:
        raise UserError(
            "scaling needs workers: python -m torch.distributed.run --nproc-per-node=2 -m bench "
            "scaling"
        )
    workers.assert_equal(**plan._asdict())
    run = _run_without_results(workers, plan)
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{run.commit_info.id[:8]}"
    path = out / run.machine / f"{stamp}-{plan.mode}.json"
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    for place, case in enumerate(plan.cases, 1):
        if workers.rank == 0:
            show(f"{case.id}, {place} of {len(plan.cases)}")
        run.results.extend(_measure_case(workers, plan, case))
        sweep = sweep_all_reduces(workers, SWEEPS, case.seed + place)
        for size, times in times_by_round(workers.all_gather_object(sweep)).items():
            seconds[int(size)] += times["allreduce_s"]
        run.settings["complete"] = place == len(plan.cases)
        if workers.rank == 0:
            points = [AllReducePoint(bytes=size, seconds=some) for size, some in seconds.items()]
            run.all_reduces[:] = points
            store_model(path, run, ScalingRun, "a scaling run")
    return path if workers.rank == 0 else None


def _run_without_results(workers: Workers, plan: Plan) -> ScalingRun:
    commit = {"id": "nogit", "dirty": False} | get_commit_info()
    here = {
        "rank": workers.rank, "machine": machine_slug(), "host": socket.gethostname(),
        "cores": machine_info()["cores"], "threads": torch.get_num_threads(),
    }  # fmt: skip
    return ScalingRun.model_validate({
        "schema": 2,
        "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit_info": {key: commit[key] for key in ("id", "dirty")},
        "machine": machine_slug(),
        "mode": plan.mode,
        "world": workers.world,
        "settings": {
            "rounds": plan.rounds, "threads": torch.get_num_threads(), "slice_s": SLICE_S,
            "backend": dist.get_backend(), "cases": len(plan.cases), "complete": False,
        },
        "packages": packages(),
        "ranks": workers.all_gather_object(here),
        "results": [],
        "all_reduces": [],
    })  # fmt: skip


def _measure_case(workers: Workers, plan: Plan, case: Case) -> list[ScalingResult]:
    """Verify and time every candidate of a case; return the results, the same on each worker."""
    rows = _draw_rows(workers, case, plan.mode)
    outcomes: dict[str, dict[str, Any]] = {}
    ready = []
    for name in (*plan.kernels, *PEERS):
        reason = None if name in PEERS else get_kernel(name).unsupported(case)
        if reason is not None:
            outcomes[name] = {"status": "unsupported", "reason": reason}
            continue
        one = _candidate(workers, name, case, rows, plan.mode)
        outcomes[name] = workers.all_gather_object(_verify(one, case, rows))[0]
        outcomes[name]["message_bytes"] = one.step.message_bytes
        if outcomes[name]["status"] == "ok":
            ready.append(one)
    samples = _time(workers, ready, plan.rounds, case.seed)
    times = times_by_round(workers.all_gather_object(samples))
    return [
        ScalingResult(
            kernel=name, dtype=case.dtype, batch=rows.total, in_features=case.in_features,
            out_features=case.out_features, **outcome, **times.get(name, {}),
        )
        for name, outcome in outcomes.items()
    ]  # fmt: skip


def _draw_rows(workers: Workers, case: Case, mode: Mode) -> Rows:
    total = case.batch * (workers.world if mode == "weak" else 1)

    def draw(of: Workers) -> Piece:
        sizes = total, case.in_features, case.out_features
        return next(SyntheticRows(of, *sizes, seed=case.seed, dtype=case.dtype).pieces(0))

    return Rows(total, draw(workers), draw(_single(workers)) if workers.rank == 0 else None)


def _single(workers: Workers) -> Workers:
    """Return one worker alone, on the device of this one."""
    return Workers(0, 1, workers.device, workers.timeout_s, None)


def _candidate(workers: Workers, name: str, case: Case, rows: Rows, mode: Mode) -> Candidate:
    def make(of: Workers) -> Step:
        model = LinearRegression(
            case.in_features, case.out_features, kernel="matmul" if name in PEERS else name,
            device=of.device, dtype=DTYPES[case.dtype],
            generator=torch.Generator().manual_seed(case.seed),
        )  # fmt: skip
        return make_step(of, model, LEARNING_RATE, name if name in PEERS else "kernel")

    step, single = make(workers), None
    parts = _parts(step, rows.total, rows.mine)
    if rows.all is not None:
        x, y = rows.mine if mode == "weak" else rows.all
        single = _in_a_row(_parts(make(_single(workers)), len(x), (x, y)))
    return Candidate(name, step, _in_a_row(parts), parts, single)


def _parts(step: Step, total: int, rows: Piece) -> Sequence[Callable[[], None]]:
    pieces = [rows]

    def compute() -> None:
        step.forget()
        step.compute(total, pieces)

    # DDP sums gradients by itself; the loss of all rows, which ours has in the same sum, would cost
    # it another, so it goes without.
    if isinstance(step, DDPStep):
        return compute, step.apply
    return compute, step.exchange, step.apply


def _in_a_row(parts: Sequence[Callable[[], None]]) -> Callable[[], None]:
    def call() -> None:
        for part in parts:
            part()

    return call


def _verify(one: Candidate, case: Case, rows: Rows) -> dict[str, Any]:
    """Take a few steps and hold the parameters against the oracle; worker 0 has the answer."""
    sizes = rows.total, case.in_features, case.out_features
    steps = Case("step", case.device, case.dtype, *sizes, case.seed)
    model = one.step.model
    if rows.all is None:
        for _ in range(checked_calls(steps)):
            one.call()
        return {}
    problem = Problem(steps)
    problem.lr = LEARNING_RATE
    x, y = rows.all
    start = Gradient(model.w.clone(), model.b.clone())
    problem.__dict__.update(x=x, y=y, weight=model.w, bias=model.b, start=start)
    outcome = check(get_kernel("matmul_update"), problem, one.call)
    if not outcome.ok:
        return {"status": "wrong", "reason": outcome.reason}
    return {"status": "ok", "max_rel_error": outcome.error}


def _time(
    workers: Workers, candidates: Sequence[Candidate], rounds: int, seed: int
) -> list[Sample]:
    """Measure every candidate in every round, in an order that is the same on all workers."""
    ddp = next((one for one in candidates if one.name == DDP), None)
    for one in candidates:
        seconds = warm_up(one.call, workers.device.type, 0.0)
        about = torch.tensor([seconds], dtype=torch.float64, device=workers.device)
        workers.broadcast(about)
        one.repeats = repeats_of(about.item(), SLICE_S)
    order = random.Random(seed)
    samples: list[Sample] = []
    with gc_paused():
        for number in range(rounds):
            for one in order.sample(list(candidates), len(candidates)):
                turns = [("step", one), ("ddp", ddp)] if ddp and one is not ddp else [("step", one)]
                order.shuffle(turns)
                for part, turn in turns + turns[::-1]:  # a drift over the four slices cancels
                    samples.append((one.name, number, part, [_time_steps(workers, turn)]))
                samples += _time_parts(workers, one, number)
                samples += _time_single(workers, one, number)
    return samples


def _time_steps(workers: Workers, one: Candidate) -> float:
    workers.barrier()
    # As many steps before, not timed, pay for the caches that another candidate has filled.
    return time_batch(one.call, one.repeats, workers.device.type, warmup_calls=one.repeats).seconds


def _time_parts(workers: Workers, one: Candidate, number: int) -> Iterator[Sample]:
    """Time the parts of steps, in two slices as the steps themselves; not of DDP, whose overlap."""
    if one.name == DDP:
        return
    calls = []
    for _ in range(2):
        workers.barrier()
        calls += time_parts(one.parts, 2 * one.repeats, workers.device.type)[one.repeats :]
    yield from split_calls(one.name, number, calls)


def _time_single(workers: Workers, one: Candidate, number: int) -> Iterator[Sample]:
    """Let worker 0 take steps of its own, while the others wait."""
    if one.single is not None:
        device = workers.device.type
        repeats = repeats_of(warm_up(one.single, device, 0.0), SLICE_S)
        seconds = time_batch(one.single, repeats, device, warmup_calls=repeats).seconds
        yield one.name, number, "single", [seconds]
    workers.barrier()
