"""What the documentation says is still so: examples in docstrings, and the commands and names on its pages."""

import doctest
import json
import runpy
from importlib import import_module
from pathlib import Path

import pytest

import fewshot_iqa

PACKAGE = Path(fewshot_iqa.__file__).parent
ROOT = PACKAGE.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = runpy.run_path(str(ROOT / "docs" / "run_blocks.py"))
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    assert not doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS).failed


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_blocks_of_a_page_are_valid(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert BLOCKS["problems"](path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("fsiqa scores a.png", "no command scores"),
        ("fsiqa score --sorted a.png", "--sorted"),
        ("fsiqa adapt --config grpm", "grmp"),
        ("fsiqa adapt --task demos", "demo"),
        ("fsiqa adapt --set adapt.rate=1", "adapt.rate"),
        ("fsiqa curve --methods gp,grpm", "grmp"),
        ("make quickstrat", "quickstrat"),
    ],
)
def test_what_is_no_longer_valid_is_found(line, problem):
    (found,) = BLOCKS["problems"](f"text\n\n```console\n$ cat a.csv | {line}\noutput\n```\n")
    assert found.startswith("line 4: ")
    assert problem in found


def test_names_that_are_no_longer_there_are_found():
    page = "```python\nimport fewshot_iqa as fsiqa\nfsiqa.adopt()\nfsiqa.srcc([1], guessed=[1])\n```\n"
    assert set(BLOCKS["problems"](page)) == {
        "line 2: no name fsiqa.adopt",
        "line 2: fsiqa.srcc has no parameter guessed",
    }


def test_a_page_shows_what_its_blocks_print(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "numbers").write_text("1\n2\n3\n4\n")
    page = (
        "<!-- before: echo 7 > seven -->\n\n```console\n$ cat seven\nold\n$ cat \\\n    numbers\n...\nold\n```\n"
        "```python\nx = 2\nx + 1\n# > old\nprint(x)\nprint(x)\n# > old\n# > old\n```\n"
        "<!-- run: needs photos -->\n\n```console\n$ cat photos\nold\n```\n"
        "<!-- run: never -->\n```console\n$ exit 1\n```\n"
    )
    shown = BLOCKS["run_page"](page, tmp_path / "scratch", {"numbers": tmp_path / "numbers"})
    assert "$ cat seven\n7\n$ cat \\\n    numbers\n...\n4\n```" in shown
    assert "x = 2\nx + 1\n# > 3\nprint(x)\nprint(x)\n# > 2\n```" in shown
    assert "$ cat photos\nold\n" in shown


def test_the_leaderboard_is_made_of_the_results(tmp_path):
    page = runpy.run_path(str(ROOT / "docs" / "leaderboard.py"))
    assert (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8") == page["leaderboard"](page["FOLDER"])
    weak = {"srcc": 0.5, "plcc": 0.6, "paper": {}}
    best = {"srcc": 0.7, "plcc": 0.7, "best_look": {"srcc": 0.75, "plcc": 0.7}, "paper": {"srcc": 0.9}}
    row = {"row": "live", "shots": "20%", "labels": 90, "tested": 20, "methods": {"weak": weak, "best": best}}
    result = {"table": "A table", "source": "a paper", "statistic": "mean", "seeds": 3, "clip": "tiny", "rows": [row]}
    result |= {"released": {"looks": 10}, "overrides": ["views={count: 1}"]}
    (tmp_path / "mine-2.json").write_text(json.dumps(result))
    shown = page["leaderboard"](tmp_path)
    assert "$ fsiqa reproduce mine --data data --seeds 3 --clip tiny --released --set 'views={count: 1}'" in shown
    assert "| live | 90 (20%) | 20 | best | 0.700 | 0.700 | 0.750 | 0.700 | 0.900 |  |" in shown
    assert "|  |  |  | weak | 0.500 | 0.600 |  |  |  |  |" in shown


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900
