"""A case is an operation at given sizes; a problem holds its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .checks import DTYPE_NAMES
from .data import Dataset
from .declaration import OPERATIONS, cost, unknown

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}
LEARNING_RATE = 0.01
DRAWN_AT_ONCE = 2**24  # numbers: half a second
BLOCK_SEED = 15_485_863  # apart from those that a process or a user adds to a seed


class Gradient(NamedTuple):
    """The gradient of the loss: ∂L/∂W of shape (n, o) and ∂L/∂b of shape (o)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True, init=False)
class Case:
    """Name one problem: frozen and made of strings and integers, so that it goes through JSON.

    The sizes are those of the operation's axes, each in its place or by the axis' name, as in
    `Case("step", "cpu", "float64", 33, 6, 3)`; `case.batch` reads one by its axis.

    Raises:
        ValueError: For an unknown operation or dtype, sizes that are not those of its axes, or one
            below one.
    """

    operation: str
    device: str
    dtype: str
    sizes: tuple[int, ...]
    seed: int = 0

    def __init__(
        self,
        operation: str,
        device: str,
        dtype: str,
        *in_order: int,
        sizes: Sequence[int] = (),
        seed: int = 0,
        **by_axis: int,
    ) -> None:
        given = in_order or tuple(sizes)
        if by_axis:
            named = dict(zip(_axes(operation), given, strict=False)) | by_axis
            ordered = {axis: named.pop(axis) for axis in _axes(operation) if axis in named}
            given = (*ordered.values(), *named.values())  # one too many for an unknown axis
        values = {"operation": operation, "device": device, "dtype": dtype, "sizes": given}
        for name, value in {**values, "seed": seed}.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    @classmethod
    def of(cls, operation: str, x: Tensor, y: Tensor) -> Case:
        """Name the case of one's own tensors: X (m, n), and Y or δ (m, o)."""
        m, n = x.shape
        return cls(operation, str(x.device), str(x.dtype).removeprefix("torch."), m, n, y.shape[1])

    def __post_init__(self) -> None:
        """Refuse what no problem can be made of."""
        axes = _axes(self.operation)
        if self.dtype not in DTYPES:
            raise ValueError(f"a dtype is one of {', '.join(DTYPES)}; got {self.dtype!r}")
        if len(self.sizes) != len(axes):
            raise ValueError(
                f"a case of {self.operation} has a size for each of {', '.join(axes)}; got "
                f"{len(self.sizes)} sizes"
            )
        for name, size in zip(axes, self.sizes, strict=True):
            if size < 1:
                raise ValueError(f"{name} must be at least 1; got {size}")

    def __getattr__(self, name: str) -> int:
        """Return a size by the name of its axis."""
        axes = () if name.startswith("_") or name in self.__slots__ else _axes(self.operation)
        if name not in axes:
            raise AttributeError(f"a case has {', '.join((*self.__slots__, *axes))}; got {name!r}")
        return self.sizes[axes.index(name)]

    @property
    def by_axis(self) -> dict[str, int]:
        """The sizes by the names of their axes."""
        return dict(zip(_axes(self.operation), self.sizes, strict=True))

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return DTYPES[self.dtype].itemsize

    @property
    def least_flops(self) -> int | None:
        """Floating-point operations that no formulation does without from inputs given anew.

        None, here and for the other costs, where that is not declared.
        """
        return self._cost("least_flops")

    @property
    def least_bytes(self) -> int | None:
        """Bytes that no formulation does without: inputs read, results written, once."""
        return self._cost("least_bytes")

    @property
    def input_bytes(self) -> int | None:
        """Bytes of the input tensors."""
        formula = OPERATIONS[self.operation].input_bytes
        return formula(*self.sizes, self.itemsize) if formula else None

    def _cost(self, name: str) -> int | None:
        formula = getattr(OPERATIONS[self.operation], name)
        return cost(f"{name} of operation {self.operation}", formula, self.sizes, self.itemsize)

    @property
    def id(self) -> str:
        """The case in test ids and legends, without its kernel: `cpu-float64-33x6x3`."""
        return f"{self.device}-{self.dtype}-{'x'.join(map(str, self.sizes))}"


def _axes(operation: str) -> tuple[str, ...]:
    if operation not in OPERATIONS:
        raise ValueError(unknown("operation", operation, OPERATIONS))
    return tuple(OPERATIONS[operation].axes)


class Problem:
    """Hold the tensors of one case: drawn on the CPU in float64, then moved, each on first use.

    Every device, dtype and version of the suite so sees the same numbers up to rounding. What is
    drawn are the inputs of the case's operation, each an attribute. Its state, `weight` and `bias`
    for instance, is what a call changes: copies of the tensors in `start`. A kernel that keeps its
    parameters in a module or a graph puts views of them here when it binds.

    Shapes of the built-in operations: `x (m, n)`, `y (m, o)`, `delta (m, o)`, `weight (n, o)`,
    `bias (o)`.
    """

    x: Float[Tensor, "m n"]
    y: Float[Tensor, "m o"]
    delta: Float[Tensor, "m o"]
    start: Any  # a named tuple: a Gradient, or of the state of an operation of one's own
    weight: Float[Tensor, "n o"]
    bias: Float[Tensor, " o"]
    dataset: Dataset

    def __init__(self, case: Case) -> None:
        self.case = case
        self.seed = case.seed
        self.reference: Any = None  # of the baseline: a problem on these inputs, and its call
        self._accessors: tuple[Callable[[], Any], Callable[[Any], None]] | None = None
        rate = OPERATIONS[case.operation].lr
        self.lr = rate(*case.sizes) if rate else LEARNING_RATE

    def __getattr__(self, name: str) -> Any:
        """Draw an input of the case's operation, or copy a tensor of its state, once."""
        declared = OPERATIONS[self.case.operation] if "case" in self.__dict__ else None
        if declared is not None and name in declared.inputs:
            drawn = declared.draw(self, (name,))
            self.__dict__.update({one: drawn[one] for one in drawn if one not in self.__dict__})
        elif declared is not None and name in declared.state:
            self.__dict__[name] = getattr(self.start, name).clone()
        else:
            names = (*declared.inputs, *declared.state) if declared else ()
            raise AttributeError(f"a problem has {', '.join(names)}; got {name!r}")
        return self.__dict__[name]

    def draw(self) -> dict[str, Any]:
        """Draw each input of the seed that is in use, by its name."""
        declared = OPERATIONS[self.case.operation]
        names = [name for name in declared.inputs if name in self.__dict__]
        drawn = declared.draw(self, names)
        return {name: drawn[name] for name in names}

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
        self, read: Callable[[], Any], write: Callable[[Any], None]
    ) -> None:
        """Let a kernel keep the parameters where no tensor can view them.

        Args:
            read: Returns the parameters as tensors, a named tuple as `start` is.
            write: Puts other ones in their place.
        """
        self._accessors = read, write

    def parameters(self) -> Any:
        """Return the state as it is now, wherever a kernel keeps it: weight (n, o) and bias (o)."""
        return self._accessors[0]() if self._accessors else type(self.start)(*self._state())

    def reset(self) -> None:
        """Put the state back to its start, in place."""
        if self._accessors:
            self._accessors[1](self.start)
            return
        overwrite(self._state(), self.start)

    def _state(self) -> list[Tensor]:
        return [getattr(self, name) for name in OPERATIONS[self.case.operation].state]

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
