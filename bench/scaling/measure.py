"""Strong and weak scaling: one step over the workers of torchrun, beside DDP and one process.

Every worker runs this; worker 0 alone holds results against the oracle, stores and shows.
"""

import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.distributed as dist

from mlr import Case, Gradient, LinearRegression, Problem, check, check_on_other_inputs, get_kernel
from mlr.case import DTYPES, LEARNING_RATE
from mlr.distributed import SyntheticRows, Workers, make_step
from mlr.distributed.sharding import Piece
from mlr.distributed.steps import DDPStep, Step
from mlr.operations import GRADIENT, STEP
from mlr.oracle import checked_calls

from ..common.errors import UserError
from ..common.garbage import gc_paused
from ..common.paths import PACKAGE
from ..machine.devices import Call
from ..machine.info import machine_info, machine_slug, packages
from ..measure.timing import repeats_in_a_row, time_batch, time_parts, warm_up
from .metrics import Sample, times_by_round
from .records import DDP, PEERS, AllReducePoint, Mode, ScalingResult, ScalingRun

DEFAULT_KERNELS = ("matmul", "one_pass")
SLICE_S = 0.005
SWEEPS = 3  # of all-reduces by themselves, after each case
SIZES = tuple(64 * 2**power for power in range(17))  # bytes: 64 B to 4 MiB
WORK_SHAPE = 2_000, 64  # of the product before each: some 0.2 ms
CALLS = 8  # timed at once


class Plan(NamedTuple):
    """What to measure, of operation gradient."""

    cases: Sequence[Case]  # in weak scaling their batch is that of one worker
    kernels: Sequence[str]
    mode: Mode
    rounds: int


@dataclass
class Candidate:
    """A kernel's or a peer's way of taking the step of a case, over some workers."""

    name: str
    step: Step
    parts: Sequence[Call]  # compute, all-reduce, apply; of DDP's the first two are one
    single: Self | None = None  # in a single process, on worker 0
    repeats: int = 1  # steps of a slice

    def call(self) -> None:
        """Take one step."""
        for part in self.parts:
            part()


def measure_scaling(
    workers: Workers, plan: Plan, out: Path, show: Callable[[str], None]
) -> Path | None:
    """Measure every case, and on worker 0 store what is known after each; return where.

    A worker that fails raises a `WorkerError`; what was measured before is stored.
    """
    if workers.world == 1:
        raise UserError(
            "scaling needs workers: python -m torch.distributed.run --nproc-per-node=2 "
            f"-m {PACKAGE} scaling"
        )
    workers.assert_equal(**plan._asdict())
    run = _run_without_results(workers, plan)
    path = None
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    for place, case in enumerate(plan.cases, 1):
        show(f"{case.id}, {place} of {len(plan.cases)}")
        run.results.extend(_measure_case(workers, plan, case))
        sweep = _sweep_all_reduces(workers, case.seed + place)
        for size, times in times_by_round(workers.all_gather_object(sweep)).items():
            seconds[int(size)] += times["allreduce_s"]
        run.settings["complete"] = place == len(plan.cases)
        if workers.rank == 0:
            points = [AllReducePoint(bytes=size, seconds=some) for size, some in seconds.items()]
            run.all_reduces[:] = points
            path = run.store(out, plan.mode)
    return path


def _run_without_results(workers: Workers, plan: Plan) -> ScalingRun:
    machine, threads = machine_slug(), torch.get_num_threads()
    here = {
        "rank": workers.rank, "machine": machine, "host": socket.gethostname(),
        "cores": machine_info()["cores"], "threads": threads,
    }  # fmt: skip
    return ScalingRun.of(
        machine=machine, mode=plan.mode, world=workers.world,
        settings={
            "rounds": plan.rounds, "threads": threads, "slice_s": SLICE_S,
            "backend": dist.get_backend(), "cases": len(plan.cases), "complete": False,
        },
        packages=packages(), ranks=workers.all_gather_object(here), results=[], all_reduces=[],
    )  # fmt: skip


def _measure_case(workers: Workers, plan: Plan, case: Case) -> list[ScalingResult]:
    weak, alone = plan.mode == "weak", _alone(workers)
    whole = _with_rows(case, STEP.name, case.batch * (workers.world if weak else 1))
    rows = _draw_rows(workers, whole)
    every = _draw_rows(alone, whole) if workers.rank == 0 else None
    outcomes: dict[str, dict[str, Any]] = {}
    ready = []
    for name in (*plan.kernels, *PEERS):
        reason = None if name in PEERS else get_kernel(name).unsupported(case)
        if reason is not None:
            outcomes[name] = {"status": "unsupported", "reason": reason}
            continue
        one = _candidate(workers, name, whole, rows)
        if every is not None:
            one.single = _candidate(alone, name, case, rows if weak else every)
        outcomes[name] = workers.all_gather_object(_verify(one, whole, len(rows[0]), every))[0]
        outcomes[name]["message_bytes"] = one.step.message_bytes
        if outcomes[name]["status"] == "ok":
            ready.append(one)
    samples = _time(workers, ready, plan.rounds, case.seed)
    times = times_by_round(workers.all_gather_object(samples))
    return [
        ScalingResult(
            kernel=name, dtype=case.dtype, batch=whole.batch, in_features=case.in_features,
            out_features=case.out_features, **outcome, **times.get(name, {}),
        )
        for name, outcome in outcomes.items()
    ]  # fmt: skip


