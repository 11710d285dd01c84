"""The page on which one signs in, and the way out."""

from __future__ import annotations

import urllib.parse

from restante import auth
from restante.desk.attempts import Attempts
from restante.desk.forms import read_form
from restante.desk.origins import check_own, is_followed_from_elsewhere, is_private, local_path
from restante.desk.site import Call, Desk, to
from restante.desk.visitors import TRANSPORT
from restante.engine.acts import What
from restante.errors import Forbidden, RestanteError, Unauthenticated
from restante.http.answers import Answer, retry_after
from restante.http.api import Routes
from restante.http.authentication import remote_of
from restante.http.request import Request
from restante.logs import get_logger
from restante.model import Actor, Role
from restante.operators import Level
from restante.wire.visits import Visit

_log = get_logger(__name__)


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the page."""
    signing = Signing(desk)
    routes.add("GET", "/sign-in", signing.show, None)
    routes.add("POST", "/sign-in", signing.sign_in, None)
    desk.act(routes, "/sign-out", signing.sign_out, Level.VIEWER)


class Signing:
    """By an account's name and password, or by an administrator's key; for OpenID Connect see ``openid``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._attempts = Attempts(desk.broker.clock)

    async def show(self, request: Request) -> Answer:
        there = local_path(request.query.get("next", "/"))
        if is_followed_from_elsewhere(request):
            # The cookie is for this site's own requests alone: the page asks once more, and then it is one.
            return self._desk.render(request, "again.html", there=there)
        if await self._desk.visitors.find(request) is not None:
            return to(there)
        return await self._page(request, there)

    async def sign_in(self, request: Request) -> Answer:
        there = "/"
        try:
            check_own(request)
            if not is_private(request):
                raise Forbidden("this connection is not private")
            form = await read_form(request)
            there = local_path(form.text("next"))
            visit = await self._visit(
                request, form.text("name", 128), form.verbatim("password", 1_024)
            )
        except RestanteError as error:
            return await self._page(request, there, error)
        return to(there, self._desk.visitors.cookie(visit))

    async def sign_out(self, call: Call) -> Answer:
        await self._desk.visitors.end(call.visitor.visit)
        _log.info("operator.signed_out", operator=call.visitor.name)
        return to("/sign-in", self._desk.visitors.cookie(None))

    async def _visit(self, request: Request, name: str, secret: str) -> Visit:
        remote = remote_of(request)
        client = request.scope.get("client")
        address = client[0] if client else ""
        # Keys have no name that guesses at all of them could use up: those at one key are counted together, by its id.
        guessed = name or secret.strip().rpartition("_")[0][:64] or address
        self._attempts.begin(address, guessed)
        try:
            visit = (
                await self._by_account(name, secret) if name else await self._by_key(secret, remote)
            )
        except Unauthenticated:
            _log.warning("operator.not_signed_in", operator=name, address=remote)
            raise
        self._attempts.succeeded(address, guessed)
        who = Actor(visit.name, Role.ADMIN, visit.key_id, TRANSPORT, remote)
        await self._desk.broker.acts.record(who, What.OPERATOR_SIGNED_IN, subject=visit.name)
        _log.info("operator.signed_in", operator=visit.name, key_id=visit.key_id, address=remote)
        return visit

    async def _by_account(self, name: str, password: str) -> Visit:
        operator = await self._desk.operators.sign_in(name, password)
        if operator is None:
            raise Unauthenticated("name or password is wrong")
        return self._desk.visitors.by_account(operator)

    async def _by_key(self, key: str, remote: str) -> Visit:
        try:
            actor = await self._desk.authenticator.by_key(key.strip(), TRANSPORT, remote)
            auth.require(actor, Role.ADMIN)
        except (Unauthenticated, Forbidden) as error:
            # Alike, so that a client's key is not told from none.
            raise Unauthenticated("that is not the key of an administrator") from error
        return self._desk.visitors.by_key(actor)

    async def _page(
        self, request: Request, there: str, error: RestanteError | None = None
    ) -> Answer:
        openid = self._desk.openid
        answer = self._desk.render(
            request,
            "sign_in.html",
            200 if error is None else error.status,
            there=there,
            problem="" if error is None else error.detail,
            private=is_private(request),
            accounts=bool(await self._desk.operators.all()),
            provider=None if openid is None else urllib.parse.urlsplit(openid.issuer).hostname,
        )
        if error is not None:
            answer.headers = (*answer.headers, *retry_after(error))
        return answer
