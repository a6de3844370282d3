"""`python -m bench`, and of an installed suite `mlr-bench`."""

import os
import signal
import sys

from .cli.main import main
from .common.paths import IS_INSTALLED


def start() -> int:
    """Run the command of the command line and return its exit status.

    What Ctrl-C clears, SIGTERM clears too; and a script that starts this in its background has it
    ignore SIGINT, and all processes that it starts. Of an installed suite these import what is
    installed, and no file of its name in the folder that they are started in.
    """
    if IS_INSTALLED:
        os.environ["PYTHONSAFEPATH"] = "1"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    return main()


if __name__ == "__main__":
    sys.exit(start())
