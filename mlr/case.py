"""An operation is what is computed; a case is one at given sizes; a problem holds its tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .checks import DTYPE_NAMES
from .data import Dataset

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}
LEARNING_RATE = 0.01
DRAWN_AT_ONCE = 2**24  # numbers: half a second
BLOCK_SEED = 15_485_863  # apart from those that a process or a user adds to a seed

# a cost in the sizes m, n, o and the item size s in bytes: operations, or bytes
Formula = Callable[[int, int, int, int], int]


def unknown(kind: str, name: str, known: Mapping[str, object]) -> str:
    """Return the line that answers an unknown name: the nearest one first, then all."""
    near = get_close_matches(name, known, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    return f"unknown {kind} {name!r}{guess}; known: {', '.join(known)}"


class Gradient(NamedTuple):
    """The gradient of the loss: ∂L/∂W of shape (n, o) and ∂L/∂b of shape (o)."""

    weight: Tensor
    bias: Tensor


class Probe(NamedTuple):
    """Inputs on which an error shows that hides among the rounding of ordinary ones.

    Attributes:
        name: What they are, as a message says it: `inputs of non-zero mean`.
        draw: Returns the value of each input by its name: `(problem) -> mapping`.
        same_sign: How many products of one sign a result sums at most, from m and n. Their
            roundings are relative to sums that grow with every one, so √k are added to an
            operation's own.
        full_size: Whether a case is probed at its own size too, and not only at a small one: not
            where a result sums so many products of one sign that their rounding hides the error.
    """

    name: str
    draw: Callable[..., Mapping[str, Any]]
    same_sign: Callable[[int, int], int] = lambda m, n: 0
    full_size: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is computed, whichever kernel does it.

    A *call* is what is timed: one gradient, one step, one whole training.

    Attributes:
        name: Its id everywhere.
        title: What a text calls one call of it: `training step`.
        baseline: The name of the kernel that the others are held against.
        inputs: What a call reads and does not write: the name of the problem's attribute, and the
            function that draws it for a problem, a tensor or a tuple of tensors.
        results: The shape of each tensor that a call computes, by name, from m, n and o.
        oracle: Returns the results after so many calls from the start, computed in float64 by the
            most trusted means: `(problem, calls) -> tensors`.
        error_scale: Returns, for each element of the results, the sum of the absolute products that
            it was summed from: `(problem, calls, expected) -> tensors`.
        roundings: How many roundings of one sum lie one after another in a result of so many calls;
            independent ones count by the root of their number.
        least_flops: Floating-point operations that no formulation does without from inputs that are
            given anew in every call.
        least_bytes: Bytes that no formulation does without: inputs read and results written, once.
        input_bytes: Bytes of the input tensors.
        bind: Does every one-off thing and returns the bare callable that is timed, from a kernel's
            function and a problem. By default the function does it, given the problem.
        trains: Whether the results are the problem's parameters, which a call changes; otherwise
            they are what the call returns.
        stateful: Whether a call goes on from where the one before ended, as a step does.
        iterative: Whether one call is itself a whole training of many steps.
        preferred: The kernels that `auto` calls for a case, the first that supports it, where
            nothing was measured; none where there is no `auto`.
        probes: Further inputs to check a kernel on, one call each from the start.
        probe_lr: The learning rate that a kernel is bound with to be checked at a small size, from
            m, n and o: one of which a single step stands far above the last digit of the
            parameters. None for that of the problem.
    """

    name: str
    title: str
    baseline: str
    inputs: Mapping[str, Callable[..., Any]]
    results: Callable[[int, int, int], Mapping[str, tuple[int, ...]]]
    oracle: Callable[..., tuple[Tensor, ...]]
    error_scale: Callable[..., tuple[Tensor, ...]]
    roundings: Callable[[int], float]
    least_flops: Formula
    least_bytes: Formula
    input_bytes: Formula
    bind: Callable[..., Callable[[], Any]] = lambda function, problem: function(problem)
    trains: bool = False
    stateful: bool = False
    iterative: bool = False
    preferred: Callable[..., tuple[str, ...]] | None = None
    probes: tuple[Probe, ...] = ()
    probe_lr: Callable[[int, int, int], float] | None = None

    def result_numbers(self, m: int, n: int, o: int) -> int:
        """Return how many numbers the results are."""
        return sum(math.prod(shape) for shape in self.results(m, n, o).values())


OPERATIONS: dict[str, Operation] = {}


def register_operation(operation: Operation) -> Operation:
    """Add an operation to `OPERATIONS` and return it.

    Raises:
        ValueError: For a name that is taken already, or that is no identifier.
    """
    if operation.name in OPERATIONS:
        raise ValueError(f"operation {operation.name!r} is registered already; choose another name")
    if not operation.name.isidentifier():
        raise ValueError(f"an operation is named by letters, digits and _; got {operation.name!r}")
    OPERATIONS[operation.name] = operation
    return operation


