"""The three models: agreement with torch.nn, the arithmetic of one step, and what is refused."""

import re
from itertools import product

import pytest
import torch
from torch import nn

from mlr import (
    EinsumLinearRegression,
    LinearRegression,
    TorchLinearRegression,
    load_dataset,
    make_dataset,
    mape,
)
from mlr.one_pass import compile as compiler
from mlr.one_pass.codegen import AVX

F64 = torch.float64
SCRATCH = [LinearRegression, EinsumLinearRegression]
MODELS = [*SCRATCH, TorchLinearRegression]
PERCENT = 1e-12


def trained_apart(model_class, data, seed):
    """MAPE of weight, bias and predictions against a torch.nn written out here, in percent."""
    n, o = data.x_train.shape[1], data.y_train.shape[1]
    start = TorchLinearRegression(n, o, dtype=F64, generator=torch.Generator().manual_seed(seed))
    model = model_class(n, o, dtype=F64)
    model.copy_params(start.layer)
    layer, loss = start.layer, nn.MSELoss()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.01)
    for _ in range(16):
        for first in range(0, len(data.x_train), 33):
            optimiser.zero_grad()
            rows = slice(first, first + 33)
            loss(layer(data.x_train[rows]), data.y_train[rows]).backward()
            optimiser.step()
    model.fit(data.x_train, data.y_train, 16, 0.01, 33, data.x_valid, data.y_valid)
    with torch.no_grad():
        pred = layer(data.x_valid)
    return {
        "weight": mape(model.weight, layer.weight.detach().T),
        "bias": mape(model.bias, layer.bias.detach()),
        "predictions": mape(model.predict(data.x_valid), pred),
    }


AGREED = [
    *product(("made", "linnerud"), MODELS, (0, 1)),
    ("digits", LinearRegression, 0),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            *product(("made", "linnerud"), MODELS, range(2, 10)),
            ("digits", EinsumLinearRegression, 0),  # 704 Jacobians of 33·64·10² numbers
            ("digits", TorchLinearRegression, 0),
            *product(("digits",), (LinearRegression,), range(1, 10)),
        ]
    ),
]


@pytest.mark.parametrize(("data", "model_class", "seed"), AGREED)
def test_agreement_with_torch_nn(data, model_class, seed):
    rows = make_dataset(seed=seed) if data == "made" else load_dataset(data, seed=seed)
    apart = trained_apart(model_class, rows, seed)
    assert max(apart.values()) <= PERCENT, apart


def small(model_class, **options):
    model = model_class(2, 1, dtype=F64, **options)
    layer = nn.Linear(2, 1, dtype=F64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0]]))
        layer.bias.fill_(0.5)
    model.copy_params(layer)
    return model


X = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 2.0]], dtype=F64)
Y = torch.tensor([[0.5], [0.5], [0.0]], dtype=F64)


@pytest.mark.parametrize("model_class", MODELS)
def test_one_step_by_hand(model_class):
    # Ŷ = (-0.5, -0.5, -1.5), Ŷ-Y = (-1, -1, -1.5); the first two rows are the first batch:
    # δ = 2/2·(-1, -1), ∂L/∂W = (-4, -6), ∂L/∂b = -2; η = 1/8
    model = small(model_class)
    weight, bias = model.weight, model.bias  # views of what training changes
    history = model.fit(X[:2], Y[:2], 1, 0.125, 2)
    assert history[0].mse == 1.0
    assert history[0].mse_valid is None
    assert weight.tolist() == [[1.5], [-0.25]]
    assert bias.tolist() == [0.75]


@pytest.mark.parametrize("model_class", MODELS)
def test_short_last_batch_is_used_and_losses_precede_updates(model_class):
    # After the step above the third row gives 2·(-0.25) + 0.75 = 0.25: loss 1/16 before its
    # update, δ = 2·0.25, ∂L/∂W = (0, 1), ∂L/∂b = 0.5.
    model = small(model_class)
    history = model.fit(X, Y, 1, 0.125, 2, X[:1], Y[:1])
    assert history[0].mse == (1.0 + 0.0625) / 2
    assert model.weight.tolist() == [[1.5], [-0.375]]
    assert model.bias.tolist() == [0.6875]
    assert history[0].mse_valid == (1.5 - 0.75 + 0.6875 - 0.5) ** 2


@pytest.mark.parametrize("model_class", MODELS)
def test_batch_larger_than_the_data(model_class):
    whole, larger = small(model_class), small(model_class)
    whole.fit(X, Y, 2, 0.1, 3)
    larger.fit(X, Y, 2, 0.1, 1000)
    assert torch.equal(whole.weight, larger.weight)


