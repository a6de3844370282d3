"""Strong and weak scaling: one step over the workers of torchrun, beside DDP and one process.

Every worker runs this; worker 0 alone holds results against the oracle, stores and shows.
"""

from __future__ import annotations

import math
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pytest_benchmark.utils import get_commit_info

from mlr import Case, Gradient, LinearRegression, Problem, check, get_kernel
from mlr.case import DTYPES, LEARNING_RATE
from mlr.distributed import Made, Workers, make_step
from mlr.distributed.fitting import DDPStep, Step
from mlr.oracle import checked_steps

from ..common.errors import UserError
from ..common.garbage import gc_paused
from ..machine.info import machine_info, machine_slug, packages
from ..measure.timing import repeats_of, time_batch, time_parts, warm_up
from ..store.records import store_record
from .allreduce import Sums, beyond

DEFAULT_KERNELS = ("matmul", "one_pass")
PEERS = ("ddp", "statistics")
SLICE_S = 0.005
SUM_ROUNDS = 3  # of all kinds of sums by themselves, for each round of all cases


@dataclass
class Contestant:
    """One way of taking the step of a case, with what its slices took here.

    Attributes:
        name: A kernel's, or a peer's.
        step: Its step over the workers.
        call: Takes one.
        alone: Takes one in this process alone, on worker 0; None elsewhere.
    """

    name: str
    step: Step
    call: Callable[[], None]
    alone: Callable[[], None] | None
    parts: Sequence[Callable[[], None]]
    repeats: int = 1
    step_s: list[float] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    split_s: list[list[list[float]]] = field(default_factory=list)  # by round, step and part
    quads: list[list[float]] = field(default_factory=list)  # its slices, then DDP's beside them


