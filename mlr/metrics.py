"""How far apart two results are."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor

Value = Shaped[Tensor, "..."] | float | int


def mape(pred: Value, true: Value) -> float:
    """Return the mean absolute percentage error, in percent.

    100 · mean(|pred - true| / |true|); where an element of `true` is 0, its term is |pred|.
    Computed in float64 whatever the dtypes. NaN in either makes the result NaN.

    Shapes: two tensors of one shape, not empty, or two numbers.

    Raises:
        TypeError: For one tensor and one number, or what is neither, or complex tensors.
        ValueError: For tensors of two shapes or devices, or without elements.
    """
    got, expected = _real(pred, true), _real(true, pred)
    if got.shape != expected.shape:
        raise ValueError(
            f"mape compares tensors of one shape; got {tuple(got.shape)} and "
            f"{tuple(expected.shape)}; reshape one of them"
        )
    if got.device != expected.device:
        raise ValueError(
            f"mape compares tensors on one device; got {got.device} and {expected.device}; "
            "move one of them with .to()"
        )
    if got.numel() == 0:
        raise ValueError(
            f"mape needs at least 1 element; got shape {tuple(got.shape)}; compare something"
        )
    terms = torch.where(expected == 0, got, (got - expected) / expected).abs()
    return 100 * float(terms.mean())


def _real(value: Value, other: Value) -> Tensor:
    """Return `value` in float64 after checking that both are of one kind."""
    if isinstance(value, Tensor) and isinstance(other, Tensor) and not value.is_complex():
        return value.detach().to(torch.float64)
    if isinstance(value, float | int) and isinstance(other, float | int):
        return torch.tensor(float(value), dtype=torch.float64, device="cpu")
    raise TypeError(
        f"mape compares two real tensors or two numbers; got {_kind(value)} and {_kind(other)}; "
        "convert one of them"
    )


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"Tensor of {value.dtype}"
    return type(value).__name__
