"""Keys of earlier versions and their present names."""

OLD_KEYS = {
    "episodes.count": "episodes.tasks_per_step",
    "gp": "head",
    "gp.length": "head.lengthscale",
    "gp.linear": "head.linear",
    "gp.noise": "head.noise",
    "model.fusion": "head",
    "model.head": "head.kind",
    "model.prior": "head.prompt_mean_weight",
    "ridge": "head",
    "ridge.penalties": "head.penalties",
}


def renamed(key: str) -> str | None:
    """The present name of a dotted key of an earlier version, with what stands before it; None where it has none.

    >>> renamed("episodes.count")
    'episodes.tasks_per_step'
    >>> renamed("task.episodes.count")
    'task.episodes.tasks_per_step'
    >>> renamed("adapt.lr")
    """
    parts = key.split(".")
    for i in range(len(parts)):
        if new := OLD_KEYS.get(".".join(parts[i:])):
            return ".".join([*parts[:i], new])
    return None
