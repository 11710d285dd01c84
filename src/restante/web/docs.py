"""The interface's own description: the specification files as vendors are handed them, and a page that shows one."""

from __future__ import annotations

import importlib.resources
from typing import Final

from restante.errors import NotFound
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.http.request import Request

_TYPES: Final = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "proto": b"text/plain; charset=utf-8",
    "yaml": b"application/yaml",
}
_PAGE_FILES: Final = {
    "docs.js": "docs.js",
    "docs.css": "docs.css",
    "swagger-ui.css": "vendor/swagger-ui/swagger-ui.css",
    "swagger-ui-bundle.js": "vendor/swagger-ui/swagger-ui-bundle.js",
}
_POLICY: Final = b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def add_routes(routes: Routes) -> None:
    """Attach what anyone may read, without a key."""
    routes.add("GET", "/openapi.yaml", _calls, None)
    routes.add("GET", "/asyncapi.yaml", _streams, None)
    routes.add("GET", "/restante.proto", _proto, None)
    routes.add("GET", "/docs", _page, None)
    routes.add("GET", "/docs/{file}", _page_file, None)


async def _calls(_: Request) -> Answer:
    return _file("openapi.yaml")


async def _streams(_: Request) -> Answer:
    return _file("asyncapi.yaml")


async def _proto(_: Request) -> Answer:
    return _file("restante.proto")


async def _page(_: Request) -> Answer:
    return _file("docs.html")


async def _page_file(request: Request) -> Answer:
    known = _PAGE_FILES.get(request.parameters["file"])
    if known is None:
        raise NotFound("there is no such file")
    return _file(known)


def _file(name: str) -> Answer:
    content = importlib.resources.files("restante.web").joinpath(name).read_bytes()
    kind = _TYPES[name.rpartition(".")[2]]
    return Answer(200, content, kind, ((b"content-security-policy", _POLICY),))
