"""Run several times over: do whole runs agree with each other, and with torch's Timer?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...common.errors import UserError
from ...common.paths import RESULTS
from ...machine.info import machine_slug
from ...plan.selection import Selection, add_axes
from .analysis import agreement_promise, promises
from .experiment import agreement, repeat, write_proof


def main() -> int:
    """Measure, write what was found, and return 0 where every promise was kept."""
    parser = argparse.ArgumentParser(
        "python -m bench.experiments.repeatability", description=__doc__
    )
    add = parser.add_argument
    add_axes(add, "smoke")
    add("--processes", type=int, default=5, help="of each run (default: 5)")
    add("--runs", type=int, default=4, help="how many (default: 4)")
    add("--out", type=Path, default=RESULTS / "repeatability", help="where to")
    add("--no-pinned-env", action="store_true", help="leave the threads and the allocator as found")
    given = parser.parse_args()
    try:
        axes = Selection.from_args(given, "smoke")
        found = repeat(axes, given.runs, given.processes, pinned=not given.no_pinned_env)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    apart = agreement(axes)
    said = [*promises(found.spread, found.known), agreement_promise(apart)]
    path = given.out / f"{machine_slug()}{'-no_pinned_env' * given.no_pinned_env}.md"
    write_proof(found, apart, said, path)
    for text, measured, kept in said:
        print(f"{'kept    ' if kept else 'NOT KEPT'} {text}:\n         {measured}")
    print(path)
    return 0 if all(promise.kept for promise in said) else 1


if __name__ == "__main__":
    sys.exit(main())
