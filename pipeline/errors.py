"""The one exception that a user is meant to see."""


class MidframeError(Exception):
    """A mistake in the input, the settings or the machine, in one line.

    The message says what was wrong, where, and what to do. The command line prints it and exits
    with status 1; every other exception is a bug and keeps its traceback.
    """
