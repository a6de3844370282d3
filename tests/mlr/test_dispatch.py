"""What `auto` takes, and what a user calls on tensors of their own."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from choices import forget_choices

import mlr
from mlr import Case, Gradient, dispatch, get_kernel, tuning
from mlr.one_pass import bind
from mlr.one_pass import compile as compiler
from mlr.one_pass.codegen import AVX

F64 = torch.float64


@pytest.fixture(autouse=True)
def rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the rule lies in these tests; nothing chosen before counts."""
    path = tmp_path / "tuning.json"
    monkeypatch.setenv(tuning.TABLE_VARIABLE, str(path))
    forget_choices()
    return path


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output leaves a vector too empty for one pass, whatever machine this is."""
    monkeypatch.setattr(compiler, "target", lambda: AVX)


def write(path: Path, *fastest: list[Any], **changed: Any) -> None:
    rule = {"of": tuning.hardware(), "part_flops": None, "fastest": fastest}
    path.write_text(json.dumps(rule | changed))


def case(m: int, n: int, o: int, operation: str = "step", device: str = "cpu") -> Case:
    return Case(operation, device, "float64", m, n, o)


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (case(33, 6, 3), "one_pass_step"),
        (case(33, 6, 3, "gradient"), "one_pass"),
        (case(100_000, 256, 64), "one_pass_step"),
        (case(100_000, 256, 64, "gradient"), "one_pass"),
        (case(100, 64, 64, "gradient"), "one_pass"),
        (case(100, 256, 64, "gradient"), "matmul"),
        (case(100, 16, 4_096, "gradient"), "matmul"),
        (case(100, 256, 64, "gradient", "cuda"), "matmul"),
        (case(50, 2_000, 1), "fused_addmm"),
        (case(100_000, 2_000, 1), "blocked"),
        (case(100_000, 2_000, 1, "gradient"), "matmul"),
        (case(33, 6, 3, device="cuda"), "fused_addmm"),
        (case(100_000, 256, 64, device="cuda"), "fused_addmm"),
        (case(100_000, 2_000, 1, device="cuda"), "fused_addmm"),
    ],
)
def test_without_a_rule_the_default_is_taken(wanted: Case, name: str) -> None:
    assert dispatch.select_kernel(wanted).name == name


def test_a_rule_is_followed_near_what_was_measured_and_nowhere_else(rule: Path) -> None:
    write(rule, ["step", "cpu", "float64", 1_000, 6, 3, "kron_update"],
          ["step", "cpu", "float64", 100_000, 6, 3, "matmul_update"])  # fmt: skip
    assert dispatch.select_kernel(case(900, 6, 3)).name == "kron_update"
    assert dispatch.select_kernel(case(60_000, 6, 3)).name == "matmul_update"
    assert dispatch.select_kernel(case(33, 6, 3)).name == "one_pass_step"  # too far from both
    assert dispatch.select_kernel(case(1_000, 6, 3, "gradient")).name == "one_pass"
    assert (
        dispatch.select_kernel(Case("step", "cpu", "float32", 1_000, 6, 3)).name == "one_pass_step"
    )


def test_a_rule_of_another_machine_is_not_followed(rule: Path) -> None:
    measured = ["step", "cpu", "float64", 33, 6, 3, "kron_update"]
    write(rule, measured, of=tuning.hardware() | {"cpu": "another"})
    assert dispatch.select_kernel(case(33, 6, 3)).name == "one_pass_step"


def test_no_gpu_is_asked_for_where_a_call_is_on_the_cpu(
    rule: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That would start CUDA, which a forked process cannot start a second time."""
    measured = ["step", "cpu", "float64", 33, 6, 3, "kron_update"]
    write(rule, measured, of={"cpu": tuning.processor(), "gpu": "another"})
    for name in ("is_available", "device_count", "get_device_name", "current_device"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: pytest.fail(name))
    assert dispatch.select_kernel(case(33, 6, 3)).name == "kron_update"
    assert bind.thread_count(33, 6, 3) == 1


