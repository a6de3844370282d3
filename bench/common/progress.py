"""What is shown on the standard error while something takes long."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """Show what is being done, where a terminal is."""
    with progress_console().status("starting") as status:
        yield lambda text: status.update(escape(text))


def progress_console() -> Console:
    """Return where progress is shown; many services of CI pass for a terminal, and keep a log."""
    terminal = False if os.environ.get("CI") else None
    return Console(stderr=True, highlight=False, force_terminal=terminal)
