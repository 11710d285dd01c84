"""The webhook of a queue on its page: set, tried, paused and resumed, its secret made anew, taken away."""

from __future__ import annotations

from typing import Any, Final, get_args
from urllib.parse import urlsplit

from restante.desk import queue as queue_page
from restante.desk.forms import Form
from restante.desk.site import Call, Site
from restante.errors import Malformed, RestanteError
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.model import Queue
from restante.operators import Level
from restante.queries import WebhookOf
from restante.webhooks import BOUNDS, Payload, Webhook

URL_CHARACTERS: Final = 2_048
_PAYLOADS: Final = get_args(Payload)
_OPTIONAL: Final = "rate_per_second"


def add_routes(routes: Routes, site: Site) -> None:
    """Attach what is done to it: by operators, and by its owner on the clients' page."""
    acts = WebhookActs(site)
    place = "/queues/{queue}"
    site.page(routes, f"{place}/webhook", acts.form, Level.OPERATOR)
    site.act(routes, f"{place}/webhook", acts.put, Level.OPERATOR)
    for what, act in (
        ("test", acts.test),
        ("pause", acts.pause),
        ("resume", acts.resume),
        ("rotate", acts.rotate),
        ("remove", acts.remove),
    ):
        site.act(routes, f"{place}/webhook/{what}", act, Level.OPERATOR, back=place)


class WebhookActs:
    """Each act ends on the queue's page, which says what was done; a secret is shown once, on a page of its own."""

    def __init__(self, site: Site) -> None:
        self._webhooks = site.broker.webhooks
        self._store = site.broker.store

    async def form(self, call: Call) -> Answer:
        queue = await call.queue()
        webhook = await self._store.browse(WebhookOf(queue.name))
        shown = webhook or Webhook(queue=queue.name, url="")
        given = {name: _text(getattr(shown, name)) for name in BOUNDS}
        return _form(call, queue, {"url": shown.url, "payload": shown.payload, **given}, webhook)

    async def put(self, call: Call) -> Answer:
        queue = await call.queue()
        given = {name: call.form.text(name, URL_CHARACTERS) for name in ("url", "payload", *BOUNDS)}
        try:
            settings = _settings(call.form)
            before = await self._store.browse(WebhookOf(queue.name))
            # What is sent along may be another place's password, which whoever sets a new place need not know.
            stays = before is None or _is_same_place(before.url, given["url"])
            headers: dict[str, str] | None = None if stays else {}
            _, secret = await self._webhooks.put(
                queue.name, given["url"], headers, settings, call.visitor.actor
            )
        except RestanteError as error:
            webhook = await self._store.browse(WebhookOf(queue.name))
            return _form(call, queue, given, webhook, error)
        if secret is not None:
            return _secret(call, queue, secret)
        return call.go(f"/queues/{queue.name}", done="webhook")

    async def test(self, call: Call) -> Answer:
        queue = await call.queue()
        pinged = await self._webhooks.ping(queue.name, call.visitor.actor)
        return call.render("queue.html", **(await queue_page.told(call) | {"pinged": pinged}))

    async def pause(self, call: Call) -> Answer:
        queue = await call.queue()
        reason = call.form.text("reason", 500) or f"paused by {call.visitor.name}"
        await self._webhooks.disable(queue.name, reason, call.visitor.actor)
        return call.go(f"/queues/{queue.name}", done="paused")

    async def resume(self, call: Call) -> Answer:
        queue = await call.queue()
        await self._webhooks.enable(queue.name, call.visitor.actor)
        return call.go(f"/queues/{queue.name}", done="resumed")

    async def rotate(self, call: Call) -> Answer:
        queue = await call.queue()
        _, secret = await self._webhooks.rotate(queue.name, call.visitor.actor)
        return _secret(call, queue, secret)

    async def remove(self, call: Call) -> Answer:
        queue = await call.queue()
        await self._webhooks.drop(queue.name, call.visitor.actor)
        return call.go(f"/queues/{queue.name}", done="removed")


def _secret(call: Call, queue: Queue, secret: str) -> Answer:
    return call.render("webhook_secret.html", 201, queue=queue, secret=secret)


def _form(
    call: Call,
    queue: Queue,
    given: dict[str, str],
    webhook: Webhook | None,
    error: RestanteError | None = None,
) -> Answer:
    return call.render(
        "webhook_form.html",
        200 if error is None else error.status,
        queue=queue,
        given=given,
        webhook=webhook,
        problem="" if error is None else error.detail,
        bounds=BOUNDS,
        payloads=_PAYLOADS,
        optional=_OPTIONAL,
    )


def _settings(form: Form) -> dict[str, Any]:
    """The settings that the form says. Raises ``Malformed``; whether they are in their bounds is to be seen."""
    given: dict[str, Any] = {"payload": form.text("payload", 40)}
    if given["payload"] not in _PAYLOADS:
        raise Malformed(f"payload must be one of {', '.join(_PAYLOADS)}")
    for name in BOUNDS:
        text = form.text(name, 40)
        if name == _OPTIONAL and not text:
            given[name] = None
            continue
        try:
            given[name] = int(text) if name == "concurrency" else float(text)
        except ValueError as error:
            raise Malformed(f"{name} must be a number, not {text or 'nothing'}") from error
    return given


def _is_same_place(one: str, other: str) -> bool:
    """Whether both are at one scheme, host and port."""
    return urlsplit(one)[:2] == urlsplit(other)[:2]


def _text(value: float | None) -> str:
    """As the form has it: whole numbers without a point, and none rounded."""
    return "" if value is None else str(int(value)) if value == int(value) else repr(value)
