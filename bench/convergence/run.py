"""Fit curves: every trainer until it fits, in fresh processes, stored in one file."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from typing import Any

from pytest_benchmark.utils import get_commit_info

from ..common.errors import UserError
from ..common.paths import ROOT
from ..machine.environment import environment
from ..machine.info import machine_slug
from ..run.runner import how_ended
from ..store.records import store_record
from .records import Curves
from .worker import Wanted

LONGEST_PASS_S = 1_800.0  # of one process, from its start to its end


def measure_curves(wanted: Wanted, passes: int, out: Path, show: Callable[[str], None]) -> Path:
    """Train with every trainer in so many fresh processes, and store what was found.

    Args:
        wanted: The data, and how to train.
        passes: How many processes.
        out: The folder of curves; the file goes below it by machine.
        show: Called with what is being done.

    Raises:
        UserError: If a process fails, or the file cannot be written.
    """
    commit = {"id": "nogit", "dirty": False} | get_commit_info()
    told = [_pass(replace(wanted, number=number), show) for number in range(passes)]
    task = asdict(wanted)
    del task["number"]
    head = told[0][0]
    now = datetime.now(UTC)
    found = {
        "schema": 1,
        "datetime": now.isoformat(timespec="seconds"),
        "commit_info": {key: commit[key] for key in ("id", "dirty")},
        "machine": machine_slug(),
        **{key: head[key] for key in ("settings", "packages", "closed_form_loss", "target")},
        "task": task,
        "trained": [_joined(name, told) for name in _trainers(told)],
    }
    Curves.model_validate(found)
    name = f"{now:%Y%m%dT%H%M%SZ}-{commit['id'][:8]}.json"
    return store_record(out / str(found["machine"]) / name, found, "fit curves")


def _pass(wanted: Wanted, show: Callable[[str], None]) -> list[dict[str, Any]]:
    """Run one process and return what it said, line by line."""
    command = [sys.executable, "-m", f"{__package__}.worker", json.dumps(asdict(wanted))]
    said: list[dict[str, Any]] = []
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        with subprocess.Popen(
            command, cwd=ROOT, env=environment(os.environ), stdout=subprocess.PIPE,
            stderr=log, text=True, start_new_session=True,
        ) as child:  # fmt: skip
            late = Timer(LONGEST_PASS_S, child.kill)
            late.start()
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    said.append(json.loads(line))
                    doing = said[-1].get("trainer") or said[-1].get("timed") or "getting ready"
                    show(f"pass {wanted.number + 1}: {doing}")
                code = child.wait()
            finally:
                in_time = late.is_alive()
                late.cancel()
                child.kill()
        log.seek(0)
        errors = log.read().strip().splitlines()
    if not in_time:
        raise UserError(
            f"a process of the fit curves may take {LONGEST_PASS_S:g} s and took longer, so it was "
            "killed; give fewer rows or a higher learning rate"
        )
    if code != 0:
        last = f": {errors[-1][:300]}" if errors else ""
        raise UserError(f"a process of the fit curves ended badly ({how_ended(code)}){last}")
    return said


def _trainers(told: list[list[dict[str, Any]]]) -> list[str]:
    return sorted({line["trainer"] for lines in told for line in lines if "trainer" in line})


def _joined(name: str, told: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return a trainer's first account, with the median seconds of each pass.

    One that failed in any pass has no times, and says why.
    """
    accounts = [line for lines in told for line in lines if line.get("trainer") == name]
    failed = [line for line in accounts if line["status"] != "ok"]
    if failed:
        return failed[0]
    timed = [[line for line in lines if line.get("timed") == name] for lines in told]
    seconds = [statistics.median(line["seconds"] for line in lines) for lines in timed]
    missed = [
        line["loss"]
        for lines, head in zip(timed, (lines[0] for lines in told), strict=True)
        for line in lines
        if not line["loss"] <= head["target"] * (1 + 1e-9)
    ]
    if missed:
        reason = f"timed, it ended at a loss of {missed[0]:.6g}, and not where it had before"
        return accounts[0] | {"status": "not reached", "reason": reason}
    return accounts[0] | {"seconds": seconds}
