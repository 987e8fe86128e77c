"""The one exception that stands for a user's mistake."""


class FIMPError(ValueError):
    """Input that cannot be used: a file, an argument or a combination of them.

    The message is one line that names what was given, what was found, what was wanted and the
    remedy. The command line prints it and exits with code 2; it never shows a traceback for it.
    """
