"""Run the commands and examples of a page and put what they print into it; check that they are still valid.

    python docs/run_blocks.py README.md docs/getting-started.md --data biq2021=/data/biq2021

A ```console block holds commands behind `$ ` and what each prints (on stdout); a ```python block holds statements,
and behind `# >` what the statement above prints or is. All blocks of a page run in order, in one scratch folder, into
which `--data` links names. In the output of a command a line `...` stands for lines that are left out: of the new
output as many lines are kept before and behind it. A comment above a block says what is special:

    <!-- run: never -->              not run (it installs, downloads or takes hours)
    <!-- run: needs biq2021 -->      run only where --data has that name
    <!-- before: COMMAND -->         a command that is run first, and is not shown
"""

import argparse
import ast
import contextlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(
    r"(?P<comments>(?:^<!--[^\n]*-->\n+)*)^```(?P<kind>console|python)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMENT = re.compile(r"<!-- (run|before): (.*?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its kind, its text, and where that is in the page."""

    kind: str
    body: str
    span: tuple[int, int]
    line: int
    never: bool = False
    needs: frozenset[str] = frozenset()
    before: list[str] = field(default_factory=list)


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page's text, in order."""
    for match in FENCE.finditer(page):
        notes = COMMENT.findall(match["comments"])
        runs = [text for key, text in notes if key == "run"]
        yield Block(
            match["kind"],
            match["body"],
            match.span("body"),
            page.count("\n", 0, match.start("body")) + 1,
            "never" in runs,
            frozenset(word for text in runs if text.startswith("needs ") for word in text.split()[1:]),
            [text for key, text in notes if key == "before"],
        )


def commands(body: str) -> list[tuple[str, str]]:
    """(command, what it printed) of a console block; a command goes on behind a backslash and inside quotes."""
    found: list[tuple[str, str]] = []
    for line in body.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line, ""))
        elif found and not found[-1][1] and _goes_on(found[-1][0]):
            found[-1] = (found[-1][0] + line, "")
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def _goes_on(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return True
    return command.endswith("\\\n")


def run_page(page: str, scratch: Path, data: Mapping[str, Path]) -> str:
    """The page with what its blocks print now, in `scratch`; those that need what `data` lacks stay as they are."""
    for name, path in data.items():
        (scratch / name).symlink_to(path)
    names: dict[str, Any] = {}
    done: list[tuple[tuple[int, int], str]] = []
    os.chdir(scratch)
    for block in blocks(page):
        if block.never or not block.needs <= data.keys():
            continue
        for command in block.before:
            _shell(command)
        new = _run_python(block.body, names) if block.kind == "python" else _run_console(block.body)
        done.append((block.span, new))
    for (start, end), new in reversed(done):
        page = page[:start] + new + page[end:]
    return page


def _run_console(body: str) -> str:
    lines = []
    for command, old in commands(body):
        lines += [command, _elide(_shell(command.removeprefix("$ ")), old)]
    return "".join(lines)


def _shell(command: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": "110"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"$ {command}\n{done.stdout}{done.stderr}")
    shown = "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip("\n")
    return f"{shown}\n" if shown else ""


def _elide(new: str, old: str) -> str:
    """The new output with as many lines left out as in the old one."""
    lines = old.splitlines()
    if "..." not in lines:
        return new
    head = lines.index("...")
    tail = len(lines) - head - 1
    kept = new.splitlines()
    return "\n".join([*kept[:head], "...", *kept[len(kept) - tail :]]) + "\n"


def _run_python(body: str, names: dict[str, Any]) -> str:
    """The block with what its statements print or are, where `# >` stood behind them."""
    source = body.splitlines()
    result: list[str] = []
    last = 0
    for node in ast.parse(body).body:
        end = node.end_lineno or node.lineno
        result += [line for line in source[last:end] if not line.startswith("# >")]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if isinstance(node, ast.Expr):
                value = eval(compile(ast.Expression(node.value), "page", "eval"), names)
                if value is not None:
                    print(repr(value))
            else:
                exec(compile(ast.Module([node], []), "page", "exec"), names)
        last = end
        if last < len(source) and source[last].startswith("# >"):
            result += [f"# > {line}".rstrip() for line in printed.getvalue().splitlines()]
    result += [line for line in source[last:] if not line.startswith("# >")]
    return "\n".join(result) + "\n"


def problems(page: str) -> list[str]:
    """What is no longer valid in the blocks of a page: commands, options, names of files that ship, Python names."""
    found = []
    for block in blocks(page):
        if block.kind == "python":
            found += [f"line {block.line}: {each}" for each in _python_problems(block.body)]
            continue
        for command, _ in commands(block.body):
            for words in _simple_commands(command.removeprefix("$ ")):
                problem = _command_problem(words)
                found += [f"line {block.line}: {' '.join(words)}: {problem}"] if problem else []
    return found


def _simple_commands(command: str) -> list[list[str]]:
    """The words of each command of a line of a shell."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("();<>|&"):
            found.append([])
        else:
            found[-1].append(word)
    return found


def _command_problem(words: list[str]) -> str | None:
    if words[:1] == ["make"]:
        targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        unknown = [word for word in words[1:] if word not in targets and "=" not in word]
        return f"the Makefile has no target {unknown[0]}" if unknown else None
    if words[:1] != ["fsiqa"]:
        return None
    import typer

    from fewshot_iqa.cli import app
    from fewshot_iqa.errors import InputError

    command: Any = typer.main.get_command(app)
    arguments = words[1:]
    try:
        while hasattr(command, "commands"):
            if not arguments or arguments[0].startswith("-"):
                return None
            if arguments[0] not in command.commands:
                return f"there is no command {arguments[0]}"
            command, arguments = command.commands[arguments[0]], arguments[1:]
        _check_names(words[1], command.make_context(words[1], arguments).params)
    except typer.BadParameter.__base__ as error:  # of all errors of usage
        return error.format_message()
    except InputError as error:
        return str(error)
    return None


def _check_names(command: str, options: Mapping[str, Any]) -> None:
    """InputError where a method, a task or a key that is overridden does not exist; files of the reader's may."""
    from fewshot_iqa.config import load_config, load_task

    overrides = options.get("overrides") or ()
    method = options.get("config") or "grmp"
    if options.get("methods"):
        for name in options["methods"].split(","):
            if not name.endswith(".yaml"):
                load_config(name)
    elif command in ("adapt", "metatrain") and not method.endswith(".yaml"):
        load_config(method, [text for text in overrides if not text.startswith("task.")])
    if task := options.get("task"):
        load_task(task, [text.removeprefix("task.") for text in overrides if text.startswith("task.")])


def _python_problems(body: str) -> list[str]:
    import fewshot_iqa

    found = []
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.ImportFrom) and node.module == "fewshot_iqa":
            found += [f"no name {alias.name}" for alias in node.names if alias.name not in fewshot_iqa.__all__]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fsiqa":
            found += [] if node.attr in fewshot_iqa.__all__ else [f"no name fsiqa.{node.attr}"]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            function = getattr(fewshot_iqa, node.func.attr, None)
            if callable(function) and isinstance(node.func.value, ast.Name) and node.func.value.id == "fsiqa":
                known = _parameters(function)
                found += [
                    f"fsiqa.{node.func.attr} has no parameter {keyword.arg}"
                    for keyword in node.keywords
                    if keyword.arg and keyword.arg not in known
                ]
    return found


def _parameters(function: Any) -> set[str]:
    """The names of a function's parameters, with those of an options dictionary behind `**`."""
    known = set(inspect.signature(function).parameters)
    for hint in getattr(function, "__annotations__", {}).values():
        if match := re.fullmatch(r"Unpack\[(\w+)\]", str(hint)):
            known |= set(inspect.unwrap(function).__globals__[match[1]].__annotations__)
    return known


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=PATH")
    options = parser.parse_args()
    data = {name: Path(path).resolve() for name, _, path in (text.partition("=") for text in options.data)}
    for path in options.pages:
        path, here = path.resolve(), Path.cwd()
        with tempfile.TemporaryDirectory() as scratch:
            page = run_page(path.read_text(encoding="utf-8"), Path(scratch), data)
            os.chdir(here)
        path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
