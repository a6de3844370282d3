"""The state of a training in a file: whole or not at all, and without a pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from ..models import LinearRegression
from ..training import Epoch
from .fingerprint import digest
from .sharding import Piece, ShardedRows
from .workers import Workers


@dataclass
class Checkpoint:
    """How far a training has come: the epochs that are done, and the losses of the one at hand."""

    epochs: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def contents(
    workers: Workers, shards: ShardedRows, valid: Piece | None, path: str | Path | None
) -> dict[str, str]:
    """Return what a training is fed with, for its task; nothing where worker 0 keeps no file.

    Raises:
        ValueError: For rows that cannot be read.
        WorkerError: Another worker has failed.
    """
    if not workers.all_gather_object(path is not None)[0]:
        return {}
    return {
        "the content of x and y": shards.fingerprint(),
        "the content of the validation rows": "none" if valid is None else digest(*valid),
    }


def saved(
    workers: Workers,
    model: LinearRegression,
    path: str | Path,
    task: Mapping[str, str],
    state: Checkpoint,
) -> None:
    """Let worker 0 put parameters and state into a file, in the place of the one before.

    Raises:
        ValueError: It cannot be written.
    """
    if workers.rank:
        return
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    told = {"task": dict(task), "epochs": state.epochs, "losses": state.losses}
    weight, bias = (value.detach().cpu().numpy() for value in (model.w, model.b))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez(file, weight=weight, bias=bias, state=np.array(json.dumps(told)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise ValueError(
            f"a checkpoint needs a file that can be written; {path}: {error.strerror}; the one "
            "before is as it was; free space or give another"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def restored(
    workers: Workers,
    model: LinearRegression,
    path: str | Path | None,
    task: Mapping[str, str],
    epochs: int,
) -> Checkpoint:
    """Give every worker the parameters of worker 0, and the state out of its file if it is there.

    Raises:
        ValueError: The file is no checkpoint, or that of another training, or one that has gone
            further than the epochs that are wanted.
        WorkerError: Another worker has failed.
    """
    state = Checkpoint()
    if workers.rank == 0 and path is not None and Path(path).exists():
        state = _read(model, Path(path), task)
        if (len(state.epochs), len(state.losses)) > (epochs, 0):
            raise ValueError(
                f"a checkpoint is gone on with, not back; {path} is {len(state.epochs)} epochs and "
                f"{len(state.losses)} steps on and epochs is {epochs}; ask for more, remove it to "
                "begin anew, or give another"
            )
    told: Any = workers.all_gather_object([state.epochs, state.losses])[0]
    workers.broadcast(model.w.T)
    workers.broadcast(model.b)
    return Checkpoint([Epoch(*one) for one in told[0]], list(told[1]))


def _read(model: LinearRegression, path: Path, task: Mapping[str, str]) -> Checkpoint:
    try:
        with np.load(path, allow_pickle=False) as held:
            told = json.loads(str(held["state"]))
            weight, bias = torch.from_numpy(held["weight"]), torch.from_numpy(held["bias"])
        found, epochs = told["task"], [Epoch(*one) for one in told["epochs"]]
        losses = [float(loss) for loss in told["losses"]]
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ValueError(
            f"a checkpoint is what a fit wrote; {path} is none, or damaged; remove it to begin anew"
        ) from error
    for name, value in task.items():
        if found.get(name) != value:
            raise ValueError(
                "a checkpoint is for the same training on the same data; "
                f"{name} was {found.get(name, 'not noted')} in {path} and is {value} now; remove "
                "it to begin anew, or give another"
            )
    model.w.copy_(weight)
    model.b.copy_(bias)
    return Checkpoint(epochs, losses)
