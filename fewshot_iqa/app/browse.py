"""The page of `fsiqa browse`: a gallery of scored images."""

import functools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from PIL import Image
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..errors import InputError
from .catalogue import Catalogue, Entry, read_scores, score_folder
from .rendering import render
from .server import FRESH, KEPT, image_response, posted, serve
from .session import ACR, Scale, Session
from .thumbnails import Thumbnails

PATIENCE = 0.5  # seconds, in which the pictures that are at the model may be scored


def browse(
    source: Path,
    folder: Path | None,
    *,
    ratings: Path = Path("ratings.csv"),
    scale: str = "acr",
    rater: str = "",
    device: str | None = None,
    cache: Path | None = None,
    port: int | None = None,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> bool:
    """Serve the gallery until Ctrl-C: of the table of scores `source`, or of what a model scores in `folder`. Whether
    nothing is left to wait for: a model ends with the pictures that it has begun."""
    if scale not in ("acr", "continuous"):
        raise InputError(f"--scale {scale}: expected acr or continuous")
    if ratings.exists():
        session = Session([], ratings, cast("Scale", scale))  # whether more can be added to it
        known = {row["rater"] for row in session.ballot.rows}
        rater = rater or (known.pop() if len(known) == 1 else "")
    if source.is_file() and source.suffix.lower() != ".onnx":
        catalogue = read_scores(source, folder)
    elif folder is None:
        raise InputError(f"{source}: is a model; name the folder of the images as well")
    else:
        catalogue = score_folder(source, folder, device, cache)
    thumbnails = Thumbnails()
    by_quality = sorted(catalogue.entries, key=lambda entry: (entry.quality is None, entry.quality))
    stop = thumbnails.make_in_background([entry.path for entry in by_quality])
    say(f"{catalogue.total} images; look at them on this page, and end with Ctrl-C:")
    try:
        serve(browse_routes(catalogue, thumbnails, folder, ratings, scale, rater), port=port, browser=browser, say=say)
    except InputError:  # of the port
        catalogue.end()
        raise
    finally:
        stop.set()
    return catalogue.end(PATIENCE)


def browse_routes(
    catalogue: Catalogue, thumbnails: Thumbnails, folder: Path | None, ratings: Path, scale: str, rater: str
) -> list[BaseRoute]:
    """The page and what it asks for; corrected ratings go into the table `ratings`."""
    root = shlex.quote(str(folder or "."))

    @functools.cache
    def opened() -> Session:
        return Session([], ratings, cast("Scale", scale))

    async def page(_: Request) -> Response:
        found = render(
            "browse.html",
            scale=scale,
            acr=ACR,
            rater=rater,
            ratings=str(ratings),
            heading=folder.name if folder else "images",
            command=f"fsiqa adapt --labels {shlex.quote(str(ratings))} --root {root}",
        )
        return HTMLResponse(found)

    def rows(request: Request) -> Response:
        given = request.query_params.get("start", "0")
        start = int(given) if given.isdecimal() else 0
        entries = catalogue.entries[start:]
        found = {
            "rows": [_row(entry) for entry in entries],
            "total": catalogue.total,
            "failed": catalogue.failed,
            "rated": rated_images() if not start else {},
        }
        return JSONResponse(found, headers=FRESH)

    def rated_images() -> dict[str, str]:
        """{image: the last vote on it}."""
        return {row["image"]: row["rating"] for row in opened().ballot.rows} if ratings.exists() else {}

    def entry(request: Request) -> Entry | None:
        number = request.path_params["number"]
        return catalogue.entries[number] if number < len(catalogue.entries) else None

    def thumbnail(request: Request) -> Response:
        found = entry(request)
        if found is None:
            return Response(status_code=404)
        try:
            return FileResponse(thumbnails.get(found.path), media_type="image/jpeg", headers=KEPT)
        except InputError:
            return Response(status_code=415)

    def image(request: Request) -> Response:
        found = entry(request)
        if found is None or not found.path.is_file():
            return Response(status_code=404)
        try:
            return image_response(found.path, as_png="png" in request.query_params)
        except (InputError, OSError, Image.DecompressionBombError):
            return Response(status_code=415)

    def rate(given: dict[str, Any]) -> dict[str, Any]:
        number = given["number"]
        if type(number) is not int or not 0 <= number < len(catalogue.entries):
            raise InputError(f"there is no image {number}")
        name = catalogue.entries[number].name
        opened().correct(str(given["rater"]), name, str(given["value"]), float(given["seconds"]))
        return {"rated": rated_images()}

    return [
        Route("/", page),
        Route("/rows", rows),
        Route("/thumbnail/{number:int}", thumbnail),
        Route("/image/{number:int}", image),
        Route("/rate", posted(rate, ratings), methods=["POST"]),
    ]


def _row(entry: Entry) -> list[Any]:
    numbers = (entry.quality, entry.quality_std, entry.rating)
    name = entry.name.encode(errors="replace").decode()  # some names are no text
    return [name, *(None if each is None else round(each, 4) for each in numbers), entry.likeliest, entry.note]
