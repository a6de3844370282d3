"""Strong and weak scaling: one step over the workers of torchrun, beside DDP and one process.

Every worker runs this; worker 0 alone holds results against the oracle, stores and shows.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
from ..common.provenance import Provenance
from ..machine.info import machine_info, machine_slug, packages
from ..measure.timing import repeats_of, time_batch, time_parts, warm_up
from ..store.files import store_model
from .metrics import Sample, times_by_round
from .records import DDP, PEERS, AllReducePoint, Mode, ScalingResult, ScalingRun

DEFAULT_KERNELS = ("matmul", "one_pass")
SLICE_S = 0.005
SWEEPS = 3  # of all-reduces by themselves, after each case
SIZES = tuple(64 * 2**power for power in range(17))  # bytes: 64 B to 4 MiB
WORK_SHAPE = 2_000, 64  # of the product before each: some 0.2 ms
CALLS = 8  # timed at once

Piece = tuple[torch.Tensor, torch.Tensor]
Call = Callable[[], None]


class Plan(NamedTuple):
    """What to measure, of operation gradient."""

    cases: Sequence[Case]  # in weak scaling their batch is that of one worker
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
    """A kernel's or a peer's way of taking the step of a case."""

    name: str
    step: Step
    call: Call
    parts: Sequence[Call]  # compute, all-reduce, apply; of DDP's the first two are one
    single: Call | None  # in a single process, on worker 0; None on the others
    repeats: int = 1  # steps of a slice


def measure_scaling(
    workers: Workers, plan: Plan, out: Path, show: Callable[[str], None]
) -> Path | None:
    """Measure every case, and on worker 0 store what is known after each; return where.

    A worker that fails raises a `WorkerError`; what was measured before is stored.
    """
    if workers.world == 1:
        raise UserError(
            "scaling needs workers: python -m torch.distributed.run --nproc-per-node=2 "
            "-m bench scaling"
        )
    workers.assert_equal(**plan._asdict())
    now = Provenance.of(get_commit_info())
    run = _run_without_results(workers, plan, now)
    path = out / run.machine / f"{now.file_stem(plan.mode)}.json"
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    for place, case in enumerate(plan.cases, 1):
        if workers.rank == 0:
            show(f"{case.id}, {place} of {len(plan.cases)}")
        run.results.extend(_measure_case(workers, plan, case))
        sweep = _sweep_all_reduces(workers, case.seed + place)
        for size, times in times_by_round(workers.all_gather_object(sweep)).items():
            seconds[int(size)] += times["allreduce_s"]
        run.settings["complete"] = place == len(plan.cases)
        if workers.rank == 0:
            points = [AllReducePoint(bytes=size, seconds=some) for size, some in seconds.items()]
            run.all_reduces[:] = points
            store_model(path, run, ScalingRun, "a scaling run")
    return path if workers.rank == 0 else None


def _run_without_results(workers: Workers, plan: Plan, now: Provenance) -> ScalingRun:
    here = {
        "rank": workers.rank, "machine": machine_slug(), "host": socket.gethostname(),
        "cores": machine_info()["cores"], "threads": torch.get_num_threads(),
    }  # fmt: skip
    return ScalingRun.model_validate({
        "schema": 2,
        "datetime": now.at.isoformat(timespec="seconds"),
        "commit_info": {"id": now.commit, "dirty": now.dirty},
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


def _parts(step: Step, total: int, rows: Piece) -> Sequence[Call]:
    pieces = [rows]

    def compute() -> None:
        step.forget()
        step.compute(total, pieces)

    # DDP sums gradients by itself; the loss of all rows, which ours has in the same sum, would cost
    # it another, so it goes without.
    if isinstance(step, DDPStep):
        return compute, step.apply
    return compute, step.exchange, step.apply


def _in_a_row(parts: Sequence[Call]) -> Call:
    def call() -> None:
        for part in parts:
            part()

    return call


def _verify(one: Candidate, case: Case, rows: Rows) -> dict[str, Any]:
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
    if one.name == DDP:
        return
    calls = []
    for _ in range(2):
        workers.barrier()
        calls += time_parts(one.parts, 2 * one.repeats, workers.device.type)[one.repeats :]
    yield from _split_calls(one.name, number, calls)


def _time_single(workers: Workers, one: Candidate, number: int) -> Iterator[Sample]:
    if one.single is not None:
        device = workers.device.type
        repeats = repeats_of(warm_up(one.single, device, 0.0), SLICE_S)
        seconds = time_batch(one.single, repeats, device, warmup_calls=repeats).seconds
        yield one.name, number, "single", [seconds]
    workers.barrier()


def _sweep_all_reduces(workers: Workers, seed: int) -> list[Sample]:
    """Measure all-reduces of every size in every round, each after a product, as in a step.

    The candidate of a sample is its size in bytes.
    """
    work = torch.ones(WORK_SHAPE, device=workers.device)
    order = random.Random(seed)
    samples: list[Sample] = []
    for number in range(SWEEPS):
        for size in order.sample(SIZES, len(SIZES)):
            values = torch.zeros(size // 8, dtype=torch.float64, device=workers.device)
            parts = partial(torch.mm, work.T, work), partial(workers.all_reduce, values)
            workers.barrier()
            # The first calls, which do not count, pay for the caches that another size has filled.
            calls = time_parts(parts, 2 * CALLS, workers.device.type)[CALLS:]
            samples += _split_calls(str(size), number, calls)
    return samples


def _split_calls(candidate: str, number: int, calls: list[list[float]]) -> list[Sample]:
    # the second part of each is the all-reduce
    whole = [sum(parts) for parts in calls]
    compute = [total - parts[1] for total, parts in zip(whole, calls, strict=True)]
    return [(candidate, number, "compute", compute), (candidate, number, "whole", whole)]
