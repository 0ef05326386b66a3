"""What goes wrong while shards are read, in one line."""

import re

from cosmos_nemo.errors import UserError

_TRUNCATED = re.compile(r"Unexpected end of tar file: (\S+)")


def plain_error(error: ValueError) -> ValueError:
    """Take the user's line out of an error from a reader.

    A worker process hands over its error as text with a traceback. A tar that is damaged between its members ends
    Energon's reader whatever its error handler does.

    Returns: a `UserError`, or the error itself if it was not meant for people.
    """
    text = str(error)
    damaged = _TRUNCATED.search(text)
    if damaged:
        return UserError(
            f"shard {damaged[1]} is damaged between its samples; copy it again, or train on the rest after "
            "`python -m data_prep verify SHARDS --repair`"
        )
    _, found, line = text.rpartition(f"{UserError.__module__}.{UserError.__name__}: ")
    return UserError(line.strip()) if found else error