def _alone(workers: Workers) -> Workers:
    """Return this worker as the only one."""
    return Workers(0, 1, workers.device, workers.timeout_s, None)


def _with_rows(case: Case, operation: str, rows: int) -> Case:
    return replace(case, operation=operation, sizes=(rows, *case.sizes[1:]))


def _draw_rows(workers: Workers, case: Case) -> Piece:
    return next(SyntheticRows(workers, *case.sizes, seed=case.seed, dtype=case.dtype).pieces(0))


def _candidate(workers: Workers, name: str, case: Case, rows: Piece) -> Candidate:
    model = LinearRegression(
        case.in_features, case.out_features, kernel="matmul" if name in PEERS else name,
        device=workers.device, dtype=DTYPES[case.dtype],
        generator=torch.Generator().manual_seed(case.seed),
    )  # fmt: skip
    step = make_step(workers, model, LEARNING_RATE, name if name in PEERS else "kernel")

    def compute() -> None:
        step.forget()
        step.compute(case.batch, [rows])

    # DDP sums gradients by itself; the loss of all rows, which ours has in the same sum, would cost
    # it another, so it goes without.
    exchange = () if isinstance(step, DDPStep) else (step.exchange,)
    return Candidate(name, step, (compute, *exchange, step.apply))


def _verify(one: Candidate, case: Case, rows: int, every: Piece | None) -> dict[str, Any]:
    if every is None:
        for _ in range(checked_calls(case)):
            one.call()
        return {}
    problem, model, (x, y) = Problem(case), one.step.model, every
    problem.lr = LEARNING_RATE
    start = Gradient(model.w.clone(), model.b.clone())
    problem.__dict__.update(x=x, y=y, weight=model.w, bias=model.b, start=start)
    outcome = check(get_kernel("matmul_update"), problem, one.call)
    reason = outcome.reason
    if reason is None and one.name not in PEERS:  # and by itself, on inputs that only it can have
        kernel, own = get_kernel(one.name), Problem(_with_rows(case, GRADIENT.name, rows))
        reason = check_on_other_inputs(kernel, own, kernel.bind(own), case.seed + 1).reason
    if reason is not None:
        return {"status": "wrong", "reason": reason}
    return {"status": "ok", "max_rel_error": outcome.error}


def _time(
    workers: Workers, candidates: Sequence[Candidate], rounds: int, seed: int
) -> list[Sample]:
    ddp = next((one for one in candidates if one.name == DDP), None)
    alone = _alone(workers)
    for one in candidates:
        one.repeats = _calls_of_a_slice(workers, one.call)
    order = random.Random(seed)
    samples: list[Sample] = []
    with gc_paused():
        for number in range(rounds):
            for one in order.sample(list(candidates), len(candidates)):
                turns = [("step", one), ("ddp", ddp)] if ddp and one is not ddp else [("step", one)]
                order.shuffle(turns)
                for part, turn in turns + turns[::-1]:  # a drift over the four slices cancels
                    workers.barrier()
                    seconds = _time_calls(workers, turn.call, turn.repeats)
                    samples.append((one.name, number, part, [seconds]))
                for _ in range(0 if one is ddp else 2):
                    samples += _time_parts(workers, one.name, number, one.parts, one.repeats)
                if one.single is not None:
                    repeats = _calls_of_a_slice(alone, one.single.call)
                    seconds = _time_calls(workers, one.single.call, repeats)
                    samples.append((one.name, number, "single", [seconds]))
                workers.barrier()
    return samples


def _calls_of_a_slice(workers: Workers, call: Call) -> int:
    """Return how many calls fill a slice: as many on every worker, by what worker 0 measures."""
    device = workers.device.type
    about_s = workers.all_gather_object(warm_up(call, device, 0.0))[0]
    found: list[int] = workers.all_gather_object(repeats_in_a_row(call, about_s, device, SLICE_S))
    return found[0]


def _time_calls(workers: Workers, call: Call, repeats: int) -> float:
    # As many calls before, not timed, pay for the caches that another candidate has filled.
    return time_batch(call, repeats, workers.device.type, warmup_calls=repeats).seconds


def _time_parts(
    workers: Workers, name: str, number: int, parts: Sequence[Call], repeats: int
) -> list[Sample]:
    workers.barrier()
    # The first calls, which do not count, pay for the caches that another candidate has filled.
    calls = time_parts(parts, 2 * repeats, workers.device.type)[repeats:]
    whole = [sum(times) for times in calls]
    # the second part of each is the all-reduce
    compute = [total - times[1] for total, times in zip(whole, calls, strict=True)]
    return [(name, number, "compute", compute), (name, number, "whole", whole)]


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
            samples += _time_parts(workers, str(size), number, parts, CALLS)
    return samples
