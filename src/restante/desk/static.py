"""The files that pages load, under addresses with a hash of their content: a browser keeps each for ever."""

from __future__ import annotations

import hashlib
import importlib.resources
from typing import Final, NamedTuple

from restante.errors import NotFound
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.http.request import Request

_TYPES: Final = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
FILES: Final = {
    "desk.css": "static/desk.css",
    "desk.js": "static/desk.js",
    "charts.js": "static/charts.js",
    "icon.svg": "static/icon.svg",
    "htmx.js": "vendor/htmx/htmx.min.js",
    "uplot.js": "vendor/uplot/uPlot.iife.min.js",
    "uplot.css": "vendor/uplot/uPlot.min.css",
}
_FOLDER: Final = "/static"


class _File(NamedTuple):
    content: bytes
    kind: bytes


class Static:
    """Reads the files once, when it is made. They are served below the site's ``root``."""

    def __init__(self, root: str = "") -> None:
        self._folder = f"{root}{_FOLDER}"
        self._files: dict[str, _File] = {}
        self._addresses: dict[str, str] = {}
        for name, place in FILES.items():
            content = importlib.resources.files("restante.desk").joinpath(place).read_bytes()
            stem, _, suffix = name.rpartition(".")
            hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{suffix}"
            self._files[hashed] = _File(content, _TYPES[suffix])
            self._addresses[name] = f"{self._folder}/{hashed}"

    def add_routes(self, routes: Routes) -> None:
        """Attach them; they are anyone's, as the repository is."""
        routes.add("GET", f"{self._folder}/{{file}}", self._serve, None)

    def address(self, name: str) -> str:
        """The path of a file, for templates. ``KeyError`` for one that is not there."""
        return self._addresses[name]

    async def _serve(self, request: Request) -> Answer:
        found = self._files.get(request.parameters["file"])
        if found is None:
            raise NotFound("there is no such file")
        return _Kept(found)


class _Kept(Answer):
    """An answer that is kept for ever, which ``Answer`` itself forbids of what it does not know."""

    __slots__ = ()

    def __init__(self, file: _File) -> None:
        super().__init__(200, file.content, file.kind)
        self.headers = (
            (b"content-type", file.kind),
            (b"content-length", b"%d" % len(file.content)),
            (b"cache-control", b"public, max-age=31536000, immutable"),
            (b"x-content-type-options", b"nosniff"),
        )
