"""Sharded training in real processes: right, the same on all, and never stuck."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import torch
from paths import HELPERS
from recorded_cuda import RecordedCuda
from sharded_fits import FEATURES, KERNELS, LR, OUTPUTS, ROWS, model_of
from torch import nn
from workers import forked, launched, reasons, torchrun

from mlr import Batches, distributed
from mlr.distributed import fingerprint, nccl, sharding, workers
from mlr.distributed.__main__ import main
from mlr.distributed.checkpoint import Checkpoint, saved
from mlr.distributed.workers import SILENCE_S, Workers

FAILING = HELPERS / "failing_worker.py"
PROGRAM = HELPERS / "failing_worker.py", "none"
POLICIES = HELPERS / "network_policies.py"
START_S = 45.0  # to start processes that import torch, on a machine that is busy
MADE = ("--made", "400", "6", "3", "--lr=0.05")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(3)
    x = draw.standard_normal((ROWS, FEATURES))
    y = x @ draw.standard_normal((FEATURES, OUTPUTS)) + 2 + draw.standard_normal((ROWS, OUTPUTS))
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder


class Fits(NamedTuple):
    """What `sharded_fits` found: parameters and losses, after so many steps or epochs.

    `kernels` are those that took uneven rows and batches as well.
    """

    steps: int
    epochs: int
    kernels: tuple[str, ...]
    parameters: dict[str, np.ndarray]
    losses: dict[str, list[float]]


SLOW_FITS = [
    pytest.param((world, 100, 11, len(KERNELS)), marks=pytest.mark.slow) for world in (2, 4)
]


@pytest.fixture(scope="module", params=[(3, 10, 1, 1), *SLOW_FITS], ids=str)
def fits(request: pytest.FixtureRequest, data: Path) -> Fits:
    world, *how = request.param
    done = forked(world, HELPERS / "sharded_fits.py", data, *how)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(data / "found.npz") as held:
        steps, epochs, few = how
        losses = json.loads((data / "losses.json").read_text())
        return Fits(steps, epochs, KERNELS[:few], dict(held), losses)


@cache
def oracle(
    data: Path, dtype: torch.dtype, batch: int, epochs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Train `nn.Linear` in float64 on rows of the dtype, in one process."""
    x, y = (torch.from_numpy(np.load(data / f"{name}.npy")).to(dtype).double() for name in "xy")
    start, layer = model_of("matmul", dtype), nn.Linear(FEATURES, OUTPUTS, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(start.weight.T)
        layer.bias.copy_(start.bias)
    optimiser = torch.optim.SGD(layer.parameters(), lr=LR)
    for _ in range(epochs):
        for rows, targets in zip(x.split(batch), y.split(batch), strict=True):
            optimiser.zero_grad()
            nn.MSELoss()(layer(rows), targets).backward()
            optimiser.step()
    return layer.weight.detach().T.numpy(), layer.bias.detach().numpy()


def test_parameters_are_those_of_one_process(fits: Fits, data: Path) -> None:
    """After some steps, componentwise relative to the largest, as far as rounding explains."""
    found, whole = fits.parameters, (ROWS, fits.steps)
    names = {name.rpartition("/")[0] for name in found}
    kinds = {"even": whole, "uneven": whole, "pieces": whole, "batches": (25, fits.epochs)}
    assert len(names) == 2 * (len(KERNELS) + 2 * len(fits.kernels) + 1 + 4)
    for name in names:
        kind, _, short = name.split("/")
        dtype = getattr(torch, short)
        batch, epochs = kinds[kind]
        updates = epochs * math.ceil(ROWS / batch)
        unit = torch.finfo(dtype).eps / 2
        tolerance = (
            math.sqrt(2 * math.log(2 * (FEATURES * OUTPUTS + OUTPUTS) / 1e-12))
            * unit
            * 6
            * math.sqrt(updates)
        )
        for got, true in zip(
            (found[f"{name}/weight"], found[f"{name}/bias"]), oracle(data, dtype, batch, epochs),
            strict=True,
        ):  # fmt: skip
            assert got.dtype == np.dtype(short)
            assert np.abs(got - true).max() <= tolerance * np.abs(true).max(), name


def test_the_history_is_that_of_one_process(fits: Fits, data: Path) -> None:
    for kernel in fits.kernels:
        model = model_of(kernel, torch.float64)
        alone = model.fit_batches(Batches(data / "x.npy", data / "y.npy", 25), fits.epochs, LR)
        expected = [epoch.mse for epoch in alone]
        assert fits.losses[f"batches/{kernel}/float64"] == pytest.approx(expected, rel=1e-12)


def none_is_left(done: subprocess.CompletedProcess) -> None:
    pids = [int(pid) for pid in re.findall(r"^pid (\d+)$", done.stdout, re.MULTILINE)]
    assert pids
    alive = [pid for pid in pids if psutil.pid_exists(pid)]
    assert not [pid for pid in alive if "failing_worker" in " ".join(psutil.Process(pid).cmdline())]


FAILURES = {  # the workers, for how long the others may wait, which of them say why, and what
    "killed": (3, SILENCE_S, {0, 2}, "rank 1 gave no sign of life for 3 s: killed, stopped"),
    "stopped": (2, 12, {0, 1}, "rank 1 gave no sign of life for 3 s"),
    "absent": (2, 6, {0}, "rank 1 did not join within 6 s"),
    "features": (2, 0, {0, 1}, "features must be the same on every rank; rank 1 has 7 and rank 0 "
                 "has 6"),
    "dtype": (3, 0, {0, 1, 2}, "dtype must be the same on every rank; rank 1 has torch.float32"),
    "nan": (2, 0, {0, 1}, "rank 1 has NaN or infinity in its rows 200 to 200"),
    "cut": (2, 0, {0, 1}, "must be a .npy file of numbers"),
    "differs": (2, 0, {0, 1}, "parameters must be the same on every rank; rank 1 has"),
}  # fmt: skip
Failed = tuple[subprocess.CompletedProcess, float]


def run_failing(launch: Callable[..., Any], how: str, data: Path, *more: str) -> Failed:
    rows = MADE if how != "cut" else (f"--x={data / 'x.npy'}", f"--y={data / 'y.npy'}")
    pieces = ("--piece-rows=1",) if how == "nan" else ()
    start = time.monotonic()
    limits = ("--epochs=12", "--join=6", "--timeout=4")
    done = launch(FAILURES[how][0], FAILING, how, *rows, *pieces, *limits, *more)
    return done, time.monotonic() - start


@pytest.fixture(scope="module")
def failures(data: Path) -> Iterator[dict[str, Future[Failed]]]:
    """All of them, several at once: most of their time they wait."""
    with ThreadPoolExecutor(3) as pool:
        yield {how: pool.submit(run_failing, forked, how, data) for how in FAILURES}


@pytest.mark.parametrize("how", FAILURES)
def test_a_worker_that_fails_ends_all_with_its_reason(
    how: str, failures: dict[str, Future[Failed]]
) -> None:
    all_have_ended_with_its_reason(how, *failures[how].result())


@pytest.mark.slow
@pytest.mark.parametrize("how", FAILURES)
def test_under_torchrun_a_worker_that_fails_ends_all_with_its_reason(how: str, data: Path) -> None:
    all_have_ended_with_its_reason(how, *run_failing(torchrun, how, data))


SLOW_ON_CUDA = pytest.param("stopped", marks=pytest.mark.slow)


@pytest.mark.parametrize("how", ["killed", "nan", SLOW_ON_CUDA])
def test_on_an_accelerator_a_worker_that_fails_ends_all_with_its_reason(
    how: str, data: Path
) -> None:
    """Sums are waited for as those of NCCL are, on a device that is the CPU."""
    on_fake = "--device=cuda", "--fake-cuda"
    all_have_ended_with_its_reason(how, *run_failing(forked, how, data, *on_fake))


@pytest.mark.cuda
@pytest.mark.parametrize("how", ["killed", "nan", "stopped"])
def test_with_nccl_a_worker_that_fails_ends_all_with_its_reason(how: str, data: Path) -> None:
    if torch.cuda.device_count() < FAILURES[how][0]:
        pytest.skip(f"needs {FAILURES[how][0]} GPUs")
    all_have_ended_with_its_reason(how, *run_failing(torchrun, how, data, "--device=cuda"))


def test_on_an_accelerator_workers_train_as_on_the_cpu(tmp_path: Path) -> None:
    for device, *fake in (("cpu",), ("cuda", "--fake-cuda")):
        chosen = (f"--device={device}", *fake, "--epochs=3", f"--out={tmp_path / device}.npz")
        done = forked(2, *PROGRAM, *MADE, *chosen)
        assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "cpu.npz") as one, np.load(tmp_path / "cuda.npz") as other:
        for name in ("weight", "bias"):
            assert one[name].tobytes() == other[name].tobytes()


