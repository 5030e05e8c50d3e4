"""The keys that configurations once had."""

OLD_KEYS: dict[str, str] = {}


def renamed(key: str) -> str | None:
    """One line that names the present key in the place of a former, dotted one; None for any other key."""
    return f"{key} is now called {OLD_KEYS[key]}" if key in OLD_KEYS else None