@pytest.mark.parametrize("model_class", MODELS)
def test_evaluate_by_hand(model_class):
    assert small(model_class).evaluate(X, Y) == pytest.approx((1 + 1 + 2.25) / 3, rel=1e-15)


@pytest.mark.parametrize("model_class", SCRATCH)
def test_update_is_in_place_and_mse_loss_a_number(model_class):
    model = small(model_class)
    w, b = model.w, model.b
    loss = model.mse_loss(Y[:2], model.predict(X[:2]))
    model.update(X[:2], Y[:2], model.predict(X[:2]), 0.125)
    assert type(loss) is float
    assert loss == 1.0
    assert model.w is w
    assert model.b is b
    assert w.tolist() == [[1.5], [-0.25]]


@pytest.mark.parametrize("model_class", MODELS)
def test_copy_params_copies_and_predicts_the_very_same_bits(model_class):
    layer = nn.Linear(7, 5, dtype=F64)
    model = model_class(7, 5, dtype=F64)
    model.copy_params(layer)
    x = torch.randn(11, 7, dtype=F64, generator=torch.Generator().manual_seed(0))
    before = layer(x).detach()
    assert torch.equal(model.predict(x), before)
    with torch.no_grad():
        layer.weight.zero_()
    assert torch.equal(model.predict(x), before)
    assert not model.predict(x).requires_grad


@pytest.mark.parametrize("model_class", MODELS)
def test_parameters_come_from_the_generator_alone(model_class):
    state = torch.get_rng_state()
    one, two = (
        model_class(9, 4, dtype=F64, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.weight, two.weight)
    assert one.weight.abs().max() <= 1 / 3
    assert one.weight.abs().max() > 0.25


@pytest.mark.parametrize("model_class", MODELS)
def test_defaults_are_those_of_torch(model_class):
    assert model_class(2, 1).weight.dtype == torch.get_default_dtype()
    assert model_class(2, 1).bias.device == torch.get_default_device()


@pytest.mark.parametrize("model_class", MODELS)
def test_float32_trains_and_history_prints(model_class, capsys):
    data = make_dataset(n_samples=60, n_train=40, dtype="float32")
    model = model_class(6, 3, dtype=torch.float32)
    history = model.fit(*data[:2], 3, 0.01, 16, *data[2:], verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == str(history).splitlines() == [str(epoch) for epoch in history]
    assert lines[2] == f"epoch: 2 - MSE: {history[2].mse:.4f} - MSE_v: {history[2].mse_valid:.4f}"
    assert len(history) == 3
    model.fit(*data[:2], 1, 0.01, 16)
    assert capsys.readouterr().out == ""


def test_history_line_is_the_documented_one():
    from mlr.training import Epoch

    line = "epoch: 0 - MSE: 23450.5454 - MSE_v: 17270.5571"
    assert str(Epoch(0, 23450.54541, 17270.55709)) == line
    assert str(Epoch(3, 0.5)) == "epoch: 3 - MSE: 0.5000"


def test_torch_model_is_a_module():
    model = TorchLinearRegression(4, 2, dtype=F64)
    assert isinstance(model.layer, nn.Linear)
    assert {name for name, _ in model.named_parameters()} == {"layer.weight", "layer.bias"}
    assert model.forward(torch.ones(3, 4, dtype=F64)).requires_grad


ROWS, TARGETS = torch.ones(5, 3, dtype=F64), torch.ones(5, 2, dtype=F64)
HOLED = torch.tensor([[float("nan"), 1, 1], [1, float("inf"), 1], *[[1, 1, 1]] * 3], dtype=F64)


def fit(x=ROWS, y=TARGETS, epochs=1, lr=0.1, batch=2, *valid):
    return lambda model: model.fit(x, y, epochs, lr, batch, *valid)


def copy(*sizes, **options):
    return lambda model: model.copy_params(nn.Linear(*sizes, **{"dtype": F64, **options}))


def make(*sizes, **options):
    return lambda model: type(model)(*sizes, **options)


UNEQUAL = "must have as many rows as each other; "
LAYER = "copy_params needs a layer of "
BAD = [
    (fit(ROWS[:, :2]), "x_train must have shape (rows, 3); got (5, 2); "),
    (fit(y=TARGETS[:, :1]), "y_train must have shape (rows, 2); got (5, 1); "),
    (fit(y=TARGETS[:, 0]), "y_train must have shape (rows, 2); got (5,); "),
    (fit(y=TARGETS[:4]), f"x_train and y_train {UNEQUAL}got (5, 3) and (4, 2); "),
    (fit(ROWS[:0], TARGETS[:0]), "x_train must hold at least 1 row; got (0, 3); "),
    (fit(ROWS.float()), "x_train must be torch.float64 on cpu like the model; got torch.float32"),
    (fit(y=TARGETS.to("meta")), "y_train must be torch.float64 on cpu like the model; got"),
    (fit(HOLED), "x_train must be finite; got NaN or infinity in 2 of 15 elements; "),
    (fit(ROWS.numpy()), "x_train must be a tensor; got ndarray; "),
    (fit(epochs=0), "epochs must be an integer at least 1; got 0; "),
    (fit(lr=float("nan")), "lr must be a finite number; got nan; "),
    (fit(lr=0.0), "lr must be above 0; got 0.0; "),
    (fit(batch=0), "batch_size must be an integer at least 1; got 0; "),
    (fit(ROWS, TARGETS, 1, 0.1, 2, ROWS), "x_valid and y_valid go together; got one of them; "),
    (fit(ROWS, TARGETS, 1, 0.1, 2, HOLED, TARGETS), "x_valid must be finite; "),
    (lambda model: model.predict(ROWS[:, :1]), "x must have shape (rows, 3); got (5, 1); "),
    (lambda model: model.evaluate(ROWS, TARGETS[:2]), f"x and y_true {UNEQUAL}"),
    (copy(2, 2), f"{LAYER}3 → 2 features with bias; got Linear(in_features=2"),
    (copy(3, 2, bias=False), f"{LAYER}3 → 2 features with bias; got Linear(in_features=3,"),
    (copy(3, 2, dtype=torch.float32), f"{LAYER}the model's dtype torch.float64; got torch.float3"),
    (make(0, 2), "n_features must be an integer at least 1; got 0; "),
    (make(3, 2.0), "out_features must be an integer at least 1; got 2.0; "),
    (make(3, 2, device="tpu"), "a device is cpu, cuda or cuda:N; got 'tpu'; "),
    (make(3, 2, dtype="int8"), "a dtype is one of float16, bfloat16, float32, float64; got 'int8'"),
]


@pytest.mark.parametrize("model_class", MODELS)
def test_bad_input_is_one_line_and_changes_nothing(model_class, as_users_call_it):
    model = model_class(3, 2, dtype=F64)
    before = model.weight.clone()
    for attempt, answer in BAD:
        with pytest.raises(ValueError, match=re.escape(answer)) as caught:
            attempt(model)
        assert "\n" not in str(caught.value)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"kernel": "magic"}, "unknown kernel 'magic'; known: "),
        (
            {"kernel": "torch_nn"},
            "a model takes a kernel of operation gradient; 'torch_nn' is of operation step; ",
        ),
        (
            {"dtype": "float16"},
            "kernel 'matmul' takes float32, float64 on cpu, cuda; got float16 on cpu; ",
        ),
    ],
)
def test_a_kernel_that_serves_no_model_is_one_line(options, answer):
    with pytest.raises(ValueError, match=re.escape(answer)):
        LinearRegression(3, 2, **options)


