"""The web application: what each address answers.

It reads, except for flags, which go to a file beside the store. Only requests to this machine by
its own name are answered, so that no page from elsewhere can read what is served.
"""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.browse.collection import Collection
from pipeline.browse.detail import describe
from pipeline.browse.evaluations import BRIGHTEST, compare
from pipeline.browse.flagging import FlagRequest
from pipeline.browse.pictures import TILE_SIZES, PictureCache, encode, encode_exactly
from pipeline.browse.query import parse, parse_changes
from pipeline.browse.site import Opened, Shelf, Site
from pipeline.errors import MidframeError
from pipeline.mirrors import shown
from pipeline.settings import validate

HOSTS = ["127.0.0.1", "localhost"]
# Rows in one answer.
MOST_ROWS = 500
# Of a number in an address.
MOST_DIGITS = 18
# Where a page has the head of all pages.
HEAD = "<!-- head -->\n"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Pictures never change: their addresses name the generation of the store.
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
FRESH = {"Cache-Control": "no-store"}


class _Headers:
    """Adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class _Gone(MidframeError):
    """The store was replaced since the page asked for it."""


def build_app(site: Site) -> Starlette:
    """The application that serves a site."""
    service = _Service(site)
    routes = [
        Route("/", service.page("index.html")),
        Route("/models", service.page("models.html")),
        Route("/assets/{name}", service.asset),
        Route("/api/site", service.site),
        Route("/api/evaluations/compare", service.compare),
        Route("/evaluations/{number:int}/{what}", service.evaluation_picture),
        Mount(
            "/api/stores/{store:int}",
            routes=[
                Route("/columns", service.columns),
                Route("/rows", service.rows),
                Route("/rows/{row:int}", service.detail),
                Route("/what-if", service.what_if),
                Route("/flags", service.flag, methods=["POST"]),
            ],
        ),
        Route("/tiles/{store:int}/{generation}/{row:int}/{size:int}", service.tile),
        Route("/views/{store:int}/{generation}/{row:int}/{view}", service.view),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
        ],
        exception_handlers={MidframeError: _problem, _Gone: _problem, IndexError: _problem},
    )


def _problem(_: Request, error: Exception) -> Response:
    status = 410 if isinstance(error, _Gone) else 404 if isinstance(error, IndexError) else 422
    return JSONResponse({"error": str(error)}, status, headers=FRESH)


class _Service:
    """What is answered. Each method runs in a thread of its own, so a slow picture blocks none."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._cache = PictureCache()

    def page(self, name: str) -> Callable[[Request], Response]:
        return lambda request: _page(name)

    def asset(self, request: Request) -> Response:
        return _asset(request.path_params["name"])

    def site(self, request: Request) -> Response:
        stores = [
            {
                "path": shown(shelf.path),
                "name": shelf.path.name,
                "windows": len(opened.collection),
                "samples": len(opened.collection.store),
                "patch_size": opened.collection.store.patch_size,
            }
            for shelf in self._site.shelves
            for opened in [shelf.opened()]
        ]
        evaluations = [view.describe() for view in self._site.evaluations]
        told = {"stores": stores, "evaluations": evaluations, "tile_sizes": TILE_SIZES}
        return _json(told | {"brightest_error": BRIGHTEST})

    def columns(self, request: Request) -> Response:
        collection = self._shelf(request).opened().collection
        settings = collection.what_if.settings({})
        return _json(
            {
                "generation": collection.generation,
                "columns": collection.columns,
                "settings": settings.model_dump(mode="json"),
                "flags_file": _flags_shown(collection),
            }
        )

    def rows(self, request: Request) -> Response:
        collection = self._shelf(request).opened().collection
        rows = collection.rows(parse(request.query_params))
        start = _whole(request, "start", 0)
        count = min(_whole(request, "count", 100), MOST_ROWS)
        found = np.flatnonzero(rows == _whole(request, "find", len(collection)))
        return _json(
            {
                "generation": collection.generation,
                "total": len(rows),
                "of": len(collection),
                "start": start,
                "found": int(found[0]) if len(found) else None,
                "rows": collection.describe_all(rows[start : start + count]),
            }
        )

    def detail(self, request: Request) -> Response:
        opened = self._shelf(request).opened()
        return _json(describe(opened.collection, _row(request, opened)))

    def what_if(self, request: Request) -> Response:
        collection = self._shelf(request).opened().collection
        changes = parse_changes(request.query_params.get("what_if", ""))
        return _json(collection.what_if.answer(changes))

    async def flag(self, request: Request) -> Response:
        # Of a form on a page from elsewhere a browser sends this type only after asking.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise MidframeError("flags are set by JSON only")
        try:
            content = await request.json()
        except (ValueError, RecursionError) as error:
            raise MidframeError(f"flag: not JSON ({error})") from None
        # In a thread, as all that touches the disk.
        return await run_in_threadpool(self._flag, request, content)

    def _flag(self, request: Request, content: Any) -> Response:
        asked = validate(FlagRequest, content, "flag")
        opened = self._shelf(request).opened()
        if asked.generation != opened.collection.generation:
            raise _Gone(f"{shown(opened.collection.path)}: was replaced; reload the page")
        row = _within(asked.row, opened)
        opened.collection.set_flag(row, asked.flag())
        return _json(opened.collection.describe(row))

    def tile(self, request: Request) -> Response:
        opened, row = self._picture_row(request)
        size = request.path_params["size"]
        if size not in TILE_SIZES:
            raise MidframeError(f"tiles have a size of {', '.join(map(str, TILE_SIZES))}")
        return self._tile(request, lambda: encode(opened.pictures.tile(row, size)))

    def view(self, request: Request) -> Response:
        opened, row = self._picture_row(request)
        name = request.path_params["view"]
        exact = name not in ("frame", "flow")
        make = encode_exactly if exact else encode
        content = self._cache.get(
            (request.url.path,), lambda: make(opened.pictures.view(row, name))
        )
        return Response(content, media_type=f"image/{'png' if exact else 'jpeg'}", headers=FOREVER)

    def compare(self, request: Request) -> Response:
        first, second = (self._evaluation(_whole(request, name, 0)) for name in ("a", "b"))
        metric = request.query_params.get("metric", "standard_psnr")
        return _json({"triplets": compare(first, second, metric)})

    def evaluation_picture(self, request: Request) -> Response:
        view = self._evaluation(request.path_params["number"])
        sequence = request.query_params.get("sequence", "")
        what, frame = request.path_params["what"], _whole(request, "first_frame", 0)
        picture = view.picture(sequence, frame, what)
        return Response(encode_exactly(picture), media_type="image/png", headers=FRESH)

    def _tile(self, request: Request, make: Callable[[], bytes]) -> Response:
        content = self._cache.get((request.url.path,), make)
        return Response(content, media_type="image/jpeg", headers=FOREVER)

    def _evaluation(self, number: int) -> Any:
        evaluations = self._site.evaluations
        if not 0 <= number < len(evaluations):
            raise IndexError(f"no evaluation {number}")
        return evaluations[number]

    def _shelf(self, request: Request) -> Shelf:
        number = request.path_params["store"]
        if number >= len(self._site.shelves):
            raise IndexError(f"no store {number}")
        return self._site.shelves[number]

    def _picture_row(self, request: Request) -> tuple[Opened, int]:
        opened = self._shelf(request).opened()
        if request.path_params["generation"] != opened.collection.generation:
            raise _Gone(f"{shown(opened.collection.path)}: was replaced; reload the page")
        return opened, _row(request, opened)


