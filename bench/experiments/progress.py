"""What an experiment shows while it has the machine to itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..common.progress import doing
from ..machine.lock import exclusive_machine


@contextmanager
def on_exclusive_machine() -> Iterator[Callable[[str], None]]:
    """Hold the machine, and return what shows a line of text in place of the last."""
    with doing() as show, exclusive_machine(show):
        yield show
