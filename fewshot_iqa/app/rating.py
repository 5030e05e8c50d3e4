"""The page of `fsiqa rate`."""

import shlex
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..data.readers import read_names
from ..errors import InputError
from ..images import image_size, photographs_in, read_image, shrunk_size
from .rendering import render
from .server import FRESH, image_response, posted, serve
from .session import ACR, SPANS, Scale, Session, Trial

AHEAD = 3  # trials whose images the page loads before they are shown


def rate(
    folder: Path,
    out: Path,
    *,
    suggested: Path | None = None,
    scale: str = "acr",
    rater: str | None = None,
    repeats: int | None = None,
    rounds: int = 6,
    seed: int = 0,
    port: int | None = None,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> int:
    """Serve the page that rates the images of a folder until Ctrl-C; the number of votes in `out`. What is worth
    saying is given to `say`."""
    if scale not in SPANS:
        raise InputError(f"--scale {scale}: expected one of {', '.join(SPANS)}")
    names = [path.relative_to(folder).as_posix() for path in photographs_in(folder)]
    if suggested is not None:
        names = _suggested(folder, names, suggested)
    repeats = min(10, len(names) // 10) if repeats is None else min(repeats, len(names))
    session = Session(
        names, out, cast("Scale", scale), seed=seed, repeats=repeats, rounds=rounds, ordered=suggested is not None
    )
    for name in names:
        try:
            if not name.isprintable():
                raise InputError(f"{name!r}: its name holds characters that a table cannot")
            image_size(folder / name)
        except InputError as error:
            session.drop(name, str(error))
            say(f"passed over {error}")
    earlier = f", {len(session.ballot.rows)} votes are in {out}" if session.ballot.rows else ""
    twice = f", {repeats} of them twice" if repeats and scale != "pairs" else ""
    say(f"{len(names) - len(session.broken)} images{twice}{earlier}; rate them on this page, and end with Ctrl-C:")
    serve(rating_routes(session, folder, out, rater), port=port, browser=browser, say=say)
    return len(session.ballot.rows)


def _suggested(folder: Path, names: list[str], table: Path) -> list[str]:
    """The images of a table, in its order, all of which are in the folder."""
    known, found = set(names), read_names(table)
    for name in found:
        if name not in known:
            raise InputError(f"--suggested {table}: {folder / name} does not exist")
    return found


def rating_routes(session: Session, folder: Path, out: Path, rater: str | None = None) -> list[BaseRoute]:
    """The page and what it asks for; `out` is the table of the votes, as the user names it, `rater` the name that is
    suggested."""
    numbers = {name: i for i, name in enumerate(session.images)}
    votes = shlex.quote(str(out))
    command = f"fsiqa adapt --labels {votes} --root {shlex.quote(str(folder))}"
    if session.scale == "pairs":
        command = f"fsiqa ratings summarize {votes} -o mos.csv"

    def state(name: str) -> dict[str, Any]:
        waiting = session.open_trials(name)
        given = sum(row["rater"] == name for row in session.ballot.rows)
        trials = [
            {"images": each.images, "repetition": each.repetition, "urls": [f"image/{numbers[i]}" for i in each.images]}
            for each in waiting[: 1 + AHEAD]
        ]
        broken = [name for name in session.broken if name.isprintable()]
        return {"trials": trials, "votes": given, "open": len(waiting), "broken": broken}

    async def page(_: Request) -> Response:
        found = render(
            "rate.html", scale=session.scale, acr=ACR, rater=rater or "", folder=folder.name, command=command
        )
        return HTMLResponse(found)

    async def show_state(request: Request) -> Response:
        return JSONResponse(state(request.query_params.get("rater", "")), headers=FRESH)

    def then_state(act: Callable[[dict[str, Any]], None]) -> Callable[[Request], Any]:
        """An endpoint that acts, and answers what comes next for the rater."""

        def acted(given: dict[str, Any]) -> dict[str, Any]:
            act(given)
            return state(str(given["rater"]))

        return posted(acted, session.ballot.path)

    def vote(given: dict[str, Any]) -> None:
        session.vote(str(given["rater"]), _trial(given), str(given["value"]), float(given["seconds"]))

    def undo(given: dict[str, Any]) -> None:
        session.undo(str(given["rater"]), int(given["votes"]))

    def skip(given: dict[str, Any]) -> None:
        session.skip(str(given["rater"]), _trial(given))

    def drop(given: dict[str, Any]) -> None:
        name = str(given["image"])
        if reason := problem(name):
            session.drop(name, reason)
        else:
            raise InputError(f"{name}: did not arrive")

    def problem(name: str) -> str | None:
        """Why an image cannot be scored; a browser shows half of what is cut off."""
        if name not in numbers:
            return None
        return decoding_problem(name) if (folder / name).is_file() else "no such file"

    @cache
    def decoding_problem(name: str) -> str | None:
        try:
            read_image(folder / name, size=partial(shrunk_size, 256))
        except InputError as error:
            return str(error)
        return None

    def image(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(session.images):
            return Response(status_code=404)
        name = session.images[number]
        if problem(name):
            return Response(status_code=415)
        return image_response(folder / name, as_png="png" in request.query_params)

    return [
        Route("/", page),
        Route("/state", show_state),
        Route("/vote", then_state(vote), methods=["POST"]),
        Route("/undo", then_state(undo), methods=["POST"]),
        Route("/skip", then_state(skip), methods=["POST"]),
        Route("/drop", then_state(drop), methods=["POST"]),
        Route("/image/{number:int}", image),
    ]


def _trial(given: dict[str, Any]) -> Trial:
    return Trial(tuple(map(str, given["images"])), int(given["repetition"]))
