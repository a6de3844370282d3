"""A training by compiled sweeps: the plain one's history, whatever the sizes, rows and losses."""

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch

from bench.measure.memory import measure_memory
from mlr import Case, Gradient, History, LinearRegression, TorchLinearRegression, get_kernel
from mlr.dispatch import select_kernel
from mlr.one_pass import bind, fit
from mlr.one_pass import compile as compiler
from mlr.one_pass.codegen import AVX, AVX512, SSE, RowVectorised, Target, layout

DTYPES = [torch.float32, torch.float64]
# One layout of outputs, of rows (of float32), of features side by side, and of tiles, full or not.
SIZES = [(6, 3), (16, 8), (64, 16), (31, 3), (40, 1), (130, 9)]
# Whole mini-batches, a short last one, one of one row, one row alone, and one larger than all.
ROWS = [(99, 33), (100, 33), (34, 33), (1, 1), (7, 1), (20, 1_000), (700, 513)]
SWEPT = ["one_pass", "auto"]


def data(
    m: int, n: int, o: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    x, noise = (torch.randn(m, k, generator=source, dtype=torch.float64) for k in (n, o))
    true = torch.randn(n, o, generator=source, dtype=torch.float64)
    return x.to(dtype), (x @ true + 2 + noise).to(dtype)


def model(kernel: str, n: int, o: int, dtype: torch.dtype = torch.float64) -> LinearRegression:
    start = torch.Generator().manual_seed(1)
    return LinearRegression(n, o, kernel=kernel, dtype=dtype, generator=start)


def agree(
    found: LinearRegression, history: History, expected: LinearRegression, losses: History
) -> None:
    """Hold two trainings against each other as far as rounding explains."""
    unit = torch.finfo(found.w.dtype).eps
    for epoch, other in zip(history, losses, strict=True):
        assert epoch.number == other.number
        assert epoch.mse == pytest.approx(other.mse, rel=50 * unit)
        valid = other.mse_valid
        assert epoch.mse_valid == (valid and pytest.approx(valid, rel=50 * unit))
    for got, true in zip((found.w, found.b), (expected.w, expected.b), strict=True):
        assert float((got - true).abs().max()) <= 200 * unit * float(true.abs().max())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_its_history_and_parameters_are_the_plain_ones(
    dtype: torch.dtype, size: tuple[int, int]
) -> None:
    valid = data(301, *size, dtype, seed=5)
    for (m, batch), held in zip(ROWS, [valid, ()] * len(ROWS), strict=False):
        x, y = data(m, *size, dtype)
        plain, swept = (model(kernel, *size, dtype) for kernel in ("matmul", "one_pass"))
        assert swept.in_one_pass(batch)
        lr = 0.01 / max(1, size[0] / min(m, batch))
        agree(swept, swept.fit(x, y, 4, lr, batch, *held),
              plain, plain.fit(x, y, 4, lr, batch, *held))  # fmt: skip


@pytest.mark.parametrize("target", [SSE, AVX], ids=["SSE", "AVX"])
def test_machines_with_narrower_vectors_agree(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "target", lambda: target)
    monkeypatch.setattr(compiler, "compile_kernel", compiler.compile_kernel.__wrapped__)
    for size, dtype in product([(6, 3), (31, 3), (130, 9)], DTYPES):
        x, y = data(100, *size, dtype)
        plain, swept = (model(kernel, *size, dtype) for kernel in ("matmul", "one_pass"))
        agree(swept, swept.fit(x, y, 2, 0.001, 33, x, y),
              plain, plain.fit(x, y, 2, 0.001, 33, x, y))  # fmt: skip


def test_rows_in_lanes_agree_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "target", lambda: AVX512)
    assert isinstance(layout(500, 6, 3, "float32", AVX512), RowVectorised)
    if "avx512f" not in compiler.llvm.get_host_cpu_features().flatten():
        pytest.skip("no vectors of 64 bytes")
    x, y = data(2_777, 6, 3, torch.float32)
    plain, swept = (model(kernel, 6, 3, torch.float32) for kernel in ("matmul", "one_pass"))
    agree(swept, swept.fit(x, y, 3, 0.01, 500, x, y), plain, plain.fit(x, y, 3, 0.01, 500, x, y))