def test_a_kernel_that_is_not_made_for_the_sizes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiler, "target", lambda: AVX)
    with pytest.raises(
        ValueError, match="a model takes a kernel for its sizes; 'one_pass' is none"
    ):
        LinearRegression(2_000, 1, kernel="one_pass")
    model = LinearRegression(6, 3, kernel="one_pass", dtype="float64")
    assert model.kernel.name == "one_pass"


@pytest.mark.parametrize("model_class", SCRATCH)
def test_a_model_shows_the_call_that_makes_it(model_class):
    model = model_class(6, 3, kernel="einsum", dtype=torch.float32)
    assert repr(model) == (
        f"{model_class.__name__}(n_features=6, out_features=3, kernel='einsum', dtype='float32', "
        "device='cpu')"
    )
    again = eval(repr(model))
    assert repr(again) == repr(model)
    assert (again.w.shape, again.w.dtype) == (model.w.shape, model.w.dtype)


def test_the_torch_model_shows_itself_as_modules_do():
    model = TorchLinearRegression(6, 3, dtype=F64)
    assert repr(model).splitlines() == [
        "TorchLinearRegression(",
        "  n_features=6, n_out_features=3, dtype='float64', device='cpu'",
        "  (layer): Linear(in_features=6, out_features=3, bias=True)",
        "  (loss): MSELoss()",
        ")",
    ]
    assert "(0): TorchLinearRegression(\n    n_features=6" in repr(nn.Sequential(model))
