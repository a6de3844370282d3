"""The workers of one job: how they meet, agree, sum, and say which of them failed, and why.

torchrun starts them and ends them all once one has failed. Beside the process group each has its
own line to torchrun's store, where it gives signs of life, and the first that fails says why; so
that every other can end with that reason instead of "connection closed by peer".
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from ..checks import as_device, check_number
from . import nccl
from .gloo import let_others_run_first

BEAT_S = 0.25  # between two signs of life
SILENCE_S = 3.0  # without one, after something failed, and a worker counts as lost
POLL_S = 0.02
JOIN_S, TIMEOUT_S = 60.0, 60.0
_LONGEST = 500  # characters of a reason


class WorkerError(RuntimeError):
    """A worker failed or was lost; one line that names it, and the cause."""


class Workers:
    """This process among the workers of its job.

    Attributes:
        rank: Its number, from 0.
        world: How many there are.
        device: Where its tensors are.
        timeout_s: Seconds after which a sum that does not come has failed.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        device: torch.device,
        timeout_s: float,
        store: Store | None,
    ) -> None:
        """Take part; `store` is None where there is one worker alone."""
        self.rank, self.world, self.device, self.timeout_s = rank, world, device, timeout_s
        self._store = store
        self._gathered = 0
        self._explaining = False

    def all_reduce(self, values: Tensor) -> None:
        """Sum a tensor over the workers, in place; all have the same bits afterwards.

        Raises:
            WorkerError: A worker failed, was lost, or did not come within `timeout_s`.
        """
        self._run(partial(dist.all_reduce, values))

    def broadcast(self, values: Tensor) -> None:
        """Give all workers what worker 0 has in a tensor, in place.

        Raises:
            WorkerError: As `all_reduce`.
        """
        self._run(partial(dist.broadcast, values, src=0))

    def _run(self, operation: Callable[..., Any]) -> None:
        """Wait until an operation over the workers has ended, on an accelerator also there."""
        if self.world == 1:
            return
        assert self._store is not None
        try:
            if self.device.type == "cpu":
                operation()
            else:
                fault = partial(self._store.check, ["fault"])
                nccl.wait_for(operation(async_op=True), self.timeout_s, fault)
        except RuntimeError as error:
            raise self.failed(str(error)) from error

    def barrier(self) -> None:
        """Wait until all workers are here, with all that they gave their devices to do done.

        Raises:
            WorkerError: As `all_reduce`.
        """
        self.all_reduce(torch.zeros(1, device=self.device))
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def all_gather_object(self, fact: object) -> list[Any]:
        """Give all workers something that JSON can hold, and return what each has given, by rank.

        Raises:
            WorkerError: A worker failed, or gave nothing within `timeout_s`.
        """
        if self._store is None:
            return [fact]
        self._gathered += 1
        keys = [f"gathered/{self._gathered}/{rank}" for rank in range(self.world)]
        self._store.set(keys[self.rank], json.dumps(fact))
        late = self._missing(keys, self.timeout_s)
        if late:
            raise self.failed(f"{_ranks(late)} said nothing within {self.timeout_s:g} s")
        return [json.loads(self._store.get(key)) for key in keys]

    def assert_equal(self, **facts: object) -> None:
        """Check that some facts are the same on every worker, `batch_size=100` for one.

        Raises:
            WorkerError: They are not; it names the worker that differs from most, and the fact.
        """
        told = self.all_gather_object({name: str(value) for name, value in facts.items()})
        for name in facts:
            values = [str(one[name]) if isinstance(one, dict) else "" for one in told]
            common = max(values, key=lambda value: (Counter(values)[value], value == values[0]))
            for rank, value in enumerate(values):
                if value != common:
                    others = values.index(common)
                    raise self.failed(
                        f"{name} must be the same on every rank; rank {rank} has {value} and rank "
                        f"{others} has {common}"
                    )

    def report(self, reason: object) -> None:
        """Say why this worker fails, for the others to end with; the first in the job counts."""
        if self._store is not None:
            with suppress(RuntimeError):
                self._store.compare_set("fault", "", f"rank {self.rank}: {_line(reason)}")

    def failed(self, cause: object) -> WorkerError:
        """Return the error that says which worker was the first to fail, and why.

        Waits a little for a worker to say so; one that gave no sign of life meanwhile was lost.
        """
        self._explaining = True  # from here on a signal to end changes nothing
        if self._store is None:
            return WorkerError(_line(cause))
        try:
            return WorkerError(self._explained(_line(cause)))
        except RuntimeError:
            return WorkerError(f"{_line(cause)}; and the store of the job is gone: was torchrun?")

    def _explained(self, cause: str) -> str:
        assert self._store is not None
        beats = self._beats()
        end = time.monotonic() + SILENCE_S
        while time.monotonic() < end:
            if self._store.check(["fault"]):
                return self._fault()
            time.sleep(POLL_S)
        after = self._beats()
        lost = [rank for rank in range(self.world) if beats[rank] == after[rank] != "ended"]
        lost = [rank for rank in lost if rank != self.rank]
        if lost:
            cause = (
                f"{_ranks(lost)} gave no sign of life for {SILENCE_S:g} s: killed, stopped, or its "
                "machine is gone"
            )
        self._store.compare_set("fault", "", cause)
        return self._fault()

    def _fault(self) -> str:
        assert self._store is not None
        return _line(self._store.get("fault").decode(errors="replace"))

    def _beats(self) -> list[str]:
        assert self._store is not None
        keys = [f"beat/{rank}" for rank in range(self.world)]
        return [self._store.get(key).decode() if self._store.check([key]) else "" for key in keys]

    def _missing(self, keys: list[str], seconds: float) -> list[int]:
        """Wait for keys of all ranks, and return the ranks whose key did not come.

        Raises:
            WorkerError: One has failed meanwhile.
        """
        assert self._store is not None
        left, end = dict(enumerate(keys)), time.monotonic() + seconds
        while left and time.monotonic() < end:
            left = {rank: key for rank, key in left.items() if not self._store.check([key])}
            if left and self._store.check(["fault"]):
                raise WorkerError(self._fault())
            if left:
                time.sleep(POLL_S)
        return list(left)

    def _meet(self, seconds: float) -> None:
        """Wait for all workers, and form the process group."""
        assert self._store is not None
        self._store.set(f"joined/{self.rank}", "")
        late = self._missing([f"joined/{rank}" for rank in range(self.world)], seconds)
        if late:
            said = f"{_ranks(late)} did not join within {seconds:g} s: was it started, is it stuck?"
            self._store.compare_set("fault", "", said)
            raise WorkerError(said)
        try:
            dist.init_process_group(
                store=PrefixStore("group", self._store),
                rank=self.rank,
                world_size=self.world,
                **nccl.options(self.device, self.timeout_s),
            )
        except RuntimeError as error:
            raise self.failed(str(error)) from error
        let_others_run_first()


