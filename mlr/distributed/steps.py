"""One step of gradient descent over all workers: compute, sum, apply.

Every part of a step but the sum is this worker's own. With δ = 2(Ŷ−Y)/(M·o), where M is the rows of
all workers in the step, ∂L/∂W = Xᵀδ and ∂L/∂b = 1ᵀδ are sums over rows, so the sum over workers of
what each has of its rows is the gradient, however unequal their parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..case import Gradient
from ..models import LinearRegression
from ..one_pass.fit import bind_epoch
from .sharding import Piece
from .workers import Workers

METHODS = ("kernel", "ddp", "statistics")


class Step(ABC):
    """One step of gradient descent over all workers.

    Attributes:
        loss: Of the last step, before it: the mean over all rows.
        buffer: What is summed; the last of it is NaN if any worker's rows are.
        model: Whose parameters are changed.
        known: Whether what the rows give is known from an earlier step, and they are not read.
        reads_once: Whether the first step alone reads rows. The loss is then found by `apply`;
            otherwise it is the last number of the sum.
    """

    loss: Tensor
    buffer: Tensor
    model: LinearRegression
    known = False
    reads_once = False

    @property
    def message_bytes(self) -> int:
        """Bytes that go into the sum of a step."""
        return self.buffer.nbytes

    @abstractmethod
    def compute(self, total: int, pieces: Iterable[Piece]) -> None:
        """Find what this worker's rows give, of `total` rows in all."""

    @abstractmethod
    def exchange(self) -> None:
        """Sum it over the workers."""

    @abstractmethod
    def apply(self) -> None:
        """Change the parameters."""

    def __call__(self, total: int, pieces: Iterable[Piece]) -> None:
        """Take one step."""
        self.compute(total, pieces)
        self.exchange()
        self.apply()

    def forget(self) -> None:
        """Let the next step begin from the rows, whatever this one has kept of them."""
        self.known = False

    def poison(self) -> None:
        """Take part in a sum with NaN, so that no other worker waits for this one."""
        self.buffer.fill_(torch.nan)
        self.exchange()


