"""What every page stands on: visitors and their roles, templates, forms, headers, the menu.

A page's handler is given a ``Call`` and answers with what ``Call.render`` or ``Call.go`` make. What it raises of
``RestanteError`` becomes a page that says so.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from restante import auth
from restante.desk.forms import Form, read_form
from restante.desk.origins import check_own
from restante.desk.static import Static
from restante.desk.templates import environment
from restante.desk.visitors import Visitor, Visitors, Visits
from restante.engine.broker import Broker
from restante.engine.operators import Operators
from restante.errors import Forbidden, NotFound, RestanteError
from restante.http.answers import Answer, Header, retry_after
from restante.http.api import Routes, Sendable
from restante.http.authentication import Authenticator
from restante.http.request import Request
from restante.model import Queue
from restante.openid import OpenId
from restante.operators import Level, require
from restante.wire.visits import cookie_of

THEME_COOKIE: Final = "restante-theme"
THEMES: Final = frozenset({"light", "dark"})
HTML: Final = b"text/html; charset=utf-8"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final[tuple[Header, ...]] = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""On every page, beside those that ``Answer`` sets: nosniff and no-store."""
_HTMX: Final = (
    '{"allowEval":false,"allowScriptTags":false,"includeIndicatorStyles":false,"historyCacheSize":0,'
    '"refreshOnHistoryMiss":true,"selfRequestsOnly":true}'
)


class MenuItem(NamedTuple):
    """``path`` is the page's; it is marked on every page below it too. Those of ``level`` see it."""

    label: str
    path: str
    level: Level = Level.VIEWER

    def marked(self, path: str) -> bool:
        return path == self.path or (self.path != "/" and path.startswith(f"{self.path}/"))


class Call:
    """One request of a visitor. ``form`` is what was sent with it; empty for a page that is only looked at."""

    def __init__(self, desk: Site, request: Request, visitor: Visitor, form: Form) -> None:
        self.desk = desk
        self.request = request
        self.visitor = visitor
        self.form = form

    def may(self, level: str) -> bool:
        """Whether the visitor may do what takes that level (a ``Level``, or its name): for templates."""
        return self.visitor.level.covers(Level(level))

    async def queue(self) -> Queue:
        """The queue that the address names. ``QueueNotFound`` also where it is not the visitor's to see."""
        queue = await self.desk.broker.directory.queue(self.request.parameters["queue"])
        auth.require_collect(self.visitor.actor, queue)
        return queue

    def render(self, template: str, status: int = 200, **values: Any) -> Answer:
        """A page, or a part of one, of the template; it knows ``call`` and ``form_token``."""
        token = self.desk.visitors.form_token(self.visitor.visit)
        return self.desk.render(
            self.request, template, status, call=self, form_token=token, **values
        )

    def go(self, path: str, **query: str) -> Answer:
        """On to another page of the site once something was done, so that loading that again does it no second time."""
        path = f"{self.desk.root}{path}"
        return to(f"{path}?{urllib.parse.urlencode(query)}" if query else path)


Handler = Callable[[Call], Awaitable[Sendable]]


