"""Training over workers: epochs of steps, and a fit that can go on from a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from ..checks import check_count, check_lr
from ..models import LinearRegression
from ..training import Epoch, History
from .checkpoint import Checkpoint, contents, restored, saved
from .fingerprint import digest
from .sharding import Piece, ShardedRows
from .steps import Step, make_step
from .workers import Workers


def fit(
    workers: Workers,
    model: LinearRegression,
    shards: ShardedRows,
    epochs: int,
    lr: float | int,
    *,
    valid: Piece | None = None,
    method: str = "kernel",
    checkpoint: str | Path | None = None,
    every: int = 100,
    verbose: bool = False,
) -> History:
    """Train a model over all workers; each ends with the same parameters, bit for bit.

    All begin with the parameters of worker 0. The history is that of `model.fit` on the same
    batches.

    Args:
        workers: As of `init`.
        model: Of the same sizes, dtype and kernel on every worker.
        shards: This worker's rows.
        epochs: How often over all rows.
        lr: The learning rate.
        valid: Rows X (v, n) and Y (v, o), the same on all workers, whose loss each epoch ends with.
        method: How a step is taken, see `make_step`; `statistics` takes full batches only.
        checkpoint: A file that worker 0 keeps the state of the training in; where it is there
            already the training goes on from it, and ends as if it had never been interrupted. One
            of other arguments or other data is refused; of many rows 1,024 at most are compared,
            evenly spread. The number of workers and the first parameters may be others.
        every: Steps between two checkpoints.
        verbose: Let worker 0 print each epoch as it ends, or that none was left to do.

    Raises:
        ValueError: For a bad argument, data of this worker that are bad, or the checkpoint of
            another training.
        WorkerError: Another worker has failed or was lost, workers differ in what they were given,
            or the loss is no longer finite.
    """
    check_count("every", every)
    facts = _checked(workers, model, shards, epochs, lr, valid, method)
    task = facts | contents(workers, shards, valid, checkpoint)
    state = restored(workers, model, checkpoint, task, epochs)
    complete = len(state.epochs) == epochs
    if complete and verbose and workers.rank == 0:
        print(f"{checkpoint}: the training is complete already; nothing to do", flush=True)
    step = make_step(workers, model, float(lr), method)
    for epoch in range(len(state.epochs), epochs):
        for number in range(len(state.losses), len(shards)):
            loss = _take(workers, step, shards, number)
            state.losses.append(loss)
            done = epoch * len(shards) + number + 1
            if not math.isfinite(loss):
                raise workers.failed(f"the loss is {loss} after {done} steps: lower lr, or scale x")
            if checkpoint is not None and done % every == 0:
                saved(workers, model, checkpoint, task, state)
        _end_epoch(state, model, valid)
        if verbose and workers.rank == 0:
            print(state.epochs[-1], flush=True)
    if checkpoint is not None and not complete:
        saved(workers, model, checkpoint, task, state)
    workers.assert_equal(parameters=digest(model.w, model.b))
    return History(tuple(state.epochs))


def _checked(
    workers: Workers, model: LinearRegression, shards: ShardedRows, epochs: int, lr: float | int,
    valid: Piece | None, method: str,
) -> dict[str, str]:  # fmt: skip
    """Check the arguments of a fit, and that they are the same on all workers; return its facts."""
    check_count("epochs", epochs)
    check_lr(lr)
    if method == "statistics" and len(shards) > 1:
        raise ValueError(
            f"the statistics are those of a full batch; got {len(shards)} batches an epoch; leave "
            "batch_size out"
        )
    n, o = model.w.shape
    facts = {
        "features": shards.features, "outputs": shards.outputs, "dtype": shards.dtype,
        "rows": shards.rows, "batch_size": shards.batch_size, "kernel": model.kernel.name,
        "method": method, "lr": float(lr),
    }  # fmt: skip
    workers.assert_equal(**facts, epochs=epochs)
    if (shards.features, shards.outputs, shards.dtype) != (n, o, model.w.dtype):
        raise ValueError(
            f"a model of {n} → {o} features in {model.w.dtype} needs such data; got "
            f"{shards.features} → {shards.outputs} in {shards.dtype}; make a model of their size"
        )
    if valid is not None:
        model._check_data("x_valid", valid[0], "y_valid", valid[1])
    return {name: str(value) for name, value in facts.items()}


def _end_epoch(state: Checkpoint, model: LinearRegression, valid: Piece | None) -> None:
    mse = torch.tensor(state.losses, dtype=torch.float64).mean().item()
    mse_valid = None if valid is None else model.evaluate(*valid)
    state.epochs.append(Epoch(len(state.epochs), mse, mse_valid))
    state.losses.clear()


def _take(workers: Workers, step: Step, shards: ShardedRows, number: int) -> float:
    """Take a step and return its loss; one that fails here says so, and lets no other worker wait.

    A loss or a sum that is not finite, which any worker may have caused, leaves the parameters.
    """
    try:
        step.compute(shards.total(number), shards.pieces(number))
        if not step.reads_once:
            shards.read_ahead((number + 1) % len(shards))
    except (ValueError, MemoryError) as error:
        workers.report(error)
        step.poison()
        raise
    step.exchange()
    summed = step.buffer[-1].item()  # here an accelerator is waited for
    if not math.isfinite(summed):
        return math.nan
    step.apply()
    return step.loss.item() if step.reads_once else summed