class FakeSum(torch.distributed.Work):
    """A sum on a device, which ends after so many looks at it; then it may have failed."""

    def __init__(self, looks: float, error: str | None = None) -> None:
        super().__init__()
        self.looks, self.error, self.waited = looks, error, False

    def is_completed(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def wait(self, timeout: object) -> None:
        self.waited = True
        if self.error is not None:
            raise RuntimeError(self.error)


def test_a_sum_on_an_accelerator_is_waited_for_until_it_ends_there() -> None:
    asked = FakeSum(5)
    nccl.wait_for(asked, 60.0, lambda: False)
    assert asked.waited


@pytest.mark.parametrize(
    ("asked", "timeout_s", "has_fault", "said"),
    [
        (FakeSum(math.inf), 0.05, False, "did not come within 0.05 s"),
        (FakeSum(math.inf), 60.0, True, "another worker failed"),
        (FakeSum(0, "remote process exited"), 60.0, False, "remote process exited"),
    ],
    ids=["late", "fault", "failed"],
)
def test_a_sum_on_an_accelerator_that_does_not_come_is_an_error(
    asked: FakeSum, timeout_s: float, has_fault: bool, said: str
) -> None:
    with pytest.raises(RuntimeError, match=said):
        nccl.wait_for(asked, timeout_s, lambda: has_fault)


def test_nccl_is_given_the_device_and_does_not_end_the_process_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "")  # so that it is put back
    monkeypatch.delenv("TORCH_NCCL_ASYNC_ERROR_HANDLING")
    place = torch.device("cuda:1")
    given = nccl.options(place, 60.0)
    assert (given["backend"], given["device_id"]) == ("nccl", place)
    assert given["timeout"].total_seconds() > 60.0 + SILENCE_S  # torch's own comes after ours
    assert os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "2"
    assert nccl.options(torch.device("cpu"), 60.0)["backend"] == "gloo"


