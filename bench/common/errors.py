"""What goes wrong, said in one line: a user's mistake, exit status 2, and anybody's error."""


class UserError(Exception):
    """A mistake of the user's: its text says the rule, what came, and what to do."""


def single_line(value: object, limit: int = 200) -> str:
    r"""Return a text on one line: control characters as escapes, the middle of a long one cut.

    >>> single_line("a\nb")
    'a\\nb'
    """
    text = str(value)
    if len(text) > limit:
        text = f"{text[: limit // 2]}…{text[len(text) - limit // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_one_line(error: BaseException) -> str:
    """Return the kind and the message of anybody's error, for a reason that is kept."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
