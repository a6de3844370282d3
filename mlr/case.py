"""A case names a problem by its sizes; a problem holds its tensors, made when first used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .checks import DTYPE_NAMES
from .data import Dataset, make_dataset

STAGES = ("gradient", "step", "fit")
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}

# What a stage reads and does not write, as a problem's attributes.
INPUTS = {"gradient": ("x", "delta"), "step": ("x", "y", "start"), "fit": ("dataset", "start")}

LEARNING_RATE = 0.01
FIT_EPOCHS = 16
FIT_FULL_BATCHES = 3  # and one row more, so that the last mini-batch is short: 3·33+1 = 100
FIT_VALID_ROWS = 10_000


def fit_rows(batch: int) -> int:
    """Return the training rows of the fit stage: three full mini-batches and one row."""
    return FIT_FULL_BATCHES * batch + 1


def least_bytes(stage: str, m: int, n: int, o: int, s: int) -> int:
    """Return the bytes that no formulation of a stage does without, of items of s bytes.

    Inputs read and outputs written once: X and δ, ∂L/∂W and ∂L/∂b; X and Y, and W and b both ways;
    of a fit, training and validation data once an epoch.
    """
    return (
        s
        * {
            "gradient": m * (n + o) + n * o + o,
            "step": m * (n + o) + 2 * (n * o + o),
            "fit": FIT_EPOCHS * (fit_rows(m) + FIT_VALID_ROWS) * (n + o),
        }[stage]
    )


class Gradient(NamedTuple):
    """The gradient of the loss: ∂L/∂W of shape (n, o) and ∂L/∂b of shape (o)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """Name one problem: frozen and made of strings and integers, so that it goes through JSON.

    Raises:
        ValueError: For an unknown stage or dtype, or a size below one.
    """

    stage: str
    device: str
    dtype: str
    batch: int
    in_features: int
    out_features: int
    seed: int = 0

    @classmethod
    def of(cls, stage: str, x: Tensor, y: Tensor) -> Case:
        """Name the case of one's own tensors: X (m, n), and Y or δ (m, o)."""
        m, n = x.shape
        return cls(stage, str(x.device), str(x.dtype).removeprefix("torch."), m, n, y.shape[1])

    def __post_init__(self) -> None:
        """Refuse what no problem can be made of."""
        if self.stage not in STAGES:
            raise ValueError(f"a stage is one of {', '.join(STAGES)}; got {self.stage!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"a dtype is one of {', '.join(DTYPES)}; got {self.dtype!r}")
        for name in ("batch", "in_features", "out_features"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The sizes (m, n, o)."""
        return self.batch, self.in_features, self.out_features

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return DTYPES[self.dtype].itemsize

    @property
    def least_flops(self) -> int:
        """Floating-point operations no formulation of the stage does without."""
        m, n, o = self.sizes
        return {
            "gradient": 2 * m * n * o + m * o,
            "step": 4 * m * n * o + 3 * m * o,
            "fit": FIT_EPOCHS * (4 * self.fit_rows + 2 * FIT_VALID_ROWS) * n * o,
        }[self.stage]

    @property
    def least_bytes(self) -> int:
        """Bytes no formulation of the stage does without: inputs read, outputs written, once."""
        return least_bytes(self.stage, *self.sizes, self.itemsize)

    @property
    def input_bytes(self) -> int:
        """Bytes of the stage's input tensors."""
        rows = self.fit_rows + FIT_VALID_ROWS if self.stage == "fit" else self.batch
        return rows * (self.in_features + self.out_features) * self.itemsize

    @property
    def fit_rows(self) -> int:
        """Training rows of the fit stage."""
        return fit_rows(self.batch)

    @property
    def id(self) -> str:
        """The case in test ids and legends, without its kernel: `cpu-float64-33x6x3`."""
        m, n, o = self.sizes
        return f"{self.device}-{self.dtype}-{m}x{n}x{o}"


class Problem:
    """Hold the tensors of one case: drawn on the CPU in float64, then moved, each on first use.

    Every device, dtype and version of the suite so sees the same numbers up to rounding. `weight`
    and `bias` are what a step or fit kernel changes; a kernel that keeps its parameters elsewhere
    (a module, a graph) puts views of them here when it binds.

    Shapes: `x (m, n)`, `y (m, o)`, `delta (m, o)`, `weight (n, o)`, `bias (o)`.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.seed = case.seed
        m, n, _ = case.sizes
        self._elsewhere: tuple[Callable[[], Gradient], Callable[[Gradient], None]] | None = None
        # n/m bounds the largest eigenvalue of XᵀX/m: steps stay stable for wide, short inputs too.
        self.lr = LEARNING_RATE / max(1.0, n / m)

    def _draw(self, stream: int, *shape: int, scale: float = 1.0) -> Tensor:
        generator = torch.Generator().manual_seed(8 * self.seed + stream)
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return values.mul_(scale).to(device=self.case.device, dtype=DTYPES[self.case.dtype])

    def _draw_x(self) -> Tensor:
        return self._draw(0, self.case.batch, self.case.in_features)

    def _draw_y(self) -> Tensor:
        return self._draw(1, self.case.batch, self.case.out_features)

    def _draw_delta(self) -> Tensor:
        m, _, o = self.case.sizes
        return self._draw(2, m, o, scale=2 / (m * o))

    @cached_property
    def x(self) -> Float[Tensor, "m n"]:
        """Inputs X, standard normal."""
        return self._draw_x()

    @cached_property
    def y(self) -> Float[Tensor, "m o"]:
        """Targets Y, standard normal."""
        return self._draw_y()

    @cached_property
    def delta(self) -> Float[Tensor, "m o"]:
        """∂L/∂Ŷ of the gradient stage: standard normal, scaled as 2(Ŷ−Y)/(m·o) would be."""
        return self._draw_delta()

    @cached_property
    def start(self) -> Gradient:
        """The parameters before the first step: normal, of variance 1/n."""
        _, n, o = self.case.sizes
        scale = n**-0.5
        return Gradient(self._draw(3, n, o, scale=scale), self._draw(4, o, scale=scale))

    @cached_property
    def weight(self) -> Float[Tensor, "n o"]:
        """The weight that steps change."""
        return self.start.weight.clone()

    @cached_property
    def bias(self) -> Float[Tensor, " o"]:
        """The bias that steps change."""
        return self.start.bias.clone()

    @cached_property
    def dataset(self) -> Dataset:
        """The fit stage's data, of scikit-learn's `make_regression`."""
        _, n, o = self.case.sizes
        rows = self.case.fit_rows
        return make_dataset(
            n_samples=rows + FIT_VALID_ROWS,
            n_features=n,
            n_targets=o,
            n_train=rows,
            device=self.case.device,
            dtype=DTYPES[self.case.dtype],
            seed=self.seed,
        )

    def linear(self, dtype: torch.dtype | None = None) -> nn.Linear:
        """Make the `torch.nn.Linear` that starts from this problem's parameters."""
        _, n, o = self.case.sizes
        dtype = dtype or DTYPES[self.case.dtype]
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, n, o, device=self.case.device, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(self.start.weight.T)
            layer.bias.copy_(self.start.bias)
        return layer

    def share_inputs(self) -> Problem:
        """Return another problem on the very same input tensors, with parameters of its own."""
        other = Problem(self.case)
        other.seed = self.seed
        for name in INPUTS[self.case.stage]:
            other.__dict__[name] = getattr(self, name)
        return other

    def set_parameter_accessors(
        self, read: Callable[[], Gradient], write: Callable[[Gradient], None]
    ) -> None:
        """Let a kernel keep the parameters where no tensor can view them.

        Args:
            read: Returns the parameters as tensors.
            write: Puts other ones in their place.
        """
        self._elsewhere = read, write

    def parameters(self) -> Gradient:
        """Return weight (n, o) and bias (o) as they are now, wherever a kernel keeps them."""
        return self._elsewhere[0]() if self._elsewhere else Gradient(self.weight, self.bias)

    def reset(self) -> None:
        """Put weight and bias back to their start, in place."""
        if self._elsewhere:
            self._elsewhere[1](self.start)
            return
        self.weight.copy_(self.start.weight)
        self.bias.copy_(self.start.bias)

    def resample(self, seed: int) -> None:
        """Draw other inputs into the very same tensors, and reset the parameters.

        A kernel that was right only for the inputs it was first checked on is so found out.
        """
        self.seed = seed
        drawn = {"x": self._draw_x, "y": self._draw_y, "delta": self._draw_delta}
        for name, draw in drawn.items():
            if name in self.__dict__:
                getattr(self, name).copy_(draw())
        if "dataset" in self.__dict__:
            held = self.__dict__.pop("dataset")
            for old, new in zip(held, self.dataset, strict=True):
                old.copy_(new)
            self.dataset = held
        if self.case.stage != "gradient":
            self.__dict__.pop("start", None)
            self.reset()
