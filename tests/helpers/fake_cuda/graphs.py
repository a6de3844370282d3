"""Graphs of the fake device: recorded operators, made again on the addresses of their tensors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.profiler import record_function
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from .context import STATE, lose_context, require_context

NOT_PERMITTED = "CUDA error: operation not permitted when stream is capturing"
REPLAY = "replay of a graph"  # in a trace: what is made meanwhile lies in the graph's own memory


class Address(NamedTuple):
    """Where a tensor lies, as a graph knows it: its memory may be freed."""

    memory: StorageWeakRef
    dtype: torch.dtype
    layout: tuple[Any, ...]

    @classmethod
    def of(cls, value: Any) -> Any:
        """Return the address of a tensor, or any other value as it is."""
        if not isinstance(value, Tensor):
            return value
        layout = value.storage_offset(), tuple(value.size()), tuple(value.stride())
        return cls(StorageWeakRef(value.untyped_storage()), value.dtype, layout)

    def tensor(self) -> Tensor:
        """Return the tensor there; where the memory was freed, the context is lost."""
        storage = torch.UntypedStorage._new_with_weak_ptr(self.memory.cdata)
        if storage is None:
            lose_context()
        return torch.empty(0, dtype=self.dtype).set_(storage, *self.layout)


class Launch(NamedTuple):
    """An operator, or a launch of Triton's, of a graph: `made` is the graph's own memory."""

    function: Callable[..., Any]
    given: tuple[Any, Any]
    made: list[Tensor]

    def replay(self) -> None:
        """Do it again, with the results where they were."""
        args, kwargs = tree_map(
            lambda value: value.tensor() if isinstance(value, Address) else value,
            self.given,
            is_leaf=lambda value: isinstance(value, Address),
        )
        found = self.function(*args, **kwargs)
        if self.made:
            for place, value in zip(self.made, tensors_in(found), strict=True):
                place.copy_(value)


class Recorder(TorchDispatchMode):
    """Records what a capture does; unlike on a GPU it is done meanwhile as well."""

    def __init__(self, launches: list[Launch]) -> None:
        super().__init__()
        self.launches = launches

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operator, and record it unless it only makes a view."""
        if func is torch.ops.aten._local_scalar_dense.default:
            raise torch.AcceleratorError(NOT_PERMITTED)
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        given = {one.untyped_storage()._cdata for one in tensors_in((args, kwargs))}
        made = [one for one in tensors_in(found) if one.untyped_storage()._cdata not in given]
        if made or func._schema.is_mutable:
            self.add(func, args, kwargs, made)
        return found

    def add(self, function: Any, args: Any, kwargs: Any, made: list[Tensor]) -> None:
        """Append a launch."""
        self.launches.append(Launch(function, tree_map(Address.of, (args, kwargs)), made))


def tensors_in(values: Any) -> list[Tensor]:
    return [one for one in tree_leaves(values) if isinstance(one, Tensor)]


class CUDAGraph:
    """What was captured, to be done again."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.launches: list[Launch] = []

    def replay(self) -> None:
        """Do it again, on the same addresses."""
        require_context()
        with torch.no_grad(), record_function(REPLAY):
            for launch in self.launches:
                launch.replay()

    def pool(self) -> tuple[int, int]:
        """Return the id of the graph's own memory."""
        return (0, 1)

    def reset(self) -> None:
        """Forget what was captured."""
        self.launches.clear()


@contextmanager
def graph(
    cuda_graph: CUDAGraph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
) -> Iterator[None]:
    """Capture what is done inside."""
    assert capture_error_mode in ("global", "thread_local", "relaxed")
    STATE.recorder = Recorder(cuda_graph.launches)
    try:
        with STATE.recorder:
            yield
    finally:
        STATE.recorder = None


def record_triton() -> None:
    """Let a capture record what Triton's interpreter launches, and a launch take half as long.

    The interpreter exchanges the functions of the language at every call of a function in a kernel;
    once a launch is enough.
    """
    from triton.runtime import interpreter

    run, exchange, done = interpreter.InterpretedFunction.run, interpreter._patch_lang, set[Any]()

    def exchange_once(function: Any) -> Any:
        if function in done:
            return None
        done.add(function)
        return exchange(function)

    def launched(self: Any, *args: Any, **kwargs: Any) -> None:
        done.clear()
        run(self, *args, **kwargs)

    def recorded(self: Any, *args: Any, **kwargs: Any) -> None:
        with _disable_current_modes():  # it copies tensors by operators of its own
            launched(self, *args, **kwargs)
        if STATE.recorder is not None:
            STATE.recorder.add(launched, (self, *args), kwargs, [])

    interpreter._patch_lang = exchange_once
    interpreter.InterpretedFunction.run = recorded