def all_have_ended_with_its_reason(
    how: str, done: subprocess.CompletedProcess, seconds: float
) -> None:
    _, within_s, told, reason = FAILURES[how]
    assert done.returncode != 0
    assert seconds < START_S + within_s
    said = reasons(done)
    assert set(said) == told, done.stderr
    for rank, one in said.items():
        assert reason in one, (rank, one)
        assert "rank 1" in one or rank == 1, (rank, one)
    none_is_left(done)


def test_a_worker_ends_once_its_launcher_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parents = iter([7, 7, 1])
    monkeypatch.setattr(workers.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(workers.os, "_exit", lambda code: done.set())
    done, store = threading.Event(), torch.distributed.HashStore()
    workers._beat(store, 3, done)
    assert done.is_set()
    assert "rank 3: error: torchrun is gone; ended" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_do_not_outlive_torchrun(tmp_path: Path) -> None:
    with launched(2, FAILING, "none", *MADE, "--epochs=1000000") as process:
        pids = [int(process.stdout.readline().split()[1]) for _ in range(2)]
        process.stdout.readline()  # an epoch: they are at work
        os.kill(process.pid, signal.SIGKILL)
        workers = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_a_fit_that_loses_a_worker_ends_as_if_it_had_not(tmp_path: Path) -> None:
    """Torchrun starts all anew; the fit goes on from its checkpoint, to the same bits."""
    more = ("--batch-size=90", "--epochs=4", "--every=3")
    alone = forked(2, FAILING, "none", *MADE, *more, f"--out={tmp_path / 'a.npz'}")
    assert alone.returncode == 0, alone.stderr[-2000:]
    lost = torchrun(
        2, FAILING, "killed", *MADE, *more, f"--out={tmp_path / 'b.npz'}",
        f"--checkpoint={tmp_path / 'c.npz'}", options=("--max-restarts=1",),
    )  # fmt: skip
    assert lost.returncode == 0, lost.stderr[-2000:]
    assert "gave no sign of life" in lost.stderr
    epochs = [line for line in lost.stdout.splitlines() if line.startswith("epoch")]
    assert list(dict.fromkeys(epochs)) == alone.stdout.splitlines()[2:]
    assert len(epochs) < 2 * 4  # it went on, and did not begin anew
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as other:
        for name in ("weight", "bias"):
            assert one[name].tobytes() == other[name].tobytes()


@pytest.mark.skipif(sys.platform != "linux", reason="the policy is Linux's")
def test_what_waits_for_a_message_yields_to_what_computes() -> None:
    """Gloo's threads that poll run at the lowest policy, and no other."""
    done = forked(2, POLICIES)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["1, idle True"] * 2


def alone() -> Workers:
    return Workers(0, 1, torch.device("cpu"), 1.0, None)


Given = Callable[[Workers, torch.Tensor, torch.Tensor, int | None], distributed.ShardedRows]


def of_files(folder: Path) -> Given:
    def files(
        workers: Workers, x: torch.Tensor, y: torch.Tensor, batch_size: int | None
    ) -> distributed.FileRows:
        if workers.rank == 0 and workers.world == 1:
            np.save(folder / "x.npy", x.numpy())
            np.save(folder / "y.npy", y.numpy())
        return distributed.FileRows(workers, folder / "x.npy", folder / "y.npy", batch_size)

    return files


def owned(
    workers: Workers, x: torch.Tensor, y: torch.Tensor, batch_size: int | None
) -> distributed.LocalRows:
    """All but the last of several workers have two rows or none, and the last has the others."""
    ends = [min(len(x), 2 * rank) for rank in range(workers.world)] + [len(x)]
    mine = slice(ends[workers.rank], ends[workers.rank + 1])
    return distributed.LocalRows(workers, x[mine], y[mine], batch_size)


def made(seed: int) -> Given:
    return lambda workers, x, y, batch_size: distributed.SyntheticRows(
        workers, len(x), x.shape[1], y.shape[1], batch_size, seed=seed
    )


def rows(count: int = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(8)
    return tuple(  # type: ignore[return-value]
        torch.randn(count, columns, generator=draw, dtype=torch.float64)
        for columns in (FEATURES, OUTPUTS)
    )


def together(
    world: int, given: Given, x: torch.Tensor, y: torch.Tensor, batch_size: int | None = None
) -> set[str]:
    """Return the fingerprints that workers find who have nothing but a store in common."""
    store = torch.distributed.HashStore()

    def find(rank: int) -> str:
        workers = Workers(rank, world, torch.device("cpu"), 30.0, store)
        try:
            return given(workers, x, y, batch_size).fingerprint()
        except Exception as error:
            workers.report(error)  # or the others would wait for it, and say no more than that
            raise

    with ThreadPoolExecutor(world) as pool:
        return set(pool.map(find, range(world)))


@pytest.mark.parametrize("batch_size", [None, 25])
@pytest.mark.parametrize("source", ["files", "owned", "made"])
def test_a_fingerprint_is_the_same_on_any_number_of_workers(
    tmp_path: Path, source: str, batch_size: int | None
) -> None:
    given = {"files": of_files(tmp_path), "owned": owned, "made": made(4)}[source]
    found = {world: together(world, given, *rows(), batch_size) for world in (1, 2, 3, 7)}
    assert all(len(said) == 1 for said in found.values())
    kinds = {said.pop() for said in found.values()}
    if source == "owned" and batch_size is not None:  # what a step takes depends on who has it
        assert len(kinds) == 4
        assert len({kind.partition(" ")[0] for kind in kinds}) == 1
    else:
        assert len(kinds) == 1


def doubled(row: int) -> Callable[[torch.Tensor, torch.Tensor], None]:
    return lambda x, y: y[row].mul_(2)


CHANGES = {
    "all": lambda x, y: y.mul_(100),
    "first": doubled(0),
    "last": doubled(-1),
    "one of x": lambda x, y: x[100, 3].neg_(),
    "order": lambda x, y: (x.copy_(x.flip(0)), y.copy_(y.flip(0))),
    "partners": lambda x, y: y.copy_(y.roll(1, 0)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("source", "world"), [("files", 1), ("owned", 1), ("owned", 3)])
def test_a_fingerprint_tells_other_rows(
    tmp_path: Path, source: str, world: int, change: str
) -> None:
    given = {"files": of_files(tmp_path), "owned": owned}[source]
    x, y = rows()
    before = together(world, given, x, y)
    CHANGES[change](x, y)
    assert before.isdisjoint(together(world, given, x, y))


def test_a_fingerprint_reads_few_of_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []

    def counting(held: object, first: int, last: int) -> np.ndarray:
        read.append((first, last))
        return np.zeros((last - first, 1))

    monkeypatch.setattr(sharding, "read_rows", counting)
    given, count = of_files(tmp_path), 2_000_000
    together(1, given, *(torch.zeros(count, 1) for _ in range(2)))
    assert sum(last - first for first, last in read) == 2 * fingerprint.MOST_ROWS
    assert (read[0], read[-1]) == ((0, 1), (count - 1, count))


def fit(path: Path, given: Given, x: torch.Tensor, y: torch.Tensor, **how: Any) -> int:
    """Train alone, with a checkpoint; return how many epochs the history has."""
    shards, model = given(alone(), x, y, 50), model_of("matmul", torch.float64)
    how = {"epochs": 3, "lr": 0.01, "checkpoint": path} | how
    return len(distributed.fit(alone(), model, shards, **how))


SPOILT: dict[str, Callable[[Path], Any]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "text": lambda path: path.write_text("weight"),
    "pickled": lambda path: np.savez(
        path, weight=np.array([{}], dtype=object), bias=np.zeros(1), state=np.array("{}")
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "c.npz"
    fit(path, made(4), *rows())
    SPOILT[what](path)
    with pytest.raises(ValueError, match="is none, or damaged"):
        fit(path, made(4), *rows())


@pytest.mark.parametrize("source", ["files", "owned", "made"])
def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path, source: str) -> None:
    path = tmp_path / "c.npz"
    given = {"files": of_files(tmp_path), "owned": owned, "made": made(4)}[source]
    x, y = rows()
    fit(path, given, x, y)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"the content of the validation rows was none in .* and is"
    ):
        fit(path, given, x, y, valid=(x, y))
    said = r"for the same training on the same data; {} was .* in .*c.npz and is .* now; remove it"
    with pytest.raises(ValueError, match=said.format("rows")):
        fit(path, given, x[1:], y[1:])
    with pytest.raises(ValueError, match=said.format("the content of x and y")) as error:
        fit(path, made(5) if source == "made" else given, x, y * 100)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_a_checkpoint_goes_on_and_not_back(tmp_path: Path) -> None:
    trained = tmp_path / "c.npz", made(4), *rows()
    assert [fit(*trained, epochs=epochs) for epochs in (2, 4, 4)] == [2, 4, 4]
    with pytest.raises(ValueError, match=r"is 4 epochs and 0 steps on and epochs is 3; ask for m"):
        fit(*trained, epochs=3)
    with pytest.raises(ValueError, match=r"lr was 0.01 in"):
        fit(*trained, epochs=5, lr=0.2)


def test_a_training_that_is_complete_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*MADE, "--epochs=2", f"--checkpoint={tmp_path / 'c.npz'}"]
    assert main(arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    when = (tmp_path / "c.npz").stat().st_mtime_ns
    assert main(arguments) == 0
    told = f"{tmp_path / 'c.npz'}: the training is complete already; nothing to do\n"
    assert capsys.readouterr().out == told
    assert (tmp_path / "c.npz").stat().st_mtime_ns == when


def test_workers_go_on_with_the_same_data_and_refuse_other(tmp_path: Path) -> None:
    """From the checkpoint of one process; the second worker alone has what is new."""
    x, y = rows()
    of_files(tmp_path)(alone(), x, y, None)
    command = [f"--x={tmp_path / 'x.npy'}", f"--y={tmp_path / 'y.npy'}", "--batch-size=90",
               f"--checkpoint={tmp_path / 'c.npz'}"]  # fmt: skip
    assert main([*command, "--epochs=3"]) == 0
    on = forked(2, *PROGRAM, *command, "--epochs=5")
    assert on.returncode == 0, on.stderr[-2000:]
    assert re.findall(r"^epoch: (\d+)", on.stdout, re.MULTILINE) == ["3", "4"]
    y[-1] *= 2
    of_files(tmp_path)(alone(), x, y, None)
    refused = forked(2, *PROGRAM, *command, "--epochs=6")
    assert refused.returncode != 0
    said = reasons(refused)
    assert set(said) == {0, 1}, refused.stderr
    for one in said.values():
        assert "the content of x and y was" in one


def test_a_full_disk_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.npz"
    path.write_bytes(b"before")
    rows = distributed.SyntheticRows(alone(), 100, FEATURES, OUTPUTS)
    monkeypatch.setattr(
        np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "no space"))
    )

    with pytest.raises(ValueError, match="no space"):
        saved(alone(), model_of("matmul", rows.dtype), path, {}, Checkpoint())
    assert [one.name for one in tmp_path.iterdir()] == ["c.npz"]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_made_rows_are_the_same_on_any_number_of_workers(world: int) -> None:
    sizes = 9_000, FEATURES, OUTPUTS, 1_000
    whole = distributed.SyntheticRows(alone(), *sizes, seed=5)
    expected = [next(iter(whole.pieces(step))) for step in range(len(whole))]
    ranks = [Workers(rank, world, torch.device("cpu"), 1.0, None) for rank in range(world)]
    shared = [distributed.SyntheticRows(one, *sizes, seed=5, piece_rows=77) for one in ranks]
    for step, pair in enumerate(expected):
        pieces = [piece for one in shared for piece in one.pieces(step)]
        for side in range(2):
            assert torch.equal(torch.cat([piece[side] for piece in pieces]), pair[side])


@pytest.mark.parametrize("made", [False, True])
def test_the_next_rows_are_on_their_way_to_a_gpu_before_a_step_is_waited_for(
    data: Path, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(worker: Workers) -> distributed.ShardedRows:
        if made:
            return distributed.SyntheticRows(worker, ROWS, FEATURES, OUTPUTS, 25, seed=2)
        return distributed.FileRows(worker, data / "x.npy", data / "y.npy", 25)

    def fitted(worker: Workers) -> list[float]:
        model = model_of("matmul", torch.float64)
        history = distributed.fit(worker, model, rows(worker), 2, LR)
        return [epoch.mse for epoch in history]

    expected = fitted(alone())
    cuda, item = RecordedCuda(monkeypatch), torch.Tensor.item
    cuda.record_copies(monkeypatch)

    def waited(value: torch.Tensor) -> Any:
        cuda.log.append(("item",))
        return item(value)

    monkeypatch.setattr(torch.Tensor, "item", waited)
    assert fitted(Workers(0, 1, torch.device("cuda", 0), 1.0, None)) == expected
    steps = -(-ROWS // 25)
    order = [one[0] for one in cuda.log if one[0] in ("copy", "waited copy", "item")]
    assert order[: 2 + 3 * steps] == ["copy"] * 2 + ["copy", "copy", "item"] * steps


def test_a_worker_reads_its_own_rows_and_no_other(tmp_path: Path) -> None:
    """What belongs to others is NaN, which no check of its own rows may see."""
    for rank in range(3):
        values = np.full((100, 4), np.nan)
        for start in range(0, 100, 30):
            count = min(30, 100 - start)
            first, last = start + rank * count // 3, start + (rank + 1) * count // 3
            values[first:last] = rank
        for name in "xy":
            np.save(tmp_path / f"{name}.npy", values)
        worker = Workers(rank, 3, torch.device("cpu"), 1.0, None)
        files = tmp_path / "x.npy", tmp_path / "y.npy"
        shards = distributed.FileRows(worker, *files, 30, piece_rows=4)
        for step in range(len(shards)):
            for x, y in shards.pieces(step):
                assert len(x) <= 4
                assert bool((x == rank).all())
                assert bool((y == rank).all())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--x=none.npy"], "rows come from --x and --y, or from --made"),
        (["--x=none.npy", "--y=none.npy"], "x must be a .npy file"),
        (["--made", "0", "6", "3"], "rows must be an integer at least 1"),
        ([*MADE, "--kernel=nothing"], "unknown kernel"),
        ([*MADE, "--method=statistics", "--batch-size=10"], "those of a full batch"),
        ([*MADE, "--timeout=-1"], "timeout_s"),
        ([*MADE, "--lr=1e30", "--epochs=20"], "lower lr"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
