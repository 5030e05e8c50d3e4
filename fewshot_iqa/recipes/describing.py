"""What a task is, in lines."""

from ..config import SyntheticTask, TableTask


def describe(task: TableTask | SyntheticTask) -> list[tuple[str, str]]:
    """Lines of (what, text)."""
    lines = [("what", task.description)]
    if isinstance(task, SyntheticTask):
        return lines
    good = "lower is better" if task.lower_is_better else "higher is better"
    scale = f"{task.range[0]:g} to {task.range[1]:g}" if task.range else "that of the ratings"
    lines += [("ratings", " or ".join(map(str, task.labels)) or "your table (--labels)"), ("scale", f"{scale}, {good}")]
    if task.pictures:
        lines.append(("pictures", str(task.pictures)))
    if task.short_side:
        lines.append(
            ("reduced to", f"{task.short_side} pixels on the shorter side, as papers do: --set views.short_side")
        )
    lines.append(("splits", ", ".join([*task.splits, *(["test table"] if task.test_labels else [])]) or "by chance"))
    if not task.pooled:
        lines.append(("metrics", "medians over the subsets, each of which has a scale of its own"))
    lines += [("shares", f"{what} with {name}") for name, what in task.shares.items()]
    lines += [("note", note) for note in task.notes]
    lines += [(name, text) for name in ("citation", "terms", "url") if (text := getattr(task, name))]
    return lines