class KernelStep(Step):
    """By a model's gradient kernel, or its sweeps, and an all-reduce of n·o + o + 1 numbers.

    Holds those, and per piece what a step of the model holds.
    """

    def __init__(self, workers: Workers, model: LinearRegression, lr: float) -> None:
        """Lay the numbers of the sum out: ∂L/∂W, ∂L/∂b, and the loss."""
        self.workers, self.model, self.lr = workers, model, lr
        n, o = model.w.shape
        self.buffer = torch.zeros(n * o + o + 1, dtype=model.w.dtype, device=model.w.device)
        self.weight = self.buffer[: n * o].view(n, o)
        self.bias = self.buffer[n * o : -1]
        self.loss = self.buffer[-1]

    def compute(self, total: int, pieces: Iterable[Piece]) -> None:
        """Sum ∂L/∂W, ∂L/∂b and the loss over the pieces."""
        if self.model.in_one_pass(max(1, total // self.workers.world)):
            self._sweep(total, pieces)
            return
        model, first = self.model, True
        scale = 2 / (total * len(model.b))
        squares = self.loss.new_zeros(())
        for x, y in pieces:
            residual = torch.addmm(model.b, x, model.w).sub_(y)
            flat = residual.view(-1)
            squares += torch.dot(flat, flat)
            weight, bias = model.kernel.function(x, residual.mul_(scale))
            if first:
                self.weight.copy_(weight)
                self.bias.copy_(bias)
            else:
                self.weight += weight
                self.bias += bias
            first = False
        if first:
            self.buffer.zero_()
        self.loss.copy_(squares * (scale / 2))

    def _sweep(self, total: int, pieces: Iterable[Piece]) -> None:
        """Sum them by one sweep over each piece.

        A step of a piece's mean loss at rate −1 adds its gradient to what is zero.
        """
        self.buffer.zero_()
        parameters, target = self.model.packed(), Gradient(self.weight, self.bias)
        for x, y in pieces:
            share = len(x) / total
            self.loss += share * bind_epoch(x, y, parameters, -share, len(x), target)()

    def exchange(self) -> None:
        """Sum over the workers."""
        self.workers.all_reduce(self.buffer)

    def apply(self) -> None:
        """W ← W − η·∂L/∂W, b ← b − η·∂L/∂b."""
        self.model.w.sub_(self.weight, alpha=self.lr)
        self.model.b.sub_(self.bias, alpha=self.lr)


class DDPStep(Step):
    """By torch's `DistributedDataParallel` around `nn.Linear` that has the model's parameters.

    It averages over workers and sums while it goes backward, so nothing is left to exchange but the
    loss. Its mean of unequal parts is no mean over rows: each loss is weighted by world / rows.
    """

    def __init__(self, workers: Workers, model: LinearRegression, lr: float) -> None:
        """Wrap a layer whose parameters are the model's own memory."""
        self.workers, self.model = workers, model
        n, o = model.w.shape
        layer = nn.utils.skip_init(nn.Linear, n, o, device=model.w.device, dtype=model.w.dtype)
        layer.weight = nn.Parameter(model.w.T)
        layer.bias = nn.Parameter(model.b)
        self.layer: nn.Module = layer
        if workers.world > 1:
            self.layer = DistributedDataParallel(layer, gradient_as_bucket_view=True)
        self.optimiser = torch.optim.SGD(layer.parameters(), lr=lr)
        self.buffer = torch.zeros(1, dtype=model.w.dtype, device=model.w.device)
        self.loss = self.buffer[0]

    @property
    def message_bytes(self) -> int:
        """Bytes of the gradient, which torch sums; the loss is apart."""
        return self.model.w.nbytes + self.model.b.nbytes

    def compute(self, total: int, pieces: Iterable[Piece]) -> None:
        """Go forward and backward over the pieces; the last one starts the sum."""
        weight, bias = self.model.w, self.model.b
        factor = 1 / (total * len(bias))
        self.optimiser.zero_grad()
        self.buffer.zero_()
        given = list(pieces) or [(weight.new_zeros(0, len(weight)), bias.new_zeros(0, len(bias)))]
        for place, (x, y) in enumerate(given):
            wrapped = isinstance(self.layer, DistributedDataParallel)
            last = place == len(given) - 1
            with nullcontext() if last or not wrapped else self.layer.no_sync():  # type: ignore[operator]
                loss = nn.functional.mse_loss(self.layer(x), y, reduction="sum") * factor
                (loss * self.workers.world).backward()
            self.buffer += loss.detach()

    def exchange(self) -> None:
        """Sum the loss over the workers."""
        self.workers.all_reduce(self.buffer)

    def apply(self) -> None:
        """Let torch's SGD take its step."""
        self.optimiser.step()

    def poison(self) -> None:
        """Take part in both sums with NaN."""
        nan = self.model.w.new_full((1, len(self.model.w)), torch.nan)
        self.compute(1, [(nan, self.model.b.new_zeros(1, len(self.model.b)))])
        self.buffer.fill_(torch.nan)
        self.exchange()


class StatisticsStep(Step):
    """By the sufficient statistics, summed once: every further step is independent of m.

    With A = [X 1]: AᵀA, AᵀY and ‖Y‖² say all of a full batch that gradient and loss need:
    ∂L/∂[W; b] = 2(AᵀA[W; b] − AᵀY)/(m·o). They are kept in float64, (n+1)² + (n+1)·o + 1 numbers,
    since AᵀA squares what is near to singular. A step after the first costs 2(n+1)²·o operations.
    """

    reads_once = True

    def __init__(self, workers: Workers, model: LinearRegression, lr: float) -> None:
        """Lay the numbers of the sum out."""
        self.workers, self.model, self.lr = workers, model, lr
        n, o = model.w.shape
        like = {"dtype": torch.float64, "device": model.w.device}
        self.buffer = torch.zeros((n + 1) ** 2 + (n + 1) * o + 1, **like)  # type: ignore[call-overload]
        self.square = self.buffer[: (n + 1) ** 2].view(n + 1, n + 1)
        self.cross = self.buffer[(n + 1) ** 2 : -1].view(n + 1, o)
        self.total = 0
        self.loss = torch.zeros((), dtype=model.w.dtype, device=model.w.device)

    def compute(self, total: int, pieces: Iterable[Piece]) -> None:
        """Sum the statistics of this worker's rows, the first time."""
        if self.known:
            return
        self.total = total
        self.buffer.zero_()
        for x, y in pieces:
            wide = torch.cat([x.double(), x.new_ones(len(x), 1, dtype=torch.float64)], dim=1)
            targets = y.double()
            self.square.addmm_(wide.T, wide)
            self.cross.addmm_(wide.T, targets)
            self.buffer[-1] += targets.square().sum()

    def exchange(self) -> None:
        """Sum them over the workers, the first time."""
        if not self.known:
            self.workers.all_reduce(self.buffer)
        self.known = True

    def apply(self) -> None:
        """Find the gradient and the loss from the statistics, and take the step."""
        model = self.model
        both = torch.cat([model.w, model.b[None]]).double()
        product, scale = self.square @ both, 1 / (self.total * len(model.b))
        squares = (both * (product - 2 * self.cross)).sum() + self.buffer[-1]
        self.loss.copy_(squares * scale)
        gradient = (product - self.cross).mul_(2 * scale).to(model.w.dtype)
        model.w.sub_(gradient[:-1], alpha=self.lr)
        model.b.sub_(gradient[-1], alpha=self.lr)


def make_step(workers: Workers, model: LinearRegression, lr: float, method: str = "kernel") -> Step:
    """Return the step of a method: `kernel` (the model's), `ddp` or `statistics`.

    Raises:
        ValueError: For an unknown method.
    """
    kinds: dict[str, type[KernelStep | DDPStep | StatisticsStep]] = {
        "kernel": KernelStep, "ddp": DDPStep, "statistics": StatisticsStep,
    }  # fmt: skip
    if method not in kinds:
        raise ValueError(f"a method is one of {', '.join(METHODS)}; got {method!r}; choose one")
    return kinds[method](workers, model, lr)
