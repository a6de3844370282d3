"""Texts that are shown on one line."""


def single_line(value: object, limit: int = 200) -> str:
    r"""Return a text on one line: control characters as escapes, the middle of a long one cut.

    >>> single_line("a\nb")
    'a\\nb'
    """
    text = str(value)
    if len(text) > limit:
        text = f"{text[: limit // 2]}…{text[len(text) - limit // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