def test_the_plain_training_keeps_its_bits() -> None:
    """As it was before there was another, written out here."""
    (x, y), held = data(100, 6, 3), model("matmul", 6, 3)
    w, b = held.w.T.clone().T, held.b.clone()
    history = held.fit(x, y, 3, 0.01, 33, x, y)
    for epoch in history:
        losses = []
        for rows, targets in zip(x.split(33), y.split(33), strict=True):
            predicted = torch.addmm(b, rows, w)
            losses.append((predicted - targets).square().mean())
            delta = (predicted - targets).mul_(2 / targets.numel())
            w.sub_(rows.T @ delta, alpha=0.01)
            b.sub_(delta.sum(0), alpha=0.01)
        assert epoch.mse == torch.stack(losses).double().mean().item()
        assert epoch.mse_valid == (torch.addmm(b, x, w) - y).square().mean().item()
    assert torch.equal(held.w, w)
    assert torch.equal(held.b, b)


def test_what_is_printed_is_that_of_torch_nn(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data(100, 6, 3)
    start, swept = TorchLinearRegression(6, 3, dtype="float64"), model("one_pass", 6, 3)
    swept.copy_params(start.layer)
    for one in (start, swept):
        one.fit(x, y, 16, 0.01, 33, x, y, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:16] == lines[16:]
    assert lines[0].startswith("epoch: 0 - MSE: ")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_training_that_diverges_does_so_in_the_same_epoch(dtype: torch.dtype) -> None:
    x, y = data(100, 6, 3, dtype)
    plain, swept = (
        model(kernel, 6, 3, dtype).fit(x, y, 40, 1e4, 33, x, y) for kernel in ("matmul", "one_pass")
    )
    finite = [
        [(math.isfinite(epoch.mse), math.isfinite(epoch.mse_valid or 0.0)) for epoch in history]
        for history in (plain, swept)
    ]
    assert finite[0] == finite[1]
    assert finite[0][0][0]
    assert not finite[0][-1][0]


def test_an_epoch_is_one_call_of_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compiled(*case: Any, make: Callable[..., Any] = compiler.compile_kernel) -> Any:
        code = make(*case)

        def call(address: int) -> None:
            calls.append(case[0])
            code.call(address)

        return code._replace(call=call)

    monkeypatch.setattr(compiler, "compile_kernel", compiled)
    x, y = data(100, 6, 3)
    model("one_pass", 6, 3).fit(x, y, 5, 0.01, 3, x, y)
    assert calls == ["train", "loss"] * 5


def test_threads_share_the_rows_of_a_mini_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bind, "PART_FLOPS", 4 * 6 * 3 * 20)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    x, y = data(1_001, 6, 3)
    plain, swept = (model(kernel, 6, 3) for kernel in ("matmul", "one_pass"))
    assert [bind.thread_count(rows, 6, 3) for rows in (1, 100, 1_001)] == [1, 3, 3]
    agree(swept, swept.fit(x, y, 3, 0.01, 100, x, y), plain, plain.fit(x, y, 3, 0.01, 100, x, y))


@pytest.mark.parametrize("kernel", SWEPT)
def test_it_takes_any_memory_and_writes_to_none(kernel: str) -> None:
    x, y = data(50, 6, 3)
    expected = model(kernel, 6, 3)
    expected.fit(x, y, 2, 0.1, 7, x, y)
    for given in (x.T.contiguous().T, torch.cat([x, x], 1)[:, :6], x.clone().requires_grad_()):
        before, found = given.detach().clone(), model(kernel, 6, 3)
        found.fit(given, y, 2, 0.1, 7, given, y)
        assert torch.equal(found.w, expected.w)
        assert torch.equal(given.detach(), before)


def test_a_bad_argument_changes_nothing() -> None:
    (x, y), swept = data(50, 6, 3), model("one_pass", 6, 3)
    before = swept.w.clone()
    x[3, 2] = math.nan
    with pytest.raises(ValueError, match=re.escape("NaN or infinity in 1 of 300 elements")):
        swept.fit(x, y, 1, 0.1, 7)
    assert torch.equal(swept.w, before)


def test_numbers_are_finite_though_their_sum_is_not() -> None:
    x = torch.full((100, 6), 1e37)
    assert not math.isfinite(x.sum().item())
    model("one_pass", 6, 3, torch.float32).predict(x)


def test_an_interrupt_leaves_the_epochs_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), found, expected = data(50, 6, 3), model("one_pass", 6, 3), model("one_pass", 6, 3)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupt)
    with pytest.raises(KeyboardInterrupt):
        found.fit(x, y, 3, 0.1, 7, verbose=True)
    expected.fit(x, y, 1, 0.1, 7)
    assert torch.equal(found.w, expected.w)


