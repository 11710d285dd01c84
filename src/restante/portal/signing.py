"""The way in to a client's page, and out: by the client's key, or by a one-time link."""

from __future__ import annotations

import urllib.parse
from typing import Final

from restante import auth
from restante.desk.attempts import Attempts
from restante.desk.forms import read_form
from restante.desk.origins import check_own, is_followed_from_elsewhere, is_private, local_path
from restante.desk.site import Call, Site, to
from restante.engine.acts import What
from restante.engine.links import Links
from restante.errors import Forbidden, RestanteError, Unauthenticated
from restante.http.answers import Answer, retry_after
from restante.http.api import Routes
from restante.http.authentication import Authenticator, remote_of
from restante.http.request import Request
from restante.logs import get_logger
from restante.model import Actor, Role
from restante.operators import Level
from restante.portal.visitors import TRANSPORT, ClientVisits
from restante.wire.visits import Visit

ENTER: Final = "/enter/{token}"
_log = get_logger(__name__)


def add_routes(routes: Routes, site: Site, visits: ClientVisits, keys: Authenticator) -> None:
    """Attach the pages."""
    signing = Signing(site, visits, keys)
    routes.add("GET", f"{site.root}/sign-in", signing.show, None)
    routes.add("POST", f"{site.root}/sign-in", signing.sign_in, None)
    routes.add("GET", f"{site.root}{ENTER}", signing.confirm, None)
    routes.add("POST", f"{site.root}{ENTER}", signing.enter, None)
    site.act(routes, "/sign-out", signing.sign_out, Level.VIEWER, back="/")


class Signing:
    """Nothing is changed by looking at a link: programs that read mail follow them all."""

    def __init__(self, site: Site, visits: ClientVisits, keys: Authenticator) -> None:
        self._site = site
        self._visits = visits
        self._keys = keys
        self._links = Links(site.broker)
        self._attempts = Attempts(site.broker.clock)

    async def show(self, request: Request) -> Answer:
        there = self._there(request.query.get("next", ""))
        if is_followed_from_elsewhere(request):
            return self._site.render(request, "again.html", there=there)
        if await self._visits.find(request) is not None:
            return to(there)
        return self._page(request, there)

    async def sign_in(self, request: Request) -> Answer:
        there = self._there("")
        try:
            check_own(request)
            self._check_private(request)
            form = await read_form(request)
            there = self._there(form.text("next"))
            visit = await self._by_key(request, form.text("key", 1_024))
        except RestanteError as error:
            return self._page(request, there, error)
        return to(there, self._visits.cookie(visit))

    async def confirm(self, request: Request) -> Answer:
        token = request.parameters["token"]
        try:
            self._check_private(request)
            client = await self._links.client_of(token)
        except RestanteError as error:
            return self._page(request, self._there(""), error)
        here = f"{self._site.root}/enter/{urllib.parse.quote(token, safe='')}"
        return self._site.render(request, "enter.html", client=client, here=here)

    async def enter(self, request: Request) -> Answer:
        try:
            check_own(request)
            self._check_private(request)
            opened = await self._links.use(request.parameters["token"])
        except RestanteError as error:
            return self._page(request, self._there(""), error)
        visit = self._visits.by_link(opened)
        await self._note(request, visit, "link")
        return to(f"{self._site.root}/", self._visits.cookie(visit))

    async def sign_out(self, call: Call) -> Answer:
        await self._visits.end(call.visitor.visit)
        return to(f"{self._site.root}/sign-in", self._visits.cookie(None))

    async def _by_key(self, request: Request, text: str) -> Visit:
        remote = remote_of(request)
        client = request.scope.get("client")
        address = client[0] if client else ""
        # Guesses of one key are counted together, and shut nobody else out.
        name = text.rpartition("_")[0][:64] or address
        self._attempts.begin(address, name)
        try:
            actor = await self._keys.by_key(text, TRANSPORT, remote)
            auth.require(actor, Role.CLIENT)
        except (Unauthenticated, Forbidden) as error:
            _log.warning("client.not_signed_in", address=remote)
            # Alike, so that another's key is not told from none.
            raise Unauthenticated("that is not the key of a client") from error
        self._attempts.succeeded(address, name)
        visit = self._visits.by_key(actor)
        await self._note(request, visit, "key")
        return visit

    async def _note(self, request: Request, visit: Visit, by: str) -> None:
        remote = remote_of(request)
        who = Actor(visit.name, Role.CLIENT, visit.key_id, TRANSPORT, remote)
        await self._site.broker.acts.record(
            who, What.CLIENT_SIGNED_IN, subject=visit.name, details={"by": by}
        )
        _log.info("client.signed_in", client=visit.name, by=by, address=remote)

    def _check_private(self, request: Request) -> None:
        if not is_private(request):
            raise Forbidden("this connection is not private: use HTTPS")

    def _there(self, wanted: str) -> str:
        """Where to go on: a page of this site, and of no other on the same host."""
        there = local_path(wanted)
        root = self._site.root
        return there if there == root or there.startswith(f"{root}/") else f"{root}/"

    def _page(self, request: Request, there: str, error: RestanteError | None = None) -> Answer:
        answer = self._site.render(
            request,
            "sign_in.html",
            200 if error is None else error.status,
            there=there,
            problem="" if error is None else error.detail,
            private=is_private(request),
        )
        if error is not None:
            answer.headers = (*answer.headers, *retry_after(error))
        return answer
