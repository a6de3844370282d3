"""The one error that a user's mistake raises: shown as one line, exit status 2."""


class UserError(Exception):
    """A mistake of the user's: its text says the rule, what came, and what to do."""
