"""Sums over workers on an accelerator, by NCCL: waited for with a deadline, and left if they hang.

There torch's call returns once the operation is enqueued. Where a worker is gone it never ends: the
host then hangs in whatever waits for the device next, no signal reaches Python, and after torch's
own timeout its watchdog ends the process without a line that names the worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

LOOK_S = 0.02  # between two looks at a sum that takes long, and at what the other workers say
WATCHDOG_S = 15.0  # beyond our own deadline: the time to find out which worker is gone, and say so


def options(device: torch.device, timeout_s: float) -> dict[str, Any]:
    """Return what `init_process_group` is given besides: the backend, its device and timeout.

    On an accelerator torch's watchdog is told to end sums that fail, and not the process, unless
    the user says otherwise. Source: torch's manual of ProcessGroupNCCL's environment variables.
    """
    if device.type == "cpu":
        return {"backend": "gloo", "timeout": timedelta(seconds=timeout_s)}
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
    watchdog = timedelta(seconds=timeout_s + WATCHDOG_S)
    return {"backend": "nccl", "timeout": watchdog, "device_id": device}


def wait_for(work: dist.Work, timeout_s: float, has_fault: Callable[[], bool]) -> None:
    """Wait until an operation has ended on the device.

    Args:
        work: As `all_reduce(async_op=True)` returns it.
        timeout_s: Seconds after which it has failed.
        has_fault: Says whether another worker has said that it fails.

    Raises:
        RuntimeError: It failed, or did not end in time, or will not because another worker failed.
    """
    start = time.monotonic()
    while not work.is_completed():
        waited = time.monotonic() - start
        if waited < LOOK_S:  # a usual one ends within microseconds: it is asked without a pause
            continue
        if waited > timeout_s:
            raise RuntimeError(f"a sum over the workers did not come within {timeout_s:g} s")
        if has_fault():
            raise RuntimeError("another worker failed")
        time.sleep(LOOK_S)
    work.wait(timedelta(seconds=timeout_s))  # of one that has ended: raises the error it ended with


def abort(device: torch.device) -> None:
    """Leave the process group without waiting for what is under way on an accelerator."""
    if device.type != "cpu" and dist.is_initialized():
        with suppress(RuntimeError):  # a backend that cannot be told to
            dist.distributed_c10d._abort_process_group()