class Site:
    """What a site is made of. Every path that pages give is below ``root``, which is empty or begins with a slash.

    ``menu`` is what its pages have put there, in their order. Templates are looked for in ``packages``, in their order.
    """

    def __init__(
        self,
        broker: Broker,
        visitors: Visits,
        version: str,
        *,
        root: str = "",
        packages: Sequence[str] = ("restante.desk",),
    ) -> None:
        self.broker = broker
        self.root = root
        self.menu: list[MenuItem] = []
        self.static = Static(root)
        self._visitors = visitors
        self._templates = environment(
            packages,
            asset=self.static.address,
            htmx_config=_HTMX,
            menu=self.menu,
            version=version,
            root=root,
        )

    @property
    def visitors(self) -> Visits:
        """Those who have signed in."""
        return self._visitors

    # -- what pages attach themselves with --------------------------------------------------------

    def page(
        self,
        routes: Routes,
        path: str,
        handler: Handler,
        level: Level = Level.VIEWER,
        *,
        by_itself: bool = False,
    ) -> None:
        """Attach a page for those who have that level. ``by_itself``: it is asked for without anybody doing something,
        so that it does not keep a visit from ending.
        """

        async def answer(request: Request) -> Sendable:
            return await self._answer(request, handler, level, act=False, counts=not by_itself)

        routes.add("GET", f"{self.root}{path}", answer, None)

    def act(
        self, routes: Routes, path: str, handler: Handler, level: Level, *, back: str = ""
    ) -> None:
        """Attach what a form does. It was sent by a page of this visit, or the handler is not called.

        An act that answers with a page leaves its own address in the browser: who asks for that by itself, by loading
        it from there, is led ``back``, to the page of that path.
        """

        async def answer(request: Request) -> Sendable:
            return await self._answer(request, handler, level, act=True, counts=True)

        routes.add("POST", f"{self.root}{path}", answer, None)
        if back:
            self.page(routes, path, _lead_to(back), level)

    def rest(self, routes: Routes) -> None:
        """Attach what is answered below ``root`` where nothing else is: for visitors, a page that says so.

        Programs that ask for what is not there are told so as by every other call.
        """

        async def answer(request: Request) -> Answer:
            error = NotFound(f"there is nothing at {request.path[:200]}")
            visitor = await self.visitors.find(request)
            if visitor is None:
                raise error
            return self._failed(Call(self, request, visitor, Form({})), error)

        routes.add_nothing(f"{self.root}/{{rest...}}", answer)

    async def _answer(
        self, request: Request, handler: Handler, level: Level, *, act: bool, counts: bool
    ) -> Sendable:
        visitor = await self.visitors.find(request)
        if visitor is None:
            return self._to_sign_in(request)
        call = Call(self, request, visitor, Form({}))
        answer: Sendable
        try:
            if act:
                check_own(request)
                call.form = await read_form(request)
                if not self.visitors.is_form_token(visitor.visit, call.form.text("form_token")):
                    raise Forbidden("the form is from another visit: load the page again")
            require(visitor.level, level)
            answer = await handler(call)
        except RestanteError as error:
            answer = self._failed(call, error)
        if counts and isinstance(answer, Answer):
            visit = self.visitors.renewed(visitor.visit)
            if visit is not None:
                answer.headers = (*answer.headers, self.visitors.cookie(visit))
        return answer

    # -- answers --------------------------------------------------------------------------------

    def render(self, request: Request, template: str, status: int = 200, **values: Any) -> Answer:
        """A page for anybody; ``Call.render`` is for those who have signed in."""
        theme = cookie_of(request.header(b"cookie") or "", THEME_COOKIE)
        text = self._templates.get_template(template).render(
            theme=theme if theme in THEMES else "", path=request.path, **values
        )
        return Answer(status, text.encode("utf-8", "replace"), HTML, HEADERS)

    def _failed(self, call: Call, error: RestanteError) -> Answer:
        answer = call.render("error.html", error.status, title=error.title, detail=error.detail)
        answer.headers = (*answer.headers, *retry_after(error))
        return answer

    def _to_sign_in(self, request: Request) -> Answer:
        if request.header(b"hx-request") is not None:
            # htmx: load the whole page anew, which leads to the sign-in.
            return Answer(401, b"", HTML, (*HEADERS, (b"hx-refresh", b"true")))
        query = request.scope["query_string"].decode("latin-1")
        here = f"{request.path}?{query}" if query else request.path
        there = here if request.method == "GET" else f"{self.root}/"
        return to(f"{self.root}/sign-in?{urllib.parse.urlencode({'next': there})}")


class Desk(Site):
    """The operators' site."""

    def __init__(
        self,
        broker: Broker,
        operators: Operators,
        authenticator: Authenticator,
        version: str,
        openid: OpenId | None = None,
    ) -> None:
        self.operators = operators
        self.authenticator = authenticator
        self.openid = openid
        self._operators_visitors = Visitors(broker, operators, authenticator, openid)
        super().__init__(broker, self._operators_visitors, version)

    @property
    def visitors(self) -> Visitors:
        return self._operators_visitors


def _lead_to(back: str) -> Handler:
    async def lead(call: Call) -> Answer:
        quoted = {
            name: urllib.parse.quote(value, safe="")
            for name, value in call.request.parameters.items()
        }
        return call.go(back.format_map(quoted))

    return lead


def to(path: str, *headers: Header) -> Answer:
    """On to another page of this site (303: with GET, whatever led here)."""
    return Answer(303, b"", HTML, (*HEADERS, (b"location", path.encode()), *headers))