@contextmanager
def init(
    device: str | None = None, *, join_s: float = JOIN_S, timeout_s: float = TIMEOUT_S
) -> Iterator[Workers]:
    """Meet the other workers that torchrun started; without torchrun, be the only one.

    An error that leaves the block is told to the others, who end with it. Whatever happens to any
    worker, each other one ends within `timeout_s` and a few seconds.

    Args:
        device: `cpu` or `cuda`, of which each worker takes its own; `cpu` by default.
        join_s: Seconds to wait for a worker to come.
        timeout_s: Seconds to wait in a sum over the workers.

    Raises:
        WorkerError: A worker did not come, failed, or was lost.
        ValueError: For times that are none, or a device that is not there.
    """
    check_number("join_s", join_s, least=0)
    check_number("timeout_s", timeout_s, least=0)
    place = _device(device)
    if "RANK" not in os.environ:
        yield Workers(0, 1, place, timeout_s, None)
        return
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # Of a job that torchrun has started anew, and of a process that joins again, nothing is left.
    name = f"mlr/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_joins)}"
    wait = timedelta(seconds=max(join_s, timeout_s))
    store, line = (PrefixStore(name, _connected(rank, wait)) for _ in range(2))
    workers = Workers(rank, world, place, timeout_s, store)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(line, rank, done), daemon=True)
    before = _on_ending(workers)
    beating.start()
    try:
        workers._meet(join_s)
        yield workers
        workers.barrier()  # so that none takes a worker that is done for one that was lost
    except BaseException as error:
        if not isinstance(error, WorkerError):
            workers.report(error)
        nccl.abort(place)
        raise
    finally:
        workers._explaining = True
        done.set()
        beating.join()
        _restore(before)
        if dist.is_initialized():
            dist.destroy_process_group()


def _device(name: str | None) -> torch.device:
    if name != "cuda":
        return as_device(name or "cpu")
    place = as_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    torch.cuda.set_device(place)
    return place


def _connected(rank: int, timeout: timedelta) -> Store:
    """Return a connection of its own to the store of the job.

    torchrun keeps the store outside the workers, so that it outlives any of them; started by
    another launcher, worker 0 has it.
    """
    own = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and rank == 0
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        whole = TCPStore(address, port, is_master=own and not _hosts, timeout=timeout)
    except RuntimeError as error:
        raise WorkerError(
            f"the store of the job must answer at {address}:{port}; {_line(error)}; start the "
            "workers with torchrun"
        ) from error
    if own:
        _hosts.append(whole)
    return whole


_hosts: list[Store] = []  # stores that this process serves, for as long as it lives
_joins = itertools.count()


def _beat(store: Store, rank: int, done: threading.Event) -> None:
    """Give signs of life until done; end the process once what started it is gone."""
    parent, count = os.getppid(), 0
    while not done.wait(BEAT_S):
        if os.getppid() != parent:
            sys.stderr.write(f"rank {rank}: error: torchrun is gone; ended\n")
            os._exit(1)
        count += 1
        with suppress(RuntimeError):
            store.set(f"beat/{rank}", str(count))
    with suppress(RuntimeError):
        store.set(f"beat/{rank}", "ended")


def _on_ending(workers: Workers) -> object:
    """Turn torchrun's signal to end into the reason for it."""

    def ended(number: int, frame: FrameType | None) -> None:
        if not workers._explaining:
            raise workers.failed("torchrun ended this worker")

    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, ended)


def _restore(handler: object) -> None:
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # type: ignore[arg-type]


def _ranks(ranks: list[int]) -> str:
    listed = ", ".join(map(str, ranks))
    return f"rank {listed}" if len(ranks) == 1 else f"ranks {listed}"


def _line(reason: object) -> str:
    """Return a reason on one line, its first part if it is long."""
    text = " ".join(str(reason).split()) or type(reason).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
