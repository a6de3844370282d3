"""Run by test_distributed.py: worker 1 fails in the way that the command line names."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_cuda
import numpy as np
import torch

from mlr import distributed
from mlr.distributed import __main__ as program
from mlr.distributed import fitting

RANK = os.environ["RANK"]
FAILING_STEP = 8
FAKE = "--fake-cuda"  # asks for a device that is the CPU
FIRST = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"


def fail(how: str) -> None:
    """Let this worker fail when it has taken some steps."""
    take, taken = fitting._take, []

    def failing(*arguments: object) -> float:
        taken.append(take(*arguments))
        if len(taken) == FAILING_STEP:
            if how == "differs":
                arguments[1].model.b.add_(1e-12)
            elif how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            else:  # for so long that the others have given it up; torchrun would wait 30 s more
                go_on = f"sleep 12; kill -CONT {os.getpid()}"
                subprocess.Popen(["/bin/sh", "-c", go_on], start_new_session=True)
                os.kill(os.getpid(), signal.SIGSTOP)
        return taken[-1]

    fitting._take = failing


def main(how: str, *arguments: str) -> int:
    os.write(1, f"pid {os.getpid()}\n".encode())  # at once: the others write there too
    if FAKE in arguments:
        fake_cuda.install()
        arguments = tuple(one for one in arguments if one != FAKE)
    if RANK == "1" and FIRST:
        if how == "absent":
            time.sleep(600)
        elif how in ("killed", "stopped", "differs"):
            fail(how)
        elif how == "features":
            program.SyntheticRows = lambda workers, m, n, *rest, **more: distributed.SyntheticRows(
                workers, m, n + 1, *rest, **more
            )
        elif how == "dtype":
            arguments = (*arguments, "--dtype=float32")
        elif how == "nan":
            read = distributed.SyntheticRows._read

            def with_nan(self: distributed.SyntheticRows, first: int, last: int) -> tuple:
                x, y = read(self, first, last)
                x[-1, 0] = torch.nan
                return x, y

            distributed.SyntheticRows._read = with_nan
        elif how == "cut":
            arguments = (*arguments, f"--x={cut(arguments)}")
    return program.main(arguments)


def cut(arguments: tuple[str, ...]) -> Path:
    """Return a copy of the file of X that ends too early, but says it does not."""
    path = Path(next(one for one in arguments if one.startswith("--x=")).removeprefix("--x="))
    short = path.with_name("short.npy")
    np.save(short, np.load(path))
    os.truncate(short, short.stat().st_size - 100)
    return short


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
