"""Starts workers, under torchrun as a user does or forked, and leaves nothing of them behind.

Forked workers come from a server that has imported torch already, so that they cost a hundredth of
what torchrun's do. Like torchrun's they have a store that outlives them, and all are asked to end
once one has failed.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from paths import ROOT
from torch.distributed import TCPStore

LONGEST_S = 900.0  # on a busy machine every step waits
GRACE_S = 1.0  # from a failure until the others are asked to end: they may be saying why
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["mlr.distributed.__main__", "torch._dynamo"])  # of DDP


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
    """Run workers under torchrun to their end."""
    with launched(world, *arguments, options=options) as process:
        out, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def forked(world: int, script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run forked workers of a script to their end."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    argv = [str(script), *map(str, arguments)]
    with TemporaryDirectory() as folder:
        texts = [Path(folder, name) for name in ("out", "errors")]
        workers = [
            _FORKS.Process(target=_work, args=(rank, world, store.port, texts, argv), daemon=True)
            for rank in range(world)
        ]
        for worker in workers:
            worker.start()
        end, ask = time.monotonic() + LONGEST_S, math.inf
        while any(worker.is_alive() for worker in workers) and time.monotonic() < end:
            if ask == math.inf and any(worker.exitcode for worker in workers):
                ask = time.monotonic() + GRACE_S
            if time.monotonic() > ask:
                ask = math.nan  # once
                for worker in workers:
                    worker.terminate()
            time.sleep(0.02)
        for worker in workers:
            worker.kill()
            worker.join()
        out, errors = (path.read_text() for path in texts)
    code = max(abs(worker.exitcode) for worker in workers)
    return subprocess.CompletedProcess(argv, code, out, errors)


def _work(rank: int, world: int, port: int, texts: list[Path], argv: list[str]) -> None:
    """Be one of the forked workers."""
    for number, path in enumerate(texts, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port,
             "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RESTART_COUNT": 0,
             "TORCHELASTIC_USE_AGENT_STORE": True}  # fmt: skip
    os.environ.update({name: str(value) for name, value in facts.items()})
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


def reasons(done: subprocess.CompletedProcess[str]) -> dict[int, str]:
    """Return the one line that each worker that failed has said, by rank."""
    said = re.findall(r"^(?:error: )?rank (\d): (?:error: )?(.*)$", done.stderr, re.MULTILINE)
    assert len(said) == len(dict(said)), done.stderr
    return {int(rank): reason for rank, reason in said}