def test_a_rule_of_another_gpu_is_not_followed_on_this_one(
    rule: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"cuda": "A100", "cuda:0": "A100", "cuda:1": "H100"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", here.get)
    measured = ["step", "cuda", "float64", 33, 6, 3, "kron_update"]
    write(rule, measured, of={"cpu": tuning.processor(), "gpu": "H100"})
    chosen = {name: dispatch.select_kernel(case(33, 6, 3, device=name)).name for name in here}
    assert chosen == {"cuda": "fused_addmm", "cuda:0": "fused_addmm", "cuda:1": "kron_update"}


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("name", ["unheard_of", "auto_step", "one_pass_step", "torch_nn"])
def test_a_rule_that_names_what_cannot_be_taken_is_passed_over(rule: Path, name: str) -> None:
    """One that is gone, `auto` itself, one that does not take the case or works on no tensors."""
    write(rule, ["step", "cpu", "float64", 100, 2_000, 1, name],
          ["step", "cpu", "float64", 200, 2_000, 1, "kron_update"])  # fmt: skip
    assert dispatch.select_kernel(case(100, 2_000, 1)).name == "kron_update"


def test_a_rule_says_from_what_on_a_part_is_worth_a_thread(
    rule: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    write(rule, part_flops=1_000_000)
    assert [bind.thread_count(m, 5, 10) for m in (9_999, 10_000, 19_999, 10**6)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"of": {}, "fastest": [], "part_flops": 0}',
             '{"fastest": 3}', '{"of": {}, "fastest": [[1, 2]]}', "\x00",
             '{"of": {}, "fastest": [["step", "cpu", "float64", 0, "x", 1, []]]}'],
)  # fmt: skip
def test_a_file_that_is_no_rule_is_told_and_not_used(rule: Path, text: str) -> None:
    rule.write_text(text)
    with pytest.warns(UserWarning, match="is none") as told:
        assert dispatch.select_kernel(case(33, 6, 3)).name == "one_pass_step"
    assert "\n" not in str(told[0].message)


def test_auto_costs_what_the_kernel_costs_that_it_takes(rule: Path) -> None:
    write(rule, ["step", "cpu", "float64", 33, 6, 3, "kron_update"])
    auto, taken = get_kernel("auto_step"), get_kernel("kron_update")
    assert auto.predicted_peak_bytes(case(33, 6, 3)) == taken.predicted_peak_bytes(case(33, 6, 3))
    assert auto.predicted_flops(case(33, 6, 3)) == taken.predicted_flops(case(33, 6, 3))


