"""The keys that a client signs with itself: shown to whoever may see its queue, added and revoked by administrators."""

from __future__ import annotations

from typing import Final

from restante.desk.site import Call, Site
from restante.errors import RestanteError
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.operators import Level

PASTED_CHARACTERS: Final = 16_384
"""More than any key has, so that what is no key is told to be none."""
_LABEL_CHARACTERS: Final = 255
_NOTICES: Final = {
    "added": "The key is added: what the client signs with it is taken from now on.",
    "revoked": "The key is revoked: what is signed with it from now on is refused.",
}
_HERE: Final = "/queues/{queue}/signing"


def add_page(routes: Routes, site: Site) -> None:
    """Attach the page."""
    site.page(routes, _HERE, page)


def add_acts(routes: Routes, desk: Site) -> None:
    """Attach what its forms do. A client registers none: whoever stole its bearer key could sign in its name then."""
    desk.act(routes, _HERE, add, Level.ADMIN)
    desk.act(routes, f"{_HERE}/{{id}}/revoke", revoke, Level.ADMIN, back=_HERE)


async def page(call: Call) -> Answer:
    """All keys of the client, in the order in which they were added."""
    return await _page(call)


async def add(call: Call) -> Answer:
    """Register a key or certificate; what was pasted is shown again where that is none."""
    queue = await call.queue()
    pem = call.form.text("pem", PASTED_CHARACTERS)
    label = call.form.text("label", _LABEL_CHARACTERS)
    try:
        await call.desk.broker.signing_keys.add(queue.owner, pem, label, call.visitor.actor)
    except RestanteError as error:
        return await _page(call, pem, label, error)
    return call.go(f"/queues/{queue.name}/signing", done="added")


async def revoke(call: Call) -> Answer:
    """Nothing is signed with it from now on. ``KeyNotFound``."""
    queue = await call.queue()
    id = call.request.parameters["id"]
    await call.desk.broker.signing_keys.revoke(queue.owner, id, call.visitor.actor)
    return call.go(f"/queues/{queue.name}/signing", done="revoked")


async def _page(
    call: Call, pem: str = "", label: str = "", error: RestanteError | None = None
) -> Answer:
    queue = await call.queue()
    return call.render(
        "signing.html",
        200 if error is None else error.status,
        queue=queue,
        keys=await call.desk.broker.signing_keys.of(queue.owner),
        notice=_NOTICES.get(call.request.query.get("done", ""), ""),
        problem="" if error is None else error.detail,
        pem=pem,
        label=label,
        now_ms=call.desk.broker.clock.wall_ms(),
    )
