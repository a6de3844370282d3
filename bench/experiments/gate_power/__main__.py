"""Try the gate on code that is the same, is slowed, or holds a mistake."""

import argparse
from pathlib import Path

from rich.console import Console

from ...common.errors import UserError
from ...common.paths import RESULTS
from .analysis import KINDS, read_trials, to_frame
from .experiment import run_trials
from .section import trials_section


def main() -> None:
    """Add trials, and print what all of them say; a user's mistake is exit status 2."""
    parser = argparse.ArgumentParser("python -m bench.experiments.gate_power", description=__doc__)
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help="what to try: %(choices)s")
    parser.add_argument("--count", type=int, default=1, help="how many to add (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS / "gate", help="where they are kept")
    arguments = parser.parse_args()
    try:
        with Console(stderr=True).status("starting") as status:
            path = run_trials(arguments.kind, arguments.count, arguments.out, status.update)
        print(trials_section(to_frame(read_trials(path)), None), path, sep="\n\n")
    except UserError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