def _row(request: Request, opened: Opened) -> int:
    return _within(request.path_params["row"], opened)


def _within(row: int, opened: Opened) -> int:
    if not 0 <= row < len(opened.collection):
        raise IndexError(f"no window {row} among {len(opened.collection)}")
    return row


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise MidframeError(f"{name}: a whole number is needed, not {text!r}")
    return int(text)


def _flags_shown(collection: Collection) -> str:
    """The file of flags, as the user knows its place."""
    url = shown(collection.path)
    if url != str(collection.path):
        return f"{url}.flags.json"
    here, file = Path.cwd(), collection.flags_path
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _json(content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers=FRESH)


def _page(name: str) -> Response:
    """A page, with the head that all of them have."""
    folder = resources.files("pipeline.browse") / "assets"
    head, body = (folder.joinpath(file).read_text("utf-8") for file in ("head.html", name))
    return Response(body.replace(HEAD, head), media_type=TYPES[".html"], headers=FRESH)


def _asset(name: str) -> Response:
    folder = resources.files("pipeline.browse") / "assets"
    known = {file.name: file for file in folder.iterdir()}
    suffix = name[name.rfind(".") :]
    if name not in known or suffix not in TYPES:
        raise IndexError(f"no asset '{name}'")
    return Response(known[name].read_bytes(), media_type=TYPES[suffix], headers=FRESH)
