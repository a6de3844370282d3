"""mape: the definition, element by element, and what it refuses."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlr import mape

FINITE = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


def test_by_hand():
    pred, true = torch.tensor([[1.0, 2.0], [3.0, -5.0]]), torch.tensor([[2.0, 2.0], [4.0, -4.0]])
    assert mape(pred, true) == pytest.approx(100 * (0.5 + 0 + 0.25 + 0.25) / 4)


def test_true_zero_counts_pred():
    assert mape(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 3.0])) == pytest.approx(25.0)
    assert mape(-0.5, 0.0) == pytest.approx(50.0)
    assert mape(torch.zeros(2), torch.zeros(2)) == 0


@pytest.mark.parametrize(("pred", "true"), [(1.0, 2.0), (1, 2), (1, 2.0)])
def test_numbers(pred, true):
    assert mape(pred, true) == pytest.approx(50.0)


def test_integers_do_not_wrap():
    pred, true = torch.tensor([1], dtype=torch.uint8), torch.tensor([2], dtype=torch.uint8)
    assert mape(pred, true) == pytest.approx(50.0)


def test_scalar_tensor_of_half_precision_and_gradients():
    pred = torch.tensor(60000.0, dtype=torch.float16, requires_grad=True)
    assert mape(pred, torch.tensor(30000.0)) == pytest.approx(100.0, rel=1e-3)


def test_nan_is_not_hidden():
    assert math.isnan(mape(torch.tensor([1.0, math.nan]), torch.ones(2)))
    assert math.isnan(mape(torch.ones(2), torch.tensor([1.0, math.nan])))


COMPLEX = torch.ones(1, dtype=torch.complex64)


@pytest.mark.parametrize("pair", [(torch.ones(1), 1.0), (1.0, torch.ones(1)), (COMPLEX, COMPLEX)])
def test_what_is_no_pair_of_real_values_is_a_type_error(pair):
    with pytest.raises(TypeError, match="two real tensors or two numbers"):
        mape(*pair)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((1, 3), (2, 3)), ((3,), (3, 1))])
def test_shapes_are_named_and_never_broadcast(shapes):
    with pytest.raises(ValueError, match="one shape") as caught:
        mape(torch.ones(shapes[0]), torch.ones(shapes[1]))
    assert all(str(shape) in str(caught.value) for shape in shapes)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0)])
def test_no_element_is_an_error(shape):
    with pytest.raises(ValueError, match="at least 1 element"):
        mape(torch.ones(shape), torch.ones(shape))


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=20))
def test_against_a_plain_sum(pairs):
    terms = [abs(p) if t == 0 else abs(p - t) / abs(t) for p, t in pairs]
    pred, true = torch.tensor(pairs, dtype=torch.float64).T
    assert mape(pred, true) == pytest.approx(100 * math.fsum(terms) / len(terms))
