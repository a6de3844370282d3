"""A load on the whole machine, for trials beside which other programs work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..common.errors import UserError
from ..machine.cores import usable
from ..run.process import WorkerProcess

# On each core a process that computes, and one that copies memory.
LOAD = """
import subprocess, sys
for _ in range(int(sys.argv[1])):
    subprocess.Popen([sys.executable, "-c", "while True: pass"])
memory = bytearray(2**28)
while True: memory[:2**27] = memory[2**27:]
"""
LONGEST_S = 36_000.0


@contextmanager
def under_load(loaded: bool) -> Iterator[None]:
    """Load every core and the memory while a trial lasts, if it is `loaded`.

    Raises:
        UserError: The load ended before the trial did, which so says nothing.
    """
    if not loaded:
        yield
        return
    command = [sys.executable, "-c", LOAD, str(usable()[1])]
    with WorkerProcess(command, LONGEST_S, reports=False) as load:
        yield
        if load.wait(0):
            raise UserError(f"a load must last as long as its trial; {load.end().reason}")
