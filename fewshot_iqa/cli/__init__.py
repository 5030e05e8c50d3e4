"""The command line. Heavy imports wait inside the commands, so that `fsiqa --help` answers at once."""

import gc
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, shortened
from ..printing import echo, print_table
from . import console
from .benches import bench
from .console import Program
from .curves import curve
from .data import data
from .learning import adapt, metatrain, pretrain
from .options import SET
from .outputs import Commands
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
        return _echo_lines(dump(load_task(name, [text.removeprefix("task.") for text in overrides or ()])))
    names = sorted(available("tasks"), key=lambda each: each != "csv")
    return print_table(None, ("name", "what it is"), [[each, load_task(each).description] for each in names])


def configs(name: NAME = None, overrides: SET = None) -> None:
    """List the methods, the recommended one first, or show one."""
    from ..config import dump, load_config
    from ..resources import available

    if name is not None:
        return _echo_lines(dump(load_config(name, overrides or ())))
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


def _echo_lines(text: str) -> None:
    for line in text.splitlines():
        echo(line)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(version("fewshot-iqa"))
        raise typer.Exit


def about(
    show: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, and warnings of libraries; also behind a command.")
    ] = False,
) -> None:
    """No-reference image quality assessment from few ratings."""


RECOMMENDED = "gp_prompts"
app = Commands(
    cls=Program,
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
    """Run the command line.

    An error of the user's is one line and exit status 2, an error of ours one line and 1, a note on the input one
    line; Ctrl-C and SIGTERM end a run with 130 and 143.
    """
    gc.set_threshold(700, 10, 1000)  # full collections, else more often, take a fifth of the time of importing torch
    arguments, debug = console.split_debug(sys.argv[1:])
    with console.set_up(debug):
        try:
            app(arguments)
        except InputError as error:
            console.fail(f"{error}", 2, debug=debug)
        except ModuleNotFoundError as error:
            console.fail(f"needs {error.name}, which is not installed: pip install fewshot-iqa", 2, debug=debug)
        except Exception as error:  # an error of ours: one line, the traceback by --debug
            lines = str(error).splitlines()
            kind = type(error).__name__ + (f": {shortened(lines[0], 200)}" if lines else "")
            hint = "" if debug else "run again with --debug for the traceback, and "
            console.fail(f"unexpected error ({kind}); {hint}please report it", 1, debug=debug)
