"""`python -m bench`."""

import signal
import sys

from .cli.main import main

if __name__ == "__main__":
    # What Ctrl-C clears, SIGTERM clears too; and a script that starts this in its background has it
    # ignore SIGINT, and all processes that it starts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
