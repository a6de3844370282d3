"""A call as a CUDA graph: all of its launches cost the host one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

WARM_UP_CALLS = 3  # before a capture, in which nothing may be loaded for the first time


@cache
def capture_stream(index: int) -> Any:
    """Return the stream on which all graphs of a process are captured, one for each device index.

    cuBLAS keeps a workspace for each stream that it is used on, 32 MiB on an H100, for as long as
    the process lives.
    """
    return torch.cuda.Stream(index)


def capture(step: Callable[[], None]) -> Callable[[], None]:
    """Capture what a call launches on the current device; return the call that launches it again.

    Makes the call a few times before: what it changes in place, the caller puts back. A graph knows
    addresses alone, so the returned call holds on to `step`, and with it to the tensors that it
    uses. It runs on the device of the capture, whichever is the current one by then.
    Source: torch.cuda.CUDAGraph.

    Args:
        step: Launches work on the current stream, always the same on the same tensors; it does not
            wait for the device.
    """
    stream = capture_stream(torch.cuda.current_device())
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

    return call
