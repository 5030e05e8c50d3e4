"""Write docs/leaderboard.md from the results in docs/leaderboard.

    python docs/leaderboard.py

A result is TABLE.json or TABLE-NAME.json, as `fsiqa reproduce TABLE --json FILE` writes it.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "leaderboard"
INTRODUCTION = """\
# Leaderboard

Tables of papers, repeated by `fsiqa reproduce` ([Data sets](guides/data-sets.md#tables-of-papers)). Splits are of whole
groups, and test pictures choose nothing: these are the columns `srcc` and `plcc`. A `best look` is the best of several
looks at the test while a method learns, as the paper's released code reports it; it is not a fair measurement.

To add a result, write it with `--json docs/leaderboard/TABLE-NAME.json`, run `python docs/leaderboard.py`, and open a
pull request.\
"""


def leaderboard(folder: Path) -> str:
    """The page: a table for each file of a folder, the best method of a row first."""
    lines = [INTRODUCTION]
    for file in sorted(folder.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        sides = ["", *(["best_look"] if found["released"] else []), "paper"]
        heads = [f"{side.replace('_', ' ')} {metric}".strip() for side in sides for metric in ("srcc", "plcc")]
        splits = "One split" if found["seeds"] == 1 else f"The {found['statistic']} of {found['seeds']} splits"
        lines += ["", f"## {found['table']}", "", f"{splits}, by", ""]
        lines += ["```console", f"$ {_command(file.stem.partition('-')[0], found)}", "```", ""]
        lines += [_row(["data", "labels", "tested", "method", *heads]), _row(["---"] * (4 + len(heads)))]
        for row in found["rows"]:
            shown = [row["row"], f"{row['labels']} ({row['shots']})", str(row["tested"])]
            for name, each in sorted(row["methods"].items(), key=lambda item: -item[1]["srcc"]):
                of = [each.get(side, {}) if side else each for side in sides]
                values = [some.get(metric) for some in of for metric in ("srcc", "plcc")]
                lines.append(_row([*shown, name, *("" if value is None else f"{value:.3f}" for value in values)]))
                shown = ["", "", ""]
        lines += ["", f"Paper: {found['source']}. [All numbers]({folder.name}/{file.name})"]
    return "\n".join(lines) + "\n"


def _command(table: str, found: Mapping[str, Any]) -> str:
    """The command that a result is of."""
    words = ["fsiqa", "reproduce", table, "--data", "data", "--seeds", str(found["seeds"])]
    words += ["--clip", found["clip"]] if found["clip"] else []
    words += ["--released"] if found["released"] else []
    return shlex.join([*words, *(word for text in found["overrides"] for word in ("--set", text))])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    FOLDER.with_suffix(".md").write_text(leaderboard(FOLDER), encoding="utf-8")
