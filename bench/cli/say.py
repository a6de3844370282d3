"""What a command says beside its output. Needs nothing, as a report must."""

import sys


def say(line: str) -> None:
    """Print one line on the standard error at once."""
    print(line, file=sys.stderr, flush=True)
