"""Lets workers be forks of the test's process, which has imported torch and the suite already.

A fork does what a module does after `python -m`, with the same streams, environment and session.
What a fresh interpreter would load first, two seconds of torch, it has.
"""

import faulthandler
import gc
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest


class Fork(subprocess.Popen[str]):
    """A process that runs a module and never becomes another program."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], **how: Any) -> None:
        _, option, *argv = command
        assert option == "-m"
        super().__init__(command, env=env, preexec_fn=lambda: run_module(argv, env), **how)


def run_module(argv: list[str], env: Mapping[str, str]) -> None:
    """Run a module as this process, and end it."""
    gc.enable()  # which `Popen` has switched off
    faulthandler.disable()  # it writes to a file of pytest's
    os.closerange(3, 2**16)  # `Popen` waits until the first of them is closed
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # as the environment says it
    sys.argv, code = argv, 1
    try:
        with open(0) as sys.stdin, open(1, "w") as sys.stdout, open(2, "w", 1) as sys.stderr:
            code = exit_status_of(argv[0])
    finally:
        os._exit(code)


def exit_status_of(module: str) -> int:
    """Run a module and return the status that Python would end with."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def fork_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every `WorkerProcess` be a fork."""
    own = SimpleNamespace(Popen=Fork, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr("bench.run.process.subprocess", own)