def drawn(m: int = 40, n: int = 5, o: int = 3) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(1)
    shapes = {"x": (m, n), "y": (m, o), "weight": (n, o), "bias": (o,)}
    return {
        name: torch.randn(*shape, generator=source, dtype=torch.float64)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("kernel", ["auto", "matmul", "one_pass", "autograd"])
def test_a_gradient_of_ones_own_tensors(kernel: str) -> None:
    x, y, *_ = drawn().values()
    found = mlr.gradient(x, y, kernel)
    assert isinstance(found, Gradient)
    torch.testing.assert_close(found.weight, x.T @ y)
    torch.testing.assert_close(found.bias, y.sum(0))


def step_by_torch(layer: torch.nn.Linear, x: torch.Tensor, y: torch.Tensor) -> None:
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    optimiser.zero_grad()
    torch.nn.functional.mse_loss(layer(x), y).backward()
    optimiser.step()


@pytest.mark.parametrize("kernel", ["auto_step", "one_pass_step", "fused_addmm", "blocked"])
def test_steps_on_ones_own_tensors(kernel: str) -> None:
    held = drawn()
    x, y, weight, bias = held.values()
    layer = torch.nn.Linear(5, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight.T)
        layer.bias.copy_(bias)
    call = mlr.bind_step(**held, lr=0.1, kernel=kernel)
    for step in (call, call, call, partial(mlr.step, **held, lr=0.1, kernel=kernel)):
        step()
        step_by_torch(layer, x, y)
    torch.testing.assert_close(weight, layer.weight.T)
    torch.testing.assert_close(bias, layer.bias)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"y": torch.zeros(39, 3, dtype=F64)}, "as many rows"),
        ({"y": torch.zeros(40, dtype=F64)}, r"y must have shape \(rows, outputs\); got \(40,\)"),
        ({"x": torch.full((40, 5), torch.nan, dtype=F64)}, "must be finite"),
        ({"x": torch.zeros(5, 40, dtype=F64).T}, r"x must be contiguous .* call .contiguous\(\)"),
        ({"weight": torch.zeros(3, 5, dtype=F64)}, r"shape \(5, 3\) = \(in, out\); got \(3, 5\)"),
        ({"weight": torch.zeros(6, 3, dtype=F64)}, r"\(6, 3\); nn.Linear stores \(out, in\)"),
        ({"weight": torch.zeros(3, 5, dtype=F64).T}, r"own contiguous \(in, out\) memory"),
        ({"weight": torch.zeros(5, 3)}, "weight must be torch.float64 on cpu like x; got"),
        ({"bias": torch.zeros(3)}, "bias must be torch.float64 on cpu like x"),
        ({"bias": torch.zeros(1, 3, dtype=F64)}, r"shape \(3,\) = \(out,\); got \(1, 3\)"),
        ({"bias": torch.zeros(3, 2, dtype=F64)[:, 0]}, "bias must own contiguous memory"),
        ({"bias": None}, r"bias must be a tensor of shape \(3,\); got None; a"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"kernel": "matmul"}, "of operation step is needed"),
        ({"kernel": "none"}, "unknown kernel"),
        ({"kernel": "torch_nn"}, "keeps parameters of its own"),
    ],
)
def test_a_mistake_is_one_line(changed: dict[str, Any], said: str, as_users_call_it: None) -> None:
    with pytest.raises(ValueError, match=said) as error:
        mlr.bind_step(**{**drawn(), "lr": 0.1, **changed})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kernel", ["auto_step", "fused_addmm", "blocked"])
def test_a_layer_is_trained_as_the_message_says(kernel: str) -> None:
    """What is told of the layer's own weight is followed to the letter and trains the layer."""
    x, y, *_ = drawn().values()
    layer, other = (torch.nn.Linear(5, 3, dtype=torch.float64) for _ in range(2))
    other.load_state_dict(layer.state_dict())
    with pytest.raises(ValueError, match="own contiguous") as error:
        mlr.bind_step(x, y, layer.weight.T, layer.bias, 0.1, kernel)
    assert "w = layer.weight.detach().T.contiguous(), and" in str(error.value)
    w = layer.weight.detach().T.contiguous()
    mlr.step(x, y, w, layer.bias, 0.1, kernel)
    assert "layer.weight.copy_(w.T) under torch.no_grad()" in str(error.value)
    with torch.no_grad():
        layer.weight.copy_(w.T)
    step_by_torch(other, x, y)
    torch.testing.assert_close(layer.weight, other.weight)
    torch.testing.assert_close(layer.bias, other.bias)


@pytest.mark.parametrize(
    ("x", "delta", "said"),
    [
        ((100, 5), (100,), r"delta must have shape \(rows, outputs\); got \(100,\); .*unsqueeze"),
        ((5,), (100, 3), r"x must have shape \(rows, features\); got \(5,\)"),
        ((100, 5), (99, 3), "x and delta must have as many rows"),
    ],
)
def test_a_gradient_says_what_shape_it_needs(
    x: tuple[int, ...], delta: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        mlr.gradient(torch.zeros(x), torch.zeros(delta))


def test_a_model_takes_what_is_fastest() -> None:
    x, y, *_ = drawn(100).values()
    losses = []
    for kernel in ("auto", "matmul"):
        source = torch.Generator().manual_seed(3)
        model = mlr.LinearRegression(5, 3, kernel=kernel, dtype="float64", generator=source)
        losses.append(model.fit(x, y, epochs=3, lr=0.1, batch_size=10)[-1].mse)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
