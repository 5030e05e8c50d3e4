"""The one error that a user can cause, and the one warning."""

import difflib
import re
from collections.abc import Iterable

LONGEST_WORD, LONGEST = 500, 2000  # characters of a message: a file or an option may hold megabytes


class InputError(ValueError):
    """One clear line that names the file, key or value and says what to do; the command line exits with 2."""

    def __init__(self, message: str) -> None:
        words = (shortened(word, LONGEST_WORD) for word in message.split())  # other libraries' reasons span lines
        super().__init__(shortened(" ".join(words), LONGEST))


class InputWarning(UserWarning):
    """One line on what was given, such as a guess that was made about it; the command line prints it as a note."""


def first_sentence(error: BaseException) -> str:
    """What another library says, without the advice that follows: its first sentence, at most 200 characters."""
    text = " ".join(str(error).split())
    return shortened(re.split(r"(?<=[.!?]) (?=[A-Z])", text, maxsplit=1)[0].rstrip("."), 200) or type(error).__name__


def shortened(text: str, most: int = 60) -> str:
    """A text that a message quotes, cut after `most` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the known name nearest to `name`, whatever the case, or an empty string."""
    spelled = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f" Did you mean '{spelled[close[0]]}'?" if close else ""
