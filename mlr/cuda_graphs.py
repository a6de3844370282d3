"""A call as a CUDA graph: all of its launches cost the host one."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

WARM_UP_CALLS = 3  # before a capture, in which nothing may be loaded for the first time


class CaptureStream:
    """The stream on which all graphs of a process are captured on a device, and those graphs.

    cuBLAS keeps a workspace for each stream that it is used on, 32 MiB on an H100, for as long as
    the process lives; so there is one. Since 2.13 torch frees it when any graph of the stream is
    destroyed, while others still write to it (pytorch/pytorch#193402). So none is destroyed before
    the last call of all has gone.
    """

    def __init__(self, index: int) -> None:
        self.stream = torch.cuda.Stream(index)
        self.graphs: list[Any] = []
        self._calls = 0

    def hold(self, graph: Any, call: Callable[[], None]) -> None:
        """Keep a graph as long as any call lives, of this or of another."""
        self.graphs.append(graph)
        self._calls += 1
        weakref.finalize(call, self._release).atexit = False

    def _release(self) -> None:
        self._calls -= 1
        if not self._calls:
            self.graphs.clear()


@cache
def capture_stream(index: int) -> CaptureStream:
    """Return what graphs are captured on, by the index of a device."""
    return CaptureStream(index)


def capture(step: Callable[[], object]) -> Callable[[], None]:
    """Capture what a call launches on the current device; return the call that launches it again.

    Makes the call a few times before: what it changes in place, the caller puts back. A graph knows
    addresses alone, so the returned call holds on to `step`, and with it to the tensors that it
    uses. It runs on the device of the capture, whichever is the current one by then.
    Source: torch.cuda.CUDAGraph.

    Args:
        step: Launches work on the current stream, always the same on the same tensors; it does not
            wait for the device.
    """
    aside = capture_stream(torch.cuda.current_device())
    stream = aside.stream
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            step()
    graph = torch.cuda.CUDAGraph()
    # By default whatever other threads allocate meanwhile, JAX's for one, would end the capture.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        step()
    torch.cuda.current_stream().wait_stream(stream)

    def call(held: object = step, replay: Callable[[], None] = graph.replay) -> None:
        replay()

    aside.hold(graph, call)
    return call