@pytest.mark.parametrize("kernel", SWEPT)
def test_batches_train_as_rows_in_memory_do(kernel: str) -> None:
    """And the model's parameters are those of the batches before, whoever looks in between."""
    (x, y), seen = data(100, 6, 3), []
    whole, batched = model(kernel, 6, 3), model(kernel, 6, 3)

    class Looking:
        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for pair in zip(x.split(33), y.split(33), strict=True):
                seen.append(batched.w.clone())
                yield pair

    expected = whole.fit(x, y, 2, 0.05, 33, x, y)
    found = batched.fit_batches(Looking(), 2, 0.05, x, y)
    agree(batched, found, whole, expected)
    assert len({tuple(w.flatten().tolist()) for w in seen}) == 8


def test_a_model_that_computes_otherwise_is_not_swept() -> None:
    class Clipped(LinearRegression):
        def update(self, *given: Any) -> None:
            super().update(*given)
            self.w.clamp_(-0.01, 0.01)

    clipped = Clipped(6, 3, kernel="one_pass", dtype="float64")
    assert not clipped.in_one_pass(33)
    clipped.fit(*data(100, 6, 3), 2, 0.1, 33)
    assert float(clipped.w.abs().max()) <= 0.01


def test_auto_sweeps_where_auto_step_does(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = model("auto", 6, 3)
    fits = get_kernel("auto_fit")
    case = Case("fit", "cpu", "float64", 33, 6, 3)
    assert select_kernel(Case("step", "cpu", "float64", 33, 6, 3)).name == "one_pass_step"
    assert auto.in_one_pass(33)
    assert fits.predicted_peak_bytes(case) == get_kernel("one_pass_fit").predicted_peak_bytes(case)
    monkeypatch.setattr("mlr.dispatch.select_kernel", lambda case: get_kernel("fused_addmm"))
    assert not auto.in_one_pass(33)
    plain = get_kernel("LinearRegression")
    assert fits.predicted_peak_bytes(case) == plain.predicted_peak_bytes(case)
    assert not model("matmul", 6, 3).in_one_pass(33)


def test_a_target_takes_the_change_and_the_parameters_stay() -> None:
    x, y = data(50, 6, 3)
    held = Gradient(torch.randn(6, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64))
    before = Gradient(*(value.clone() for value in held))
    target = Gradient(*map(torch.zeros_like, held))
    residual = x @ held.weight + held.bias - y
    for _ in range(2):  # what it adds, it adds
        loss = fit.bind_epoch(x, y, held, -1.0, 50, target)()
    assert loss == pytest.approx(residual.square().mean().item(), rel=1e-13)
    torch.testing.assert_close(target.weight, 2 * 2 / y.numel() * x.T @ residual)
    torch.testing.assert_close(target.bias, 2 * 2 / y.numel() * residual.sum(0))
    assert all(map(torch.equal, held, before))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_lies_around_the_rows_is_not_in_the_loss(dtype: torch.dtype) -> None:
    for (n, o), m in product(SIZES, (1, 9, 33, 512)):
        around, behind = (torch.full((m + 20, k), torch.nan, dtype=dtype) for k in (n, o))
        x, y = around[10:-10], behind[10:-10]
        x.normal_()
        y.normal_()
        parameters = Gradient(x.new_full((n, o), 0.1), x.new_zeros(o))
        expected = (x.double() @ parameters.weight.double() - y.double()).square().mean().item()
        measure = fit.bind_loss(x, y, parameters)
        assert [measure(), measure()] == pytest.approx([expected] * 2, rel=1e-4)
        fit.bind_epoch(x, y, parameters, 0.01, 4)()
        assert all(bool(torch.isfinite(value).all()) for value in parameters)


@pytest.mark.parametrize("name", ["one_pass_fit", "auto_fit"])
def test_a_fit_holds_nothing_that_grows_with_its_rows(name: str) -> None:
    kernel = get_kernel(name)
    few, many = (
        measure_memory(kernel, Case("fit", "cpu", "float64", m, 6, 3)).peak_bytes for m in (33, 999)
    )
    assert few is not None
    assert few == many < 2_000


def test_bound_calls_keep_what_they_read() -> None:
    """The tensors that a call was bound to may be forgotten elsewhere."""
    x, y = data(100, 6, 3)
    expected = fit.bind_loss(x, y, Gradient(x.new_zeros(6, 3), x.new_zeros(3)))()
    measure = fit.bind_loss(
        x.T.contiguous().T, y.clone(), Gradient(x.new_zeros(6, 3), x.new_zeros(3))
    )
    noise = partial(torch.full, (100, 6), math.nan, dtype=torch.float64)
    kept = [noise() for _ in range(50)]
    assert measure() == pytest.approx(expected, rel=1e-15)
    assert len(kept) == 50
