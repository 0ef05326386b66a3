"""The one exception that is meant for people."""


class UserError(ValueError):
    """Something the user can put right: one line that says what is wrong, where, and what to do.

    Commands print it as ``error: ...`` without a traceback and exit with status 1.
    """
