"""Epochs × mini-batches, the same for every model, and the record of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .checks import check_count, check_finite, check_lr, check_matrix, check_rows

Pair = tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor], Tensor]
Losses = tuple[float, float | None]  # of an epoch: the mean of its batch losses, that of validation


class Epoch(NamedTuple):
    """One epoch: its number from 0, the mean of its batch losses, the loss on validation data."""

    number: int
    mse: float
    mse_valid: float | None = None

    def __str__(self) -> str:
        """Write the epoch as `epoch: 0 - MSE: 23450.5454 - MSE_v: 17270.5571`."""
        valid = "" if self.mse_valid is None else f" - MSE_v: {self.mse_valid:.4f}"
        return f"epoch: {self.number} - MSE: {self.mse:.4f}{valid}"


@dataclass(frozen=True, slots=True)
class History:
    """What one `fit` went through, an `Epoch` each; its `str` is one line an epoch."""

    epochs: tuple[Epoch, ...]

    def __len__(self) -> int:
        """Return the number of epochs."""
        return len(self.epochs)

    def __getitem__(self, index: int) -> Epoch:
        """Return one epoch."""
        return self.epochs[index]

    def __iter__(self) -> Iterator[Epoch]:
        """Go through the epochs in order."""
        return iter(self.epochs)

    def __str__(self) -> str:
        """Write one line an epoch."""
        return "\n".join(map(str, self.epochs))


class Training(NamedTuple):
    """What one `fit` is to do: data X (m, n) and Y (m, o), of which `check` raises if not finite.

    Attributes:
        x: Inputs X.
        y: Targets Y.
        epochs: How often.
        lr: The learning rate.
        batch_size: Rows of a mini-batch.
        valid: Inputs and targets whose loss each epoch ends with.
        verbose: Whether each epoch is to be known as it ends.
        check: Reads all data, and raises a ValueError if some are not finite.
    """

    x: Tensor
    y: Tensor
    epochs: int
    lr: float | int
    batch_size: int
    valid: Pair | None
    verbose: bool
    check: Callable[[], None]


class Regression(ABC):
    """What the three models share: checks at the boundary, and epochs × mini-batches."""

    @property
    @abstractmethod
    def weight(self) -> Float[Tensor, "n o"]:
        """The current weight W, detached; a view, not a copy."""

    @property
    @abstractmethod
    def bias(self) -> Float[Tensor, " o"]:
        """The current bias b, detached; a view, not a copy."""

    @abstractmethod
    def _predict(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _mse(self, y_true: Tensor, y_pred: Tensor) -> Tensor: ...

    @abstractmethod
    def _make_step(self, lr: float | int) -> Step:
        """Make the function that takes one step on a batch and returns its loss before it."""

    def _make_batch_step(self, lr: float | int) -> Callable[[Tensor, Tensor], Tensor | float]:
        """Make the step on batches that come one by one."""
        return self._make_step(lr)

    def copy_params(self, linear: nn.Linear) -> None:
        """Take weight (transposed) and bias of a layer over, in place.

        Raises:
            ValueError: For a layer of another size or dtype, or one without bias.
        """
        n, o = self.weight.shape
        if (linear.in_features, linear.out_features) != (n, o) or linear.bias is None:
            raise ValueError(
                f"copy_params needs a layer of {n} → {o} features with bias; got "
                f"{linear}; make one with nn.Linear({n}, {o})"
            )
        if linear.weight.dtype != self.weight.dtype:
            raise ValueError(
                f"copy_params needs a layer of the model's dtype {self.weight.dtype}; got "
                f"{linear.weight.dtype}; convert it with .to()"
            )
        self.weight.copy_(linear.weight.detach().T)
        self.bias.copy_(linear.bias.detach())

    def predict(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m o"]:
        """Return Ŷ = XW + b of shape (m, o), detached.

        Raises:
            ValueError: For x of another shape, dtype or device, empty or not finite.
        """
        check_matrix("x", x, self.weight.shape[0], self.weight)
        with torch.no_grad():
            return self._predict(x)

    def evaluate(self, x: Float[Tensor, "m n"], y_true: Float[Tensor, "m o"]) -> float:
        """Return the loss L = mean((Ŷ-Y)²) on x (m, n) and y_true (m, o), in units of y squared.

        Raises:
            ValueError: For data of another shape, dtype or device, empty or not finite.
        """
        self._check_data("x", x, "y_true", y_true)
        return self._evaluate(x, y_true)

    def fit(
        self,
        x_train: Float[Tensor, "m n"],
        y_train: Float[Tensor, "m o"],
        epochs: int,
        lr: float | int,
        batch_size: int,
        x_valid: Float[Tensor, "v n"] | None = None,
        y_valid: Float[Tensor, "v o"] | None = None,
        *,
        verbose: bool = False,
    ) -> History:
        """Train by gradient descent over mini-batches in order, the last one short.

        An epoch's loss is the mean of its batch losses, each taken before that batch's update;
        its validation loss is taken after the last. `verbose` prints each epoch as it ends.

        Shapes: x_train (m, n), y_train (m, o), x_valid (v, n), y_valid (v, o).

        Raises:
            ValueError: For data of another shape, dtype or device, empty or not finite, validation
                inputs without targets, or epochs, lr or batch size below sense.
        """
        check_count("epochs", epochs)
        check_count("batch_size", batch_size)
        check_lr(lr)
        self._check_data("x_train", x_train, "y_train", y_train, finite=False)
        valid = self._valid(x_valid, y_valid, finite=False)
        given = {"x_train": x_train, "y_train": y_train}
        if valid is not None:
            given |= zip(("x_valid", "y_valid"), valid, strict=True)

        def check() -> None:
            for name, value in given.items():
                check_finite(name, value)

        rows = x_train.detach(), y_train.detach()
        training = Training(*rows, epochs, lr, batch_size, valid, verbose, check)
        with closing(self._run(training)) as losses:
            return _record(losses, verbose=verbose)

    def fit_batches(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        epochs: int,
        lr: float | int,
        x_valid: Float[Tensor, "v n"] | None = None,
        y_valid: Float[Tensor, "v o"] | None = None,
        *,
        verbose: bool = False,
    ) -> History:
        """Train as `fit` does, on batches as they come: of a file, a loader, a list.

        Holds one batch at a time, and checks each as it comes; one that is bad ends the training,
        with what the batches before it did done.

        Args:
            batches: Pairs X (rows, n), Y (rows, o); iterated anew for each epoch.
            epochs: How often.
            lr: The learning rate.
            x_valid: Inputs (v, n) whose loss each epoch ends with.
            y_valid: Targets (v, o) of those.
            verbose: Print each epoch as it ends.

        Raises:
            ValueError: As `fit`; or for batches that are no pairs, none at all, or can be iterated
                only once where there are more epochs.
        """
        check_count("epochs", epochs)
        check_lr(lr)
        valid = self._valid(x_valid, y_valid)
        if epochs > 1 and iter(batches) is batches:
            raise ValueError(
                f"batches must be iterable anew for each of {epochs} epochs; got an iterator, "
                "which ends with the first; give a list, a loader or mlr.Batches"
            )

        step = self._make_batch_step(lr)

        def run_epoch() -> float:
            total = torch.zeros((), dtype=torch.float64, device=self.weight.device)
            count = 0
            for pair in batches:
                total += step(*self._checked_pair(pair, count))
                count += 1
            if not count:
                raise ValueError("batches must hold at least one; got none; add data")
            return total.item() / count

        evaluate = (lambda: None) if valid is None else partial(self._evaluate, *valid)
        losses = ((run_epoch(), evaluate()) for _ in range(epochs))
        return _record(losses, verbose=verbose)

    def _run(self, training: Training) -> Generator[Losses]:
        """Train, and yield the losses of one epoch after the other."""
        training.check()
        x, y, epochs, lr, batch_size, valid, *_ = training
        step = self._make_step(lr)
        batches = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
        for _ in range(epochs):
            losses = torch.stack([step(x, y) for x, y in batches])
            mse = losses.double().mean().item()
            yield mse, None if valid is None else self._evaluate(*valid)

    def _valid(
        self, x_valid: Tensor | None, y_valid: Tensor | None, *, finite: bool = True
    ) -> Pair | None:
        if x_valid is not None and y_valid is not None:
            self._check_data("x_valid", x_valid, "y_valid", y_valid, finite=finite)
            return x_valid, y_valid
        if x_valid is not None or y_valid is not None:
            raise ValueError("x_valid and y_valid go together; got one of them; give both or none")
        return None

    def _evaluate(self, x: Tensor, y_true: Tensor) -> float:
        with torch.no_grad():
            return self._mse(y_true, self._predict(x)).item()

    def _checked_pair(self, pair: object, number: int) -> tuple[Tensor, Tensor]:
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise ValueError(
                f"a batch must be a pair X, Y; got {type(pair).__name__} as batch {number}"
            )
        x, y = pair
        self._check_data(f"X of batch {number}", x, f"Y of batch {number}", y)
        return x.detach(), y.detach()

    def _check_data(
        self, x_name: str, x: Tensor, y_name: str, y: Tensor, *, finite: bool = True
    ) -> None:
        like = self.weight
        check_matrix(x_name, x, like.shape[0], like, finite=finite)
        check_matrix(y_name, y, like.shape[1], like, finite=finite)
        check_rows(x_name, x, y_name, y)


def _record(losses: Iterable[Losses], *, verbose: bool) -> History:
    """Record each epoch as it ends."""
    records = []
    for number, (mse, mse_valid) in enumerate(losses):
        records.append(Epoch(number, mse, mse_valid))
        if verbose:
            print(records[-1])
    return History(tuple(records))