def measure_scaling(
    workers: Workers,
    cases: Sequence[Case],
    kernels: Sequence[str],
    mode: str,
    rounds: int,
    out: Path,
    show: Callable[[str], None],
) -> Path | None:
    """Measure every case, and on worker 0 store what is known after each; return where.

    Args:
        workers: All of the job.
        cases: Of stage gradient; in weak scaling their batch is that of one worker.
        kernels: Of stage gradient.
        mode: `strong` or `weak`.
        rounds: How often each slice is taken.
        out: The folder of scaling runs; the file goes below it by machine.
        show: Called with what is being done, on worker 0.

    Raises:
        WorkerError: A worker failed; what was measured before is stored.
        UserError: There is one worker alone, or the file cannot be written.
    """
    if workers.world == 1:
        raise UserError(
            "scaling needs workers: python -m torch.distributed.run --nproc-per-node=2 -m bench "
            "scale"
        )
    workers.agree(
        cases=[case.id for case in cases], kernels=list(kernels), mode=mode, rounds=rounds
    )
    found = _head(workers, mode, rounds, len(cases))
    now = datetime.now(UTC)
    name = f"{now:%Y%m%dT%H%M%SZ}-{found['commit_info']['id'][:8]}-{mode}.json"
    path = out / str(found["machine"]) / name
    sums = Sums(workers, cases[0].seed)
    for place, case in enumerate(cases, 1):
        if workers.rank == 0:
            show(f"{case.id}, {place} of {len(cases)}")
        takings = len(cases) * (len(kernels) + len(PEERS))  # of sums, in a round of all cases
        found["scaled"] += _case(
            workers, case, kernels, mode, rounds,
            partial(sums.take, -(-SUM_ROUNDS * len(sums.kinds) // takings)),
        )  # fmt: skip
        sums.gather()
        if workers.rank == 0:
            store_record(path, found, "scaling runs")
    sums.take(len(sums.kinds))  # each has been taken then, whatever became of the cases
    sums.gather()
    found["exchanges"] = sums.stored()
    found["settings"]["complete"] = True
    return store_record(path, found, "scaling runs") if workers.rank == 0 else None


def _head(workers: Workers, mode: str, rounds: int, cases: int) -> dict[str, Any]:
    commit = {"id": "nogit", "dirty": False} | get_commit_info()
    here = {
        "rank": workers.rank, "machine": machine_slug(), "host": socket.gethostname(),
        "cores": machine_info()["cores"], "threads": torch.get_num_threads(),
    }  # fmt: skip
    return {
        "schema": 1,
        "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit_info": {key: commit[key] for key in ("id", "dirty")},
        "machine": machine_slug(),
        "mode": mode,
        "world": workers.world,
        "settings": {
            "rounds": rounds, "threads": torch.get_num_threads(), "slice_s": SLICE_S,
            "backend": dist.get_backend(), "cases": cases, "complete": False,
        },
        "packages": packages(),
        "ranks": workers.tell(here),
        "scaled": [],
        "exchanges": [],
    }  # fmt: skip


def _case(
    workers: Workers,
    case: Case,
    kernels: Sequence[str],
    mode: str,
    rounds: int,
    between: Callable[[], None],
) -> list[dict[str, Any]]:
    """Check and time every contestant of a case; return their accounts, the same on each worker."""
    total = case.batch * (workers.world if mode == "weak" else 1)
    sizes = case.in_features, case.out_features
    rows = Made(workers, total, *sizes, seed=case.seed, dtype=case.dtype)
    mine = next(rows.pieces(0))
    whole = _rows_of_all(workers, rows) if workers.rank == 0 else None
    ready, accounts = [], []
    for name in (*kernels, *PEERS):
        account = _account(name, case, total)
        accounts.append(account)
        if reason := _unsupported(name, case):
            account |= {"status": "unsupported", "reason": reason}
            continue
        one = _contestant(workers, name, case, mine, total, whole, mode)
        told = workers.tell(_checked(workers, one, case, whole, total))
        result: Any = told[0]
        account |= result
        account["message_bytes"] = one.step.message_bytes
        if account["status"] == "ok":
            ready.append((one, account))
    _time(workers, [one for one, _ in ready], rounds, case.seed, between)
    for one, account in ready:
        account |= _joined(workers, one)
    return accounts


def _account(name: str, case: Case, total: int) -> dict[str, Any]:
    return {
        "kernel": name, "dtype": case.dtype, "batch": total, "in_features": case.in_features,
        "out_features": case.out_features, "status": "ok", "reason": None, "max_rel_error": None,
        "message_bytes": 1, "step_s": [], "alone_s": [], "compute_s": [], "slowest_s": [],
        "exchange_s": [], "ddp_log_ratios": [],
    }  # fmt: skip


def _unsupported(name: str, case: Case) -> str | None:
    return None if name in PEERS else get_kernel(name).unsupported(case)


def _rows_of_all(workers: Workers, rows: Made) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = rows.rows, rows.features, rows.outputs
    return next(Made(_alone_like(workers), *sizes, seed=rows.seed, dtype=rows.dtype).pieces(0))


def _alone_like(workers: Workers) -> Workers:
    """Return one worker alone, on the device of this one."""
    return Workers(0, 1, workers.device, workers.timeout_s, None)


def _contestant(
    workers: Workers,
    name: str,
    case: Case,
    mine: tuple[torch.Tensor, torch.Tensor],
    total: int,
    whole: tuple[torch.Tensor, torch.Tensor] | None,
    mode: str,
) -> Contestant:
    method = name if name in PEERS else "kernel"
    kernel = "matmul" if name in PEERS else name
    step = make_step(workers, _model(case, kernel, workers), LEARNING_RATE, method)
    alone = None
    if whole is not None:
        single = make_step(
            _alone_like(workers), _model(case, kernel, workers), LEARNING_RATE, method
        )
        x, y = mine if mode == "weak" else whole
        alone = _call(single, len(x), (x, y))
    return Contestant(name, step, _call(step, total, mine), alone, _parts(step, total, mine))


def _model(case: Case, kernel: str, workers: Workers) -> LinearRegression:
    return LinearRegression(
        case.in_features, case.out_features, kernel=kernel, device=workers.device,
        dtype=DTYPES[case.dtype], generator=torch.Generator().manual_seed(case.seed),
    )  # fmt: skip


def _call(step: Step, total: int, rows: tuple[torch.Tensor, torch.Tensor]) -> Callable[[], None]:
    pieces = [rows]

    def whole() -> None:
        step.forget()
        step(total, pieces)

    def without_loss() -> None:
        step.compute(total, pieces)
        step.apply()

    # DDP sums gradients by itself; the loss of all rows, which ours has in the same sum, would cost
    # it another, so it goes without.
    return without_loss if isinstance(step, DDPStep) else whole


def _parts(
    step: Step, total: int, rows: tuple[torch.Tensor, torch.Tensor]
) -> Sequence[Callable[[], None]]:
    pieces = [rows]

    def compute() -> None:
        step.forget()
        step.compute(total, pieces)

    return compute, step.exchange, step.apply


def _checked(
    workers: Workers,
    one: Contestant,
    case: Case,
    whole: tuple[torch.Tensor, torch.Tensor] | None,
    total: int,
) -> dict[str, Any]:
    """Take a few steps and hold the parameters against the oracle; worker 0 has the answer."""
    sizes = total, case.in_features, case.out_features
    steps = Case("step", case.device, case.dtype, *sizes, case.seed)
    model = one.step.model
    if whole is None:
        for _ in range(checked_steps(steps)):
            one.call()
        return {}
    problem = Problem(steps)
    problem.lr = LEARNING_RATE
    start = Gradient(model.w.clone(), model.b.clone())
    problem.__dict__.update(x=whole[0], y=whole[1], weight=model.w, bias=model.b, start=start)
    outcome = check(get_kernel("matmul_update"), problem, one.call)
    if not outcome.ok:
        return {"status": "wrong", "reason": outcome.reason}
    return {"max_rel_error": outcome.error}


def _time(
    workers: Workers,
    all_of_them: Sequence[Contestant],
    rounds: int,
    seed: int,
    between: Callable[[], None],
) -> None:
    """Take every slice of every round, in an order that is the same on all workers.

    Calls `between` after each contestant.
    """
    ddp = next((one for one in all_of_them if one.name == "ddp"), None)
    for one in all_of_them:
        seconds = warm_up(one.call, workers.device.type, 0.0)
        about = torch.tensor([seconds], dtype=torch.float64, device=workers.device)
        workers.broadcast(about)
        one.repeats = repeats_of(about.item(), SLICE_S)
    order = random.Random(seed)
    with gc_paused():
        for _ in range(rounds):
            for one in order.sample(list(all_of_them), len(all_of_them)):
                turns = [one, one]
                if ddp is not None and one is not ddp:
                    turns = [one, ddp, ddp, one] if order.random() < 0.5 else [ddp, one, one, ddp]
                slices = [_slice(workers, turn) for turn in turns]
                own = [s for turn, s in zip(turns, slices, strict=True) if turn is one]
                other = [s for turn, s in zip(turns, slices, strict=True) if turn is not one]
                one.step_s.append(sum(own) / 2)
                one.quads.append([sum(own), sum(other)])
                if not isinstance(one.step, DDPStep):  # it computes and sums at once
                    _split(workers, one)
                _alone(workers, one)
                between()


def _slice(workers: Workers, one: Contestant) -> float:
    workers.wait()
    # As many steps before, not timed, pay for the caches that another contestant has filled.
    return time_batch(one.call, one.repeats, workers.device.type, warmup_calls=one.repeats).seconds


def _split(workers: Workers, one: Contestant) -> None:
    """Time the parts of steps, in two slices as the steps themselves."""
    found: list[list[float]] = []
    for _ in range(2):
        workers.wait()
        timed = time_parts(one.parts, 2 * one.repeats, workers.device.type)
        found += timed[one.repeats :]
    one.split_s.append(found)


def _alone(workers: Workers, one: Contestant) -> None:
    """Let worker 0 take steps of its own, while the others wait."""
    if one.alone is not None:
        device = workers.device.type
        repeats = repeats_of(warm_up(one.alone, device, 0.0), SLICE_S)
        one.alone_s.append(time_batch(one.alone, repeats, device, warmup_calls=repeats).seconds)
    workers.wait()


def _joined(workers: Workers, one: Contestant) -> dict[str, Any]:
    """Put the slices of all workers together: a step takes as long as on the slowest of them."""
    told: Any = workers.tell([one.step_s, one.split_s, one.quads, one.alone_s])
    steps, splits, quads, alone = zip(*told, strict=True)
    ratios = []
    for turns in zip(*quads, strict=True):
        own, other = (max(turn[side] for turn in turns) for side in (0, 1))
        ratios += [math.log(other / own)] if other else []
    rounds = [np.array(ranks) for ranks in zip(*splits, strict=True)]  # by rank, step and part
    own_s = [parts[:, :, 0] + parts[:, :, 2] for parts in rounds]
    return {
        "step_s": [max(values) for values in zip(*steps, strict=True)],
        "alone_s": alone[0],
        "compute_s": [seconds.mean(axis=1).tolist() for seconds in own_s],
        "slowest_s": [seconds.max(axis=0).mean().item() for seconds in own_s],
        "exchange_s": [
            beyond(parts.sum(axis=2), own).item() for parts, own in zip(rounds, own_s, strict=True)
        ],
        "ddp_log_ratios": ratios,
    }
