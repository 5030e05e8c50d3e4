"""The one error a user can cause."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """One clear line that names the file, key or value and says what to do; the command line exits with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # other libraries' reasons span lines


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the known name nearest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
