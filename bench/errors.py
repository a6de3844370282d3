"""What goes wrong, said in one line: a user's mistake, exit status 2, and anybody's error."""


class UserError(Exception):
    """A mistake of the user's: its text says the rule, what came, and what to do."""


def in_one_line(error: Exception) -> str:
    """Return the kind and the message of anybody's error, for a reason that is kept."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
