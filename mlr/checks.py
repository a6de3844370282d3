"""Checks at the boundary: each raises one line with the rule, what came and what to do.

None of them is called inside a timed body.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DEVICE_TYPES = ("cpu", "cuda")  # nothing else lists them
DTYPE_NAMES = ("float16", "bfloat16", "float32", "float64")
SEED_LIMIT = 2**32
# Of a failed allocation on the CPU, of the drivers of GPUs, of their libraries, and of XLA.
OUT_OF_MEMORY = (
    *("can't allocate memory", "not enough memory", "out of memory", "OUT_OF_MEMORY"),
    *("STATUS_ALLOC_FAILED", "RESOURCE_EXHAUSTED"),
)


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    """Return the torch dtype of that name, or as given; None is torch's default.

    Raises:
        ValueError: If it is no floating-point dtype that the models take.
    """
    if dtype is None:
        return torch.get_default_dtype()
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPE_NAMES:
        raise ValueError(f"a dtype is one of {', '.join(DTYPE_NAMES)}; got {name!r}; choose one")
    found: torch.dtype = getattr(torch, name)
    return found


def as_device(device: torch.device | str | None) -> torch.device:
    """Return the torch device of that name, or as given; None is torch's default.

    Raises:
        ValueError: If it is neither `cpu` nor a CUDA device of this machine.
    """
    if device is None:
        return torch.get_default_device()
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = torch.device("meta")
    if found.type not in DEVICE_TYPES:
        valid = f"{', '.join(DEVICE_TYPES)} or {DEVICE_TYPES[-1]}:N"
        raise ValueError(f"a device is {valid}; got {str(device)!r}; choose one")
    if found.type == "cpu":
        return found
    module = torch.get_device_module(found.type)
    count = module.device_count() if module.is_available() else 0
    if (found.index or 0) >= count:
        raise ValueError(
            f"a {found.type.upper()} device must exist and torch sees {count} here; "
            f"got {str(device)!r}; use cpu"
        )
    return found


def check_count(name: str, value: int, least: int = 1, most: int | None = None) -> None:
    """Check a size: an integer from `least` to `most`, both included.

    Raises:
        ValueError: If it is not.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and value >= least and (most is None or value <= most):
        return
    rule = f"at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{name} must be an integer {rule}; got {value!r}; choose another")


def check_number(name: str, value: float | int, least: float | int = -math.inf) -> None:
    """Check a finite real number that is not below `least`.

    Raises:
        ValueError: If it is not.
    """
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if real and math.isfinite(value) and value >= least:
        return
    rule = "a finite number" if least == -math.inf else f"a finite number of at least {least:g}"
    raise ValueError(f"{name} must be {rule}; got {value!r}; choose another")


def check_lr(lr: float | int) -> None:
    """Check a learning rate: finite and above 0.

    Raises:
        ValueError: If it is not.
    """
    check_number("lr", lr)
    if lr <= 0:
        raise ValueError(f"lr must be above 0; got {lr!r}; choose another")


def check_seed(seed: int) -> None:
    """Check a seed: an integer from 0 to 2³² - 1, what scikit-learn takes.

    Raises:
        ValueError: If it is not.
    """
    check_count("seed", seed, least=0, most=SEED_LIMIT - 1)


def check_matrix(
    name: str, value: Tensor, columns: int, like: Tensor, *, finite: bool = True
) -> None:
    """Check data of shape (rows, columns), rows ≥ 1: dtype and device of `like`, all finite.

    That its numbers are finite can be left to be seen later: they are read for it.

    Raises:
        ValueError: If one of these does not hold.
    """
    if not (isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == columns):
        check_shape(name, value, ("rows", columns), "reshape it or make a model of its size")
    check_kind(name, value, like, "the model")
    if finite:
        check_finite(name, value)


def check_shape(
    name: str, value: Tensor, shape: tuple[int | str, ...], remedy: str, axes: str = ""
) -> None:
    """Check that a value is a tensor of a shape.

    Args:
        name: What the message calls it.
        value: What came.
        shape: Its sizes; one that is a word, `rows`, may be any.
        remedy: What the message says is to be done about another shape.
        axes: What the axes are, ` = (in, out)`, where their sizes alone would not say it.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, Tensor):
        came = type(value).__name__
        raise ValueError(f"{name} must be a tensor; got {came}; convert it with torch.as_tensor")
    fits = len(shape) == value.ndim and all(
        isinstance(wanted, str) or wanted == came
        for wanted, came in zip(shape, value.shape, strict=True)
    )
    if not fits:
        sizes = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
        raise ValueError(
            f"{name} must have shape {sizes}{axes}; got {tuple(value.shape)}; {remedy}"
        )


def check_numbers(name: str, value: Tensor, like: Tensor, whose: str) -> None:
    """Check a tensor as `check_kind` does, and that it is finite.

    Raises:
        ValueError: If it is not.
    """
    check_kind(name, value, like, whose)
    check_finite(name, value)


def check_kind(name: str, value: Tensor, like: Tensor, whose: str) -> None:
    """Check a tensor of at least 1 row: dtype and device of `like`.

    Args:
        name: What the message calls it.
        value: What came.
        like: A tensor of the dtype and on the device that are needed.
        whose: What the message says that `like` is.

    Raises:
        ValueError: If one of these does not hold.
    """
    if value.shape[0] == 0:
        raise ValueError(f"{name} must hold at least 1 row; got {tuple(value.shape)}; add data")
    if (value.dtype, value.device) != (like.dtype, like.device):
        raise ValueError(
            f"{name} must be {like.dtype} on {like.device} like {whose}; "
            f"got {value.dtype} on {value.device}; convert it with .to()"
        )


def check_finite(name: str, value: Tensor) -> None:
    """Check that all numbers of a tensor are finite.

    Raises:
        ValueError: If not; the message counts them.
    """
    # Numbers that are not finite make their sum so; finite ones only if it overflows.
    if math.isfinite(value.sum().item()):
        return
    finite = torch.isfinite(value)
    if not finite.all():
        bad = value.numel() - int(finite.sum())
        raise ValueError(
            f"{name} must be finite; got NaN or infinity in {bad} of {value.numel()} elements; "
            "remove those rows"
        )


def check_rows(x_name: str, x: Tensor, y_name: str, y: Tensor) -> None:
    """Check that inputs and targets have as many rows as each other.

    Raises:
        ValueError: If not; the message names both shapes.
    """
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"{x_name} and {y_name} must have as many rows as each other; "
            f"got {tuple(x.shape)} and {tuple(y.shape)}; drop the rows without a partner"
        )


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error is an allocator's: Python's, torch's, or that of a library."""
    said = isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    return said or isinstance(error, (MemoryError, torch.OutOfMemoryError))