@dataclass(frozen=True, slots=True)
class Case:
    """Name one problem: frozen and made of strings and integers, so that it goes through JSON.

    Raises:
        ValueError: For an unknown operation or dtype, or a size below one.
    """

    operation: str
    device: str
    dtype: str
    batch: int
    in_features: int
    out_features: int
    seed: int = 0

    @classmethod
    def of(cls, operation: str, x: Tensor, y: Tensor) -> Case:
        """Name the case of one's own tensors: X (m, n), and Y or δ (m, o)."""
        m, n = x.shape
        return cls(operation, str(x.device), str(x.dtype).removeprefix("torch."), m, n, y.shape[1])

    def __post_init__(self) -> None:
        """Refuse what no problem can be made of."""
        if self.operation not in OPERATIONS:
            raise ValueError(unknown("operation", self.operation, OPERATIONS))
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
        """Floating-point operations that no formulation does without from inputs given anew."""
        return OPERATIONS[self.operation].least_flops(*self.sizes, self.itemsize)

    @property
    def least_bytes(self) -> int:
        """Bytes that no formulation does without: inputs read, results written, once."""
        return OPERATIONS[self.operation].least_bytes(*self.sizes, self.itemsize)

    @property
    def input_bytes(self) -> int:
        """Bytes of the input tensors."""
        return OPERATIONS[self.operation].input_bytes(*self.sizes, self.itemsize)

    @property
    def id(self) -> str:
        """The case in test ids and legends, without its kernel: `cpu-float64-33x6x3`."""
        m, n, o = self.sizes
        return f"{self.device}-{self.dtype}-{m}x{n}x{o}"


class Problem:
    """Hold the tensors of one case: drawn on the CPU in float64, then moved, each on first use.

    Every device, dtype and version of the suite so sees the same numbers up to rounding. What is
    drawn are the inputs of the case's operation, each an attribute. `weight` and `bias` are what a
    step or fit kernel changes; a kernel that keeps its parameters in a module or a graph puts views
    of them here when it binds.

    Shapes: `x (m, n)`, `y (m, o)`, `delta (m, o)`, `weight (n, o)`, `bias (o)`.
    """

    x: Float[Tensor, "m n"]
    y: Float[Tensor, "m o"]
    delta: Float[Tensor, "m o"]
    start: Gradient
    dataset: Dataset

    def __init__(self, case: Case) -> None:
        self.case = case
        self.seed = case.seed
        self._accessors: tuple[Callable[[], Gradient], Callable[[Gradient], None]] | None = None
        # n/m bounds the largest eigenvalue of XᵀX/m: steps stay stable for wide, short inputs too.
        self.lr = LEARNING_RATE / max(1.0, case.in_features / case.batch)

    def __getattr__(self, name: str) -> Any:
        """Draw an input of the case's operation, once."""
        inputs = OPERATIONS[self.case.operation].inputs if "case" in self.__dict__ else {}
        if name not in inputs:
            raise AttributeError(f"a problem has {', '.join(inputs)}; got {name!r}")
        self.__dict__[name] = inputs[name](self)
        return self.__dict__[name]

    def draw(self) -> dict[str, Any]:
        """Draw each input of the seed that is in use, by its name."""
        inputs = OPERATIONS[self.case.operation].inputs
        return {name: draw(self) for name, draw in inputs.items() if name in self.__dict__}

    def draw_normal(self, stream: int, *shape: int, scale: float = 1.0) -> Tensor:
        """Draw normal numbers of a deviation; each stream, 0 to 7, is independent of the others.

        Many are drawn in blocks, each by a generator of its own, several at a time.
        """
        values = torch.empty(*shape, dtype=torch.float64)
        blocks = values.view(-1).split(DRAWN_AT_ONCE)
        seeds = (8 * (self.seed + BLOCK_SEED * number) + stream for number in range(len(blocks)))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        if len(blocks) == 1:
            blocks[0].normal_(generator=generators[0])
        else:
            with ThreadPoolExecutor() as threads:
                list(threads.map(lambda block, by: block.normal_(generator=by), blocks, generators))
        return values.mul_(scale).to(device=self.case.device, dtype=DTYPES[self.case.dtype])

    @cached_property
    def weight(self) -> Float[Tensor, "n o"]:
        """The weight that steps change."""
        return self.start.weight.clone()

    @cached_property
    def bias(self) -> Float[Tensor, " o"]:
        """The bias that steps change."""
        return self.start.bias.clone()

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
        for name in OPERATIONS[self.case.operation].inputs:
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
        self._accessors = read, write

    def parameters(self) -> Gradient:
        """Return weight (n, o) and bias (o) as they are now, wherever a kernel keeps them."""
        return self._accessors[0]() if self._accessors else Gradient(self.weight, self.bias)

    def reset(self) -> None:
        """Put weight and bias back to their start, in place."""
        if self._accessors:
            self._accessors[1](self.start)
            return
        overwrite((self.weight, self.bias), self.start)

    def resample(self, seed: int) -> None:
        """Draw other inputs into the very same tensors, and reset the parameters.

        A kernel that was right only for the inputs it was first checked on is so found out.
        """
        self.seed = seed
        self.set_inputs(self.draw())

    def set_inputs(self, values: Mapping[str, Any]) -> None:
        """Copy other inputs into the very same tensors, and reset the parameters."""
        for name, value in values.items():
            overwrite(tensors_of(getattr(self, name)), tensors_of(value))
        if OPERATIONS[self.case.operation].trains:
            self.reset()


def overwrite(held: Iterable[Tensor], given: Iterable[Tensor]) -> None:
    """Copy values into tensors past torch's count of writes, which a kernel could look at."""
    for into, value in zip(held, given, strict=True):
        into.data.copy_(value)


def tensors_of(value: Any) -> tuple[Any, ...]:
    """Return one tensor, or what a tuple holds, as a tuple."""
    return (value,) if isinstance(value, Tensor) else tuple(value)
