"""A training by compiled sweeps: the plain one's history, whatever the sizes, rows and losses."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from choices import forget_choices

from bench.measure.memory import measure_memory
from mlr import Case, Gradient, History, LinearRegression, TorchLinearRegression, get_kernel
from mlr.dispatch import select_kernel
from mlr.one_pass import bind, fit
from mlr.one_pass import compile as compiler
from mlr.one_pass.codegen import AVX, AVX512, SSE, RowVectorised, Target, layout

DTYPES = [torch.float32, torch.float64]
# One layout of outputs, of rows (of float32), of features side by side, and of tiles, full or not.
SIZES = [(6, 3), (16, 8), (64, 16), (31, 3), (40, 1), (130, 9)]
FEW = [(6, 3), (31, 3), (130, 9)]
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
    for size, dtype in product(FEW, DTYPES):
        x, y = data(100, *size, dtype)
        plain, swept = (model(kernel, *size, dtype) for kernel in ("matmul", "one_pass"))
        agree(swept, swept.fit(x, y, 2, 0.001, 33, x, y),
              plain, plain.fit(x, y, 2, 0.001, 33, x, y))  # fmt: skip


def test_rows_in_lanes_agree_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "target", lambda: AVX512)
    assert isinstance(layout(500, 6, 3, "float32", AVX512), RowVectorised)
    if "avx512f" not in compiler.llvm().get_host_cpu_features().flatten():
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


@pytest.mark.parametrize(
    ("epochs", "options", "expected"),
    [
        (32, {}, ["train", "losses"] * 2),
        (17, {}, ["train", "losses", "train", "loss"]),
        (3, {}, ["train", "loss"] * 3),
        (16, {"verbose": True}, ["train", "loss"] * 16),
    ],
)
def test_epochs_are_one_call_of_compiled_code(
    epochs: int, options: dict[str, bool], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen of them; each one where it is printed as it ends."""
    calls = []

    def compiled(*case: Any, make: Callable[..., Any] = compiler.compile_kernel) -> Any:
        code = make(*case)

        def call(*arguments: Any) -> None:
            calls.append(case[0])
            code.call(*arguments)

        return code._replace(call=call)

    monkeypatch.setattr(compiler, "compile_kernel", compiled)
    x, y = data(100, 6, 3)
    history = model("one_pass", 6, 3).fit(x, y, epochs, 0.01, 3, x, y, **options)
    assert [epoch.number for epoch in history] == [*range(epochs)]
    assert calls == expected


BY_DAY = {AVX512: [*SIZES, (5, 2), (3, 33)], AVX: FEW, SSE: []}
TARGETS_AND_SIZES = [
    pytest.param(target, size, id=f"{target.vector_bytes}-{size}",
                 marks=[] if size in by_day else pytest.mark.slow)
    for target, by_day in BY_DAY.items() for size in BY_DAY[AVX512]
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("target", "size"), TARGETS_AND_SIZES)
def test_the_losses_of_many_epochs_are_those_of_each(
    target: Target, size: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the size of the vectors, with rows left over after tiles and blocks of them."""
    if target == AVX512 and compiler.target().vector_bytes < AVX512.vector_bytes:
        pytest.skip("no vectors of 64 bytes")
    monkeypatch.setattr(compiler, "target", lambda: target)
    monkeypatch.setattr(compiler, "compile_kernel", compiler.compile_kernel.__wrapped__)
    (x, y), lr = data(100, *size, dtype), 0.01 / size[0]
    for rows in (1, 7, 240, 491):
        held = data(rows, *size, dtype, seed=rows)
        plain, swept = (model(kernel, *size, dtype) for kernel in ("matmul", "one_pass"))
        agree(swept, swept.fit(x, y, 33, lr, 33, *held),
              plain, plain.fit(x, y, 33, lr, 33, *held))  # fmt: skip


def test_a_long_training_can_be_interrupted_between_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What takes longer than a tenth of a second is no single call."""
    x, y = data(100, 6, 3)
    expected = model("one_pass", 6, 3)
    expected.fit(x, y, 20, 0.01, 33)
    monkeypatch.setattr(fit, "_MOST_FLOPS", 1)
    assert not fit.trains_together(100, 6, 3, 33, 16)
    found, calls = model("one_pass", 6, 3), 0

    def interrupted(*given: Any, make: Callable[..., Any] = fit.bind_epoch) -> Any:
        run = make(*given)

        def run_epoch() -> float:
            nonlocal calls
            calls += 1
            if calls == 21:
                raise KeyboardInterrupt
            return run()

        return run_epoch

    monkeypatch.setattr(fit, "bind_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found.fit(x, y, 40, 0.01, 33)
    assert torch.equal(found.w, expected.w)


def test_threads_share_the_rows_of_a_mini_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bind, "PART_FLOPS", 4 * 6 * 3 * 20)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    x, y = data(1_001, 6, 3)
    plain, swept = (model(kernel, 6, 3) for kernel in ("matmul", "one_pass"))
    assert [bind.thread_count(rows, 6, 3) for rows in (1, 100, 1_001)] == [1, 3, 3]
    agree(swept, swept.fit(x, y, 3, 0.01, 100, x, y), plain, plain.fit(x, y, 3, 0.01, 100, x, y))
    assert fit.trains_together(50, 6, 3, 10, 16)
    assert fit.losses_threads(1_001, 6, 3) == 3
    few = x[:50], y[:50], 16, 0.01, 10, x, y
    agree(swept, swept.fit(*few), plain, plain.fit(*few))


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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["x_train", "y_train", "x_valid", "y_valid"])
@pytest.mark.parametrize(("epochs", "verbose"), [(1, False), (16, False), (16, True)])
def test_a_bad_number_changes_and_prints_nothing(
    epochs: int, verbose: bool, name: str, bad: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever it is, and though the training sees it only in its losses."""
    for row, weight in product((0, 49), (0.0, 1.0)):
        swept = model("one_pass", 6, 3)
        swept.w.fill_(weight)
        before = swept.w.clone(), swept.b.clone()
        given = dict(zip(("x_train", "y_train", "x_valid", "y_valid"), [*data(50, 6, 3)] * 2,
                         strict=True))  # fmt: skip
        given[name] = given[name].clone()
        given[name][row, -1] = bad
        size = given[name].numel()
        with pytest.raises(ValueError, match=f"{name} must be finite.*in 1 of {size} elements"):
            swept.fit(**given, epochs=epochs, lr=0.1, batch_size=7, verbose=verbose)
        assert all(map(torch.equal, (swept.w, swept.b), before))
    assert capsys.readouterr().out == ""


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
    forget_choices()
    monkeypatch.setattr("mlr.dispatch.select_kernel", lambda case: get_kernel("fused_addmm"))
    assert not auto.in_one_pass(33)
    plain = get_kernel("LinearRegression")
    assert fits.predicted_peak_bytes(case) == plain.predicted_peak_bytes(case)
    monkeypatch.undo()
    forget_choices()
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
    assert few == many < 8_000  # the parameters of 16 epochs, twice


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
