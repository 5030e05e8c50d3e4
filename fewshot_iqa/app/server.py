"""A page on this machine alone: on loopback, behind a random token, for no other site."""

import io
import logging
import mimetypes
import secrets
import socket
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import InputError
from ..images import opened, read_image

HOST = "127.0.0.1"
SHOWN = {".jpg", ".jpeg", ".png", ".bmp"}  # by the browser as the model sees them; others are converted
KEPT, FRESH = {"cache-control": "private, max-age=3600"}, {"cache-control": "no-store"}
GRACE = 1  # seconds in which answers may end when the server does
STATIC = Path(__file__).parent / "static"
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"cross-origin-resource-policy": b"same-origin",
}


class OwnOrigin:
    """Refuses requests that another site sent, and states what the page may load: its own files alone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        own = b"http://" + headers.get(b"host", b"")
        foreign = headers.get(b"origin", own) != own
        navigates = headers.get(b"sec-fetch-mode", b"navigate") == b"navigate" and scope["method"] == "GET"
        foreign |= headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none") and not navigates

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        app = PlainTextResponse("another origin", 403) if foreign else self.app
        await app(scope, receive, guarded)


class Server(uvicorn.Server):
    """One that says nothing of answers that it cuts short when it ends."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def create_app(routes: Sequence[BaseRoute], token: str) -> Starlette:
    """The page's routes below /TOKEN/; without the token every request is answered by 403."""

    async def forbidden(*_: Any) -> PlainTextResponse:
        return PlainTextResponse("the address lacks its token: open the one that fsiqa printed", 403)

    mounted = Mount(f"/{token}", routes=[*routes, Mount("/static", StaticFiles(directory=STATIC))])
    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]), Middleware(OwnOrigin)]
    return Starlette(routes=[mounted], middleware=guards, exception_handlers={404: forbidden})


def posted(act: Callable[[dict[str, Any]], Any], votes: Path) -> Callable[[Request], Any]:
    """An endpoint that answers a message with what `act` returns, or says what is wrong with it, or why the table of
    `votes` cannot be written."""

    async def answer(request: Request) -> Response:
        try:
            return JSONResponse(act(await request.json()), headers=FRESH)
        except (InputError, KeyError, OverflowError, TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        except OSError as error:
            return JSONResponse({"error": f"{votes}: cannot be written ({error.strerror})"}, 507)

    return answer


def image_response(path: Path, *, as_png: bool = False) -> Response:
    """A picture as the model sees it, whole. InputError where it cannot be read."""
    if path.suffix.lower() in SHOWN and not as_png and not _has_alpha(path):
        return FileResponse(path, media_type=mimetypes.guess_type(path)[0], headers=KEPT)
    buffer = io.BytesIO()
    Image.fromarray(read_image(path).transpose(1, 2, 0)).save(buffer, "PNG", compress_level=1)
    return Response(buffer.getvalue(), media_type="image/png", headers=KEPT)


def _has_alpha(path: Path) -> bool:
    with opened(path) as file:
        return file.has_transparency_data


def serve(
    routes: Sequence[BaseRoute], *, port: int | None = None, browser: bool = True, say: Callable[[str], None] = print
) -> None:
    """Serve a page until Ctrl-C or SIGTERM; its address is given to `say`, and opened in a `browser`. InputError where
    the port is taken."""
    token = secrets.token_urlsafe(16)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port or 0))
        listener.listen()  # a browser that is quicker than the server waits
    except OSError as error:
        raise InputError(f"--port {port}: cannot be used ({error.strerror})") from None
    address = f"http://{HOST}:{listener.getsockname()[1]}/{token}/"
    say(address)
    if browser:
        webbrowser.open(address)
    app = create_app(routes, token)
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has closed
        Server(settings).run(sockets=[listener])
