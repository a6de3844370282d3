"""Functions of NumPy arrays as functions of tensors: on the same memory, results turned back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

DTYPES = ("float16", "float32", "float64")  # of a case that NumPy has


def arrays(*values: Tensor) -> list[np.ndarray]:
    """Return arrays on the tensors' own memory."""
    return [value.numpy() for value in values]


def tensors(found: Any) -> Any:
    """Return tensors on the memory of what a function returned: an array, or a tuple of arrays.

    None stays None: a function that changes its inputs in place returns it. An array whose elements
    no tensor can view in their order, such as a reversed one, is copied.

    Raises:
        TypeError: For anything else, or an array in another byte order than the machine's.
    """
    if isinstance(found, tuple):
        return tuple(map(tensors, found))
    if isinstance(found, np.ndarray | np.generic):
        return _tensor(np.asarray(found))
    if found is None:
        return None
    raise TypeError(
        "with numpy=True a function returns an array, or a tuple of arrays; got "
        f"{type(found).__name__}; return numpy.asarray(...) of it"
    )


def _tensor(array: np.ndarray) -> Tensor:
    try:
        if array.flags.writeable:
            return torch.from_numpy(array)
        with warnings.catch_warnings():  # of torch, as the tensor can be written to: none is
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(array)
    except ValueError as error:  # for its strides, which no tensor can have, or its byte order
        if array.dtype.isnative:
            return torch.from_numpy(array.copy())
        raise TypeError(
            "with numpy=True a function returns arrays in the machine's byte order; got "
            f"{array.dtype.str}; return them by .astype({array.dtype.name!r})"
        ) from error


def of_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors that calls one of arrays."""

    @wraps(function)
    def call(*values: Tensor) -> Any:
        return tensors(function(*arrays(*values)))

    return call


def drawing_arrays(inputs: Callable[..., Any]) -> Callable[..., Any]:
    """Return what draws tensors by a function that draws arrays.

    It is given a `numpy.random.Generator` of the seed of torch's generator.
    """

    @wraps(inputs)
    def draw(case: Any, generator: Generator) -> Any:
        found = inputs(case, np.random.default_rng(generator.initial_seed()))
        if not isinstance(found, Mapping):
            return found
        return {name: tensors(value) for name, value in found.items()}

    return draw
