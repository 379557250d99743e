"""The routes of the web page: static files, the same for everybody.

In: the name of a file in service/page. Out: the file, compressed where the client accepts it. The page gets
all that it shows over the public API.
"""

from __future__ import annotations

import gzip
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

from flask import Response, request

from ...access.scopes import Scope
from ...dialects.ollama.answer import error_record
from ...errors import HTTPRefusal
from ..http_responses import empty_response
from ..route import Route
from .base import Routes

PAGE = Path(__file__).parents[2] / "page"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The page runs its own scripts alone, asks its own server alone, and no text becomes markup. `data:` is for the images
# that a person adds to a question.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # A browser asks each time whether a file is still the same: modules of two versions don't fit together.
    "Cache-Control": "no-cache",
}


class Asset:
    """A file of the page, read once."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.media_type = TYPES[path.suffix]
        self.tag = sha256(self.data).hexdigest()[:24]

    @cached_property
    def compressed(self) -> bytes:
        # The same bytes in every web worker, so without a time.
        return gzip.compress(self.data, mtime=0)


@lru_cache(maxsize=1)
def assets() -> dict[str, Asset]:
    """Return the files by their names. Read at the first request of each process."""
    return {path.name: Asset(path) for path in PAGE.iterdir() if path.suffix in TYPES}


class PageRoutes(Routes):
    name = "page"
    bases = ()
    package = "page"
    error_record = staticmethod(error_record)

    def table(self) -> list[Route]:
        if not self._settings.page:
            return []
        return [
            Route("/ui", ("GET",), self.page, Scope.OPEN, "the web page"),
            Route("/ui/", ("GET",), self.page_with_slash, Scope.OPEN, "a redirect to the web page"),
            Route("/ui/<file>", ("GET",), self.file, Scope.OPEN, "a file of the web page"),
        ]

    def page(self) -> Response:
        return _response(assets()[INDEX])

    def page_with_slash(self) -> Response:
        """Redirect to `/ui`, since the page names its files relative to it. The server may not know its own prefix."""
        return empty_response(301, {"Location": "../ui"})

    def file(self, file: str) -> Response:
        asset = assets().get(file)
        if asset is None or file == INDEX:
            raise HTTPRefusal(f"404 page not found: /ui/{file}", status=404)
        return _response(asset)


def _response(asset: Asset) -> Response:
    is_compressed = request.accept_encodings.quality("gzip") > 0
    response = Response(
        asset.compressed if is_compressed else asset.data, content_type=asset.media_type, headers=HEADERS
    )
    if is_compressed:
        response.content_encoding = "gzip"
    response.vary.add("Accept-Encoding")
    # A tag belongs to one encoding of a file (RFC 9110 §8.8.3).
    response.set_etag(f"{asset.tag}-gzip" if is_compressed else asset.tag)
    response.make_conditional(request)
    return response
