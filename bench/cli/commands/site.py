"""Write a folder for a web server: the report, one page a machine, all results, and a badge."""

import argparse
import json
import shutil
import tempfile
from itertools import chain
from pathlib import Path

from ...common.errors import UserError, single_line
from ...common.paths import RESULTS
from ...common.units import counted
from ...experiments.gate_power.analysis import badge
from ...overhead.section import every_subject
from ...report.build import write_report, write_table
from ...store.files import writing
from ...store.runs import latest_runs, load_frame, load_heads
from ..stored import others, stored_runs, stored_trials


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="folder to write, which must not exist yet")
    add("--results", type=Path, default=RESULTS, help="results folder (default: results)")


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, all of it or nothing; return 0."""
    out, results = arguments.folder, arguments.results
    if out.exists():
        raise UserError(
            f"a site is written into a new folder; {single_line(out)} exists; remove it or give "
            "another"
        )
    paths, trials = stored_runs(results), stored_trials(results)
    heads, beside = load_heads(paths), others(results, trials)
    machines = sorted({head.machine.slug for head in heads.values()})
    with writing("a site", out), tempfile.TemporaryDirectory(dir=out.absolute().parent) as work:
        new = Path(work, "site")
        for name in ("", *machines):
            own = {path: head for path, head in heads.items() if name in ("", head.machine.slug)}
            shown = beside if not name else every_subject()
            folder = Path(work, "report")
            write_report(latest_runs(own), folder, shown, page=True, heads=own, history=True)
            (new / name).mkdir()
            shutil.copyfile(Path(work, "report", "report.html"), new / name / "index.html")
        write_table(load_frame(paths, heads), new / "results.parquet")
        told = badge([*chain(*trials.values())])
        (new / "badge.json").write_text(json.dumps(told), encoding="utf-8")
        new.rename(out)
    print(
        f"wrote {out}: index.html, {counted(len(machines), 'machine')}, results.parquet, badge.json"
    )
    return 0
