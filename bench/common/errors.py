"""What goes wrong, said in one line: a user's mistake, exit status 2, and anybody's error."""

from __future__ import annotations

from pathlib import Path
from traceback import extract_tb


class UserError(Exception):
    """A mistake of the user's: its text says the rule, what came, and what to do."""


def in_one_line(error: BaseException) -> str:
    """Return the kind and the message of anybody's error, for a reason that is kept."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def raised_at(error: BaseException) -> str:
    """Return the file and the line that raised an error, `gate.py:221`."""
    *_, last = extract_tb(error.__traceback__)
    return f"{Path(last.filename).name}:{last.lineno}"
