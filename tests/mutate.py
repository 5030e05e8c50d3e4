"""Change one number of a core file at a time, and see whether a test fails: python tests/mutate.py [FILE ...]

Each change is made in a copy of the package in a temporary folder, and the tests that `TESTS` names for the file run on
it. A whole number becomes the next one, any other half as large again. The exit status is 1 where a change survives.
"""

import argparse
import ast
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PROPERTIES, LEARNING, META = "tests/test_properties.py", "tests/test_learning.py", "tests/test_meta.py"
TESTS = {  # the quick ones that say what the file computes
    "regularize.py": [LEARNING, "-k", "project or scope"],
    "losses.py": [LEARNING, "-k", "cross_entropy or losses_weigh or diverges or infinite"],
    "meta.py": [META, "-k", "mean_way or plain_gradient or fomaml or finite or clipping"],
    "inner.py": [META, "-k", "inner_steps or mean_way or second_order_against"],
    "metrics.py": [PROPERTIES, "tests/test_evaluation.py", "-k", "not vote and not crop and not split and not shots"],
    "evaluation.py": ["tests/test_evaluation.py", PROPERTIES, "-k", "evaluation or reports or medians"],
    "votes.py": [PROPERTIES, "tests/test_votes.py", "-k", "opinion or scipy or names or sureal or ceiling or choix"],
    "data/splits.py": [PROPERTIES, "-k", "split or fold or shots"],
    "images/views.py": ["tests/test_views.py", PROPERTIES, "-k", "views or crops"],
    "model/prompts.py": ["tests/test_backbone.py", LEARNING, "-k", "prompt or placeholder or branch"],
    "model/heads/linear.py": [LEARNING, "-k", "ridge or penalties or constant_over"],
    "model/heads/prior.py": [LEARNING, "-k", "linear_prior"],
    "model/heads/gaussian_process.py": [LEARNING, "-k", "gaussian or prior or better_known or prompt_is"],
    "distortions/filters.py": ["tests/test_distortions.py", "-k", "scipy or kernels or plain_form or kadids"],
}
NO_RESULT = {  # lines whose numbers decide how long something takes or where arbitrary draws begin
    r"seed: int = 0": "an arbitrary seed",
    r"for _ in range\(|maxfev=|DRAWS = |n_resamples|MOST = ": "a number of steps or draws",
    r"recompute|checkpoint": "memory",
}
GUARD = 1e-5  # smaller numbers keep divisions and logarithms finite
TIMEOUT = 600  # seconds for the tests of one change
PRELOADED = ["torch", "open_clip", "timm", "pandas", "pytest", "scipy.stats", "scipy.optimize", "hypothesis"]
PRELOADED += ["sklearn.linear_model", "sklearn.gaussian_process", "sklearn.metrics", "skimage", "cv2", "pydantic"]


class Change(NamedTuple):
    """The number `old` at a place of a source text, and what takes its place."""

    line: int
    start: int
    end: int
    old: str
    new: str


def changes(source: str) -> list[Change]:
    """All changes of a source text, in its order."""
    lines = source.splitlines()
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Constant) or type(node.value) not in (int, float):
            continue
        line = lines[node.lineno - 1]
        if not line.isascii():  # columns of syntax trees count bytes
            continue
        if 0 < abs(node.value) < GUARD or any(re.search(pattern, line) for pattern in NO_RESULT):
            continue
        new = node.value + 1 if isinstance(node.value, int) else (1.5 * node.value or 0.5)
        assert node.end_col_offset is not None
        old = line[node.col_offset : node.end_col_offset]
        found.append(Change(node.lineno, node.col_offset, node.end_col_offset, old, f"{new:g}"))
    return sorted(found)


def changed(source: str, change: Change) -> str:
    lines = source.splitlines(keepends=True)
    line = lines[change.line - 1]
    lines[change.line - 1] = line[: change.start] + change.new + line[change.end :]
    return "".join(lines)


class FirstFailure:
    """A plugin of pytest that remembers the first test that fails."""

    name = ""

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.name = self.name or report.nodeid

    def pytest_collectreport(self, report):
        if report.failed:
            self.name = self.name or f"{report.nodeid} (import)"


def run_tests(folder: Path, arguments: list[str], answer) -> None:
    """In a process of its own: the first failing test, "" where all pass, into the pipe `answer`."""
    import pytest

    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # a change within a second would not be seen
    output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    first = FirstFailure()
    quietly = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    status = pytest.main(["-x", *quietly, *arguments], plugins=[first])
    import fewshot_iqa

    assert Path(fewshot_iqa.__file__).is_relative_to(folder)
    answer.send(first.name or ("" if status == 0 else f"pytest ended with {status}"))


def first_failure(folder: Path, arguments: list[str]) -> str:
    """Of the tests on the package in `folder`; "" where all pass."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(PRELOADED)
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run_tests, args=(folder, arguments, theirs))
    process.start()
    theirs.close()
    try:
        return mine.recv() if mine.poll(TIMEOUT) else f"no end within {TIMEOUT} s"
    except EOFError:
        return "the process ended"
    finally:
        process.kill()
        process.join()


def survivors(folder: Path, name: str, each: int, seed: int) -> Iterator[Change]:
    """Make the changes of one file in `folder`, print what catches each, and yield those that nothing does."""
    path, arguments = folder / "fewshot_iqa" / name, TESTS[name]
    source = path.read_text(encoding="utf-8")
    if failing := first_failure(folder, arguments):
        raise SystemExit(f"{name}: the tests fail without a change: {failing}")
    found = changes(source)
    if each:
        found = sorted(random.Random(f"{seed} {name}").sample(found, min(each, len(found))))
    for change in found:
        path.write_text(changed(source, change), encoding="utf-8")
        caught = first_failure(folder, arguments)
        print(f"| {name}:{change.line} | {change.old} -> {change.new} | {caught or 'SURVIVED'} |", flush=True)
        if not caught:
            yield change
    path.write_text(source, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join(TESTS)}; all by default")
    parser.add_argument("--each", type=int, default=3, help="changes of each file, drawn by the seed; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if unknown := [name for name in given.files if name not in TESTS]:
        parser.error(f"no tests are named for {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for part in ("fewshot_iqa", "tests", "configs", "tasks"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        print("| place | change | caught by |\n|---|---|---|")
        lost = [change for file in given.files or TESTS for change in survivors(folder, file, given.each, given.seed)]
    print(f"\n{len(lost)} changes survived")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
