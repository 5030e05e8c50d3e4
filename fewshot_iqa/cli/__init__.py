"""The command line. Heavy imports wait inside the commands, so that `fsiqa --help` answers at once."""

import gc
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, InputWarning
from ..printing import print_table
from .benches import bench
from .curves import curve
from .data import data
from .learning import adapt, metatrain, pretrain
from .options import SET
from .pages import browse, report
from .papers import reproduce
from .pictures import distort, synthesize
from .ratings import rate, ratings, suggest
from .reruns import rerun
from .scoring import export, score
from .studies import experiment

if TYPE_CHECKING:
    from ..config import Config

NAME = Annotated[str | None, typer.Argument(help="A name, or a .yaml file: show all its keys.")]


def tasks(name: NAME = None, overrides: SET = None) -> None:
    """List the sources of rated images, or show one."""
    from ..config import dump, load_task
    from ..resources import available

    if name is not None:
        return typer.echo(dump(load_task(name, [text.removeprefix("task.") for text in overrides or ()])), nl=False)
    names = sorted(available("tasks"), key=lambda each: each != "csv")
    return print_table(None, ("name", "what it is"), [[each, load_task(each).description] for each in names])


def configs(name: NAME = None, overrides: SET = None) -> None:
    """List the methods, the recommended one first, or show one."""
    from ..config import dump, load_config
    from ..resources import available

    if name is not None:
        return typer.echo(dump(load_config(name, overrides or ())), nl=False)
    names = sorted(available("configs"), key=lambda each: each != RECOMMENDED)
    methods = {each: load_config(each) for each in names}
    rows = [[each, method.description, *method_card(method)] for each, method in methods.items()]
    title = "time: to learn 60 ratings on two CPU cores; std: predicts a standard deviation; ratings: needed"
    return print_table(title, ("name", "what it is", "time", "std", "ratings"), rows)


def method_card(method: "Config") -> tuple[str, str, str]:
    """(time to learn, whether it predicts a standard deviation, ratings needed); nothing was measured below 10."""
    learns = bool(method.learns)
    time = "minutes" if method.adapt else "seconds" if learns else "none"
    return time, "yes" if method.head.predicts_std else "no", "10+" if learns else "0"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("fewshot-iqa"))
        raise typer.Exit


def about(
    show: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """No-reference image quality assessment from few ratings."""


RECOMMENDED = "gp_prompts"
app = typer.Typer(
    callback=about,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (suggest, rate, score, adapt, browse, report, curve, metatrain, export)  # in the order of their use
for command in (*COMMANDS, reproduce, rerun, tasks, configs, distort, synthesize, pretrain):
    app.command()(command)
app.add_typer(data, name="data")
app.add_typer(ratings, name="ratings")
app.add_typer(bench, name="bench")
app.add_typer(experiment, name="experiment")


def main() -> None:
    """Run the command line; an error of the user's is one line and exit status 2, a note on the input one line."""
    gc.set_threshold(700, 10, 1000)  # full collections, else more often, take a fifth of the time of importing torch
    if isinstance(sys.stdout, TextIOWrapper):  # a pipe on Windows has few characters: no file name may end the run
        sys.stdout.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = _show_once(warnings.showwarning)
        try:
            app()
        except InputError as error:
            typer.echo(f"fsiqa: {error}", err=True)
            sys.exit(2)
        except ModuleNotFoundError as error:
            typer.echo(f"fsiqa: needs {error.name}, which is not installed: pip install fewshot-iqa", err=True)
            sys.exit(2)


def _show_once(others: Callable[..., None]) -> Callable[..., None]:
    """A `warnings.showwarning` that prints an InputWarning as one line, the first time, and others as before."""
    shown = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, InputWarning):
            others(message, category, *place, **more)
        elif str(message) not in shown:
            shown.add(str(message))
            typer.echo(f"fsiqa: note: {message}", err=True)

    return show
