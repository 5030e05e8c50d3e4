"""The command line. Heavy imports wait inside the commands, so that `fsiqa --help` answers at once."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from ..errors import InputError
from ..printing import print_table
from .learning import adapt, curve, metatrain, pretrain
from .pictures import distort, synthesize
from .scoring import score
from .studies import bench, experiment


def tasks() -> None:
    """List the sources of pictures."""
    from ..config import load_task
    from ..resources import available

    print_table(None, ("task", "what it is"), [[name, load_task(name).description] for name in available("tasks")])


def configs() -> None:
    """List the methods."""
    from ..config import load_config
    from ..resources import available

    rows = [[name, load_config(name).description] for name in available("configs")]
    print_table(None, ("config", "what it is"), rows)


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
    try:
        app()
    except InputError as error:
        typer.echo(f"fsiqa: {error}", err=True)
        sys.exit(2)
