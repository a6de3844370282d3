"""Starts workers under torchrun, as a user does, and leaves nothing of them behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from paths import ROOT


@contextmanager
def launched(
    world: int, *arguments: object, options: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Start so many workers of a script, or of `-m` a module, with its arguments."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={world}",
               "--master-addr=127.0.0.1", *options, *map(str, arguments)]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()


def torchrun(
    world: int, *arguments: object, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run workers to their end."""
    with launched(world, *arguments, options=options) as process:
        out, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def reasons(done: subprocess.CompletedProcess[str]) -> dict[int, str]:
    """Return the one line that each worker that failed has said, by rank."""
    said = re.findall(r"^(?:error: )?rank (\d): (?:error: )?(.*)$", done.stderr, re.MULTILINE)
    assert len(said) == len(dict(said)), done.stderr
    return {int(rank): reason for rank, reason in said}
