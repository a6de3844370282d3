"""What an experiment shows while it has the machine to itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from ..machine.lock import exclusive_machine


@contextmanager
def on_exclusive_machine() -> Iterator[Callable[[str], None]]:
    """Hold the machine, and return what shows a line of text in place of the last."""
    with Console(stderr=True).status("starting") as status:

        def show(text: str) -> None:
            status.update(escape(text))

        with exclusive_machine(show):
            yield show
