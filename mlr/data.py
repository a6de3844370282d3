"""Data to train on: scikit-learn's made regression problem and two real multi-output data sets.

scikit-learn is imported inside the functions: importing it costs a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from .checks import as_device, as_dtype, check_count, check_number, check_seed

BIAS_RANGE = 100.0
TRAIN_SHARE = 0.8


class Dataset(NamedTuple):
    """Training rows and validation rows of one data set; m and v are their numbers."""

    x_train: Float[Tensor, "m n"]
    y_train: Float[Tensor, "m o"]
    x_valid: Float[Tensor, "v n"]
    y_valid: Float[Tensor, "v o"]


def make_dataset(
    n_samples: int = 10_100,
    n_features: int = 6,
    n_targets: int = 3,
    n_informative: int | None = None,
    n_train: int = 100,
    noise: float | int = 1.0,
    bias: float | int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = torch.float64,
    seed: int = 0,
) -> Dataset:
    """Make a linear problem with `sklearn.datasets.make_regression` and split it.

    Y = X·C + bias + noise·ε with standard normal X and ε; `n_informative` rows of C are not zero
    (default: all features but one, at least one). The same seed gives the same numbers, drawn in
    float64 on the CPU and then moved, so every device sees them.

    Shapes: x (n_samples, n_features), y (n_samples, n_targets); the first `n_train` rows are the
    training rows. `noise` and `bias` are in units of y; a bias of None is drawn from the seed,
    uniform in ±100. A device or dtype of None is torch's default.

    Raises:
        ValueError: For sizes, a seed, a device or a dtype that make no data set.
    """
    if n_informative is None and isinstance(n_features, int):
        n_informative = max(1, n_features - 1)
    for name, value in (("n_features", n_features), ("n_targets", n_targets)):
        check_count(name, value)
    check_count("n_samples", n_samples, least=2)
    check_count("n_informative", n_informative or 0, most=n_features)
    check_count("n_train", n_train, most=n_samples - 1)
    check_number("noise", noise, least=0)
    check_seed(seed)
    place = as_device(device), as_dtype(dtype)
    if bias is None:
        bias = float(np.random.default_rng(seed).uniform(-BIAS_RANGE, BIAS_RANGE))
    check_number("bias", bias)
    from sklearn.datasets import make_regression

    x, y = make_regression(
        n_samples,
        n_features,
        n_informative=n_informative,
        n_targets=n_targets,
        bias=bias,
        noise=noise,
        random_state=seed,
    )
    return _split(torch.from_numpy(x), torch.from_numpy(y.reshape(n_samples, -1)), n_train, *place)


def load_dataset(
    name: str,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = torch.float64,
    seed: int = 0,
) -> Dataset:
    """Load a multi-output data set that scikit-learn ships, standardised, shuffled and split.

    `linnerud`: 20 men, 3 exercises → 3 body measures; x and y standardised. `digits`: 1797 images
    of 8×8 → 10 classes, one-hot; x standardised, y left at 0 and 1 (as a difference from a class's
    mean it would be no class any more, and where y is 0 `mape` counts |pred|).
    Standardised is (value - mean) / deviation by column over all rows; the divisor of a constant
    column is 1. The seed shuffles; the first 80 % are the training rows (16 and 1437).

    Raises:
        ValueError: For an unknown name (the message lists the valid ones), a bad seed, device or
            dtype.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; known: {', '.join(DATASETS)}; choose one")
    check_seed(seed)
    place = as_device(device), as_dtype(dtype)
    x, y = DATASETS[name]()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
    return _split(x[order], y[order], int(TRAIN_SHARE * len(x)), *place)


def standardise(values: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Return (value - mean) / deviation by column; the divisor of a constant column is 1."""
    constant = values.amax(0) == values.amin(0)
    deviation = values.std(0, correction=0).masked_fill(constant, 1.0)
    return ((values - values.mean(0)) / deviation).masked_fill(constant, 0.0)


def _split(x: Tensor, y: Tensor, n_train: int, device: torch.device, dtype: torch.dtype) -> Dataset:
    x, y = x.to(device, dtype).contiguous(), y.to(device, dtype).contiguous()
    return Dataset(x[:n_train], y[:n_train], x[n_train:], y[n_train:])


def _linnerud() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_linnerud

    x, y = load_linnerud(return_X_y=True)
    return standardise(torch.from_numpy(x)), standardise(torch.from_numpy(y))


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    x, classes = load_digits(return_X_y=True)
    return standardise(torch.from_numpy(x)), one_hot(torch.from_numpy(classes)).double()


DATASETS: Mapping[str, Callable[[], tuple[Tensor, Tensor]]] = MappingProxyType(
    {"linnerud": _linnerud, "digits": _digits}
)
