"""Data sets: sizes, seeds, standardisation, and what is refused."""

import pytest
import torch

from mlr import load_dataset, make_dataset
from mlr.data import standardise

SMALL = {"n_samples": 30, "n_train": 20}


def shapes(data):
    return [tuple(part.shape) for part in data]


def rows(x, y):
    return sorted(torch.cat([x, y], dim=1).tolist())


def test_default_sizes_and_dtype():
    data = make_dataset()
    assert shapes(data) == [(100, 6), (100, 3), (10_000, 6), (10_000, 3)]
    assert all(part.dtype == torch.float64 for part in data)
    assert all(part.is_contiguous() and part.isfinite().all() for part in data)


@pytest.mark.parametrize(("features", "targets"), [(1, 1), (1, 3), (6, 1), (2, 5)])
def test_sizes_down_to_one(features, targets):
    data = make_dataset(n_features=features, n_targets=targets, **SMALL)
    assert shapes(data) == [(20, features), (20, targets), (10, features), (10, targets)]


def test_reproducible_by_seed_whatever_the_global_state():
    torch.manual_seed(1)
    first = make_dataset(**SMALL, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again, other = make_dataset(**SMALL, seed=5), make_dataset(**SMALL, seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.x_train, other.x_train)


def test_dtype_changes_rounding_only():
    exact, rounded = make_dataset(**SMALL), make_dataset(**SMALL, dtype="float32")
    assert rounded.y_train.dtype == torch.float32
    assert torch.equal(exact.y_train.float(), rounded.y_train)


def test_noise_free_data_is_a_linear_map_with_the_bias():
    data = make_dataset(**SMALL, noise=0.0, bias=7.5)
    x = torch.cat([data.x_train, torch.ones(20, 1, dtype=torch.float64)], dim=1)
    solved = torch.linalg.lstsq(x, data.y_train).solution
    assert (solved[-1] - 7.5).abs().max() < 1e-10
    assert ((solved[:-1].abs() > 1e-9).any(1)).sum() == 5  # n_informative = n_features - 1


def test_bias_is_drawn_from_the_seed():
    def bias(seed):
        data = make_dataset(**SMALL, noise=0.0, seed=seed)
        x = torch.cat([data.x_train, torch.ones(20, 1, dtype=torch.float64)], dim=1)
        return torch.linalg.lstsq(x, data.y_train).solution[-1]

    drawn = [bias(seed) for seed in range(5)]
    assert len({round(float(each[0]), 6) for each in drawn}) == 5
    assert all((each - each[0]).abs().max() < 1e-9 and each.abs().max() <= 100 for each in drawn)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("linnerud", (16, 4, 3, 3)), ("digits", (1437, 360, 64, 10))],
)
def test_real_data(name, sizes):
    m, v, n, o = sizes
    data = load_dataset(name, seed=3)
    assert shapes(data) == [(m, n), (m, o), (v, n), (v, o)]
    x, y = torch.cat([data.x_train, data.x_valid]), torch.cat([data.y_train, data.y_valid])
    parts = [x, y] if name == "linnerud" else [x]
    for part in parts:
        deviation = part.std(0, correction=0)
        constant = deviation == 0
        assert part.mean(0).abs().max() < 1e-13
        assert (deviation[~constant] - 1).abs().max() < 1e-12
        assert int(constant.sum()) == (3 if name == "digits" else 0)
    if name == "digits":
        assert set(y.unique().tolist()) == {0.0, 1.0}
        assert (y.sum(1) == 1).all()


@pytest.mark.parametrize("name", ["linnerud", "digits"])
def test_real_data_is_shuffled_by_seed_and_no_row_is_lost(name):
    one, again, other = (load_dataset(name, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.x_train, again.x_train)
    assert not torch.equal(one.x_train, other.x_train)
    assert rows(torch.cat(one[::2]), torch.cat(one[1::2])) == rows(
        torch.cat(other[::2]), torch.cat(other[1::2])
    )


def test_a_constant_column_becomes_exact_zeros():
    values = torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]], dtype=torch.float64)
    assert standardise(values)[:, 0].tolist() == [0.0, 0.0, 0.0]


BAD = [
    ({"n_train": 30}, "n_train must be an integer from 1 to 29; got 30"),
    ({"n_train": 0}, "n_train must be"),
    ({"n_samples": 1}, "n_samples must be an integer at least 2; got 1"),
    ({"n_features": 0}, "n_features must be"),
    ({"n_targets": -1}, "n_targets must be"),
    ({"n_informative": 7}, "n_informative must be an integer from 1 to 6; got 7"),
    ({"noise": -1.0}, "noise must be a finite number of at least 0; got -1.0"),
    ({"bias": float("nan")}, "bias must be a finite number; got nan"),
    ({"seed": -1}, "seed must be an integer from 0 to 4294967295; got -1"),
    ({"device": "tpu"}, "a device is cpu, cuda or cuda:N; got 'tpu'"),
    ({"device": "cuda:99"}, "a CUDA device must exist and torch sees"),
    ({"device": torch.device("meta")}, "a device is cpu, cuda or cuda:N; got 'meta'"),
    ({"dtype": "float8"}, "a dtype is one of float16, bfloat16, float32, float64; got 'float8'"),
    ({"dtype": torch.int64}, "a dtype is one of"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(bad) for bad, _ in BAD])
def test_bad_input_is_one_line(options, message):
    with pytest.raises(ValueError, match=r"; (choose|use) ") as caught:
        make_dataset(**{**SMALL, **options})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_unknown_dataset_is_answered_with_the_valid_ones():
    with pytest.raises(ValueError, match="unknown dataset 'iris'; known: linnerud, digits"):
        load_dataset("iris")
