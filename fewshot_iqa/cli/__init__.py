"""The command line. Heavy imports wait inside the commands, so that `fsiqa --help` answers at once."""

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..printing import print_table
from .learning import adapt, curve, metatrain, pretrain
from .options import SET
from .pictures import distort, synthesize
from .scoring import score
from .studies import bench, experiment

NAME = Annotated[str | None, typer.Argument(help="One of them, or a .yaml file: show all its keys.")]


def tasks(name: NAME = None, overrides: SET = None) -> None:
    """List the sources of pictures, or show one."""
    from ..config import load_task

    _list_or_show("tasks", load_task, name, [text.removeprefix("task.") for text in overrides or ()])


def configs(name: NAME = None, overrides: SET = None) -> None:
    """List the methods, or show one."""
    from ..config import load_config

    _list_or_show("configs", load_config, name, overrides or ())


def _list_or_show(folder: str, load: Callable[..., Any], name: str | None, overrides: Iterable[str]) -> None:
    from ..config import dump
    from ..resources import available

    if name is None:
        print_table(None, ("name", "what it is"), [[each, load(each).description] for each in available(folder)])
    else:
        typer.echo(dump(load(name, overrides)), nl=False)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("fewshot-iqa"))
        raise typer.Exit


def about(
    show: Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Learn to judge image quality from a handful of rated pictures."""


app = typer.Typer(
    callback=about,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (metatrain, adapt, curve, score, pretrain, distort, synthesize, tasks, configs):
    app.command()(command)
app.add_typer(bench, name="bench")
app.add_typer(experiment, name="experiment")


def main() -> None:
    """Run the command line; an error of the user's is one line and exit status 2."""
    if isinstance(sys.stdout, TextIOWrapper):  # a pipe on Windows has few characters: no file name may end the run
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except InputError as error:
        typer.echo(f"fsiqa: {error}", err=True)
        sys.exit(2)
