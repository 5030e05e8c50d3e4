"""The one error that a user can cause, and the one warning."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """One clear line that names the file, key or value and says what to do; the command line exits with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # other libraries' reasons span lines


class InputWarning(UserWarning):
    """One line on what was given, such as a guess that was made about it; the command line prints it as a note."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the known name nearest to `name`, whatever the case, or an empty string."""
    spelled = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f" Did you mean '{spelled[close[0]]}'?" if close else ""
