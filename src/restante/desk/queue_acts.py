"""What is done on a queue's page: settings changed, keys made and revoked."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from restante.desk.forms import Form
from restante.desk.site import Call, Site
from restante.engine.administration import Administration
from restante.errors import KeyNotFound, Malformed, RestanteError
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.model import SETTING_BOUNDS, Queue, Role, Settings
from restante.operators import Level
from restante.queries import KeyById

AFTER_DEAD: Final = ("continue", "park")
_GROUPS: Final = (
    ("Delivery", ("lease_seconds", "max_attempts", "max_in_flight", "max_body_bytes")),
    ("Retries", ("backoff_base_seconds", "backoff_factor", "backoff_cap_seconds")),
    ("Retention", ("body_retention_seconds", "receipt_retention_seconds")),
)
_GROUPED: Final = frozenset(name for _, names in _GROUPS for name in names)
GROUPS: Final = (
    *_GROUPS,
    ("Limits to warn at", tuple(name for name in SETTING_BOUNDS if name not in _GROUPED)),
)
"""The settings that are numbers, as the form has them."""
_FIELDS: Final = {field.name: field for field in msgspec.structs.fields(Settings)}
OPTIONAL: Final = frozenset(name for name, field in _FIELDS.items() if field.default is None)


def add_routes(routes: Routes, desk: Site) -> None:
    """Attach what the page's forms do."""
    acts = QueueActs(desk)
    place = "/queues/{queue}"
    desk.page(routes, f"{place}/settings", acts.settings_form, Level.OPERATOR)
    desk.act(routes, f"{place}/settings", acts.change_settings, Level.OPERATOR)
    desk.act(routes, f"{place}/keys", acts.make_key, Level.ADMIN, back=place)
    desk.act(routes, f"{place}/keys/{{id}}/revoke", acts.revoke_key, Level.ADMIN, back=place)


class QueueActs:
    """Each act ends on the queue's page, which says what was done."""

    def __init__(self, desk: Site) -> None:
        self._desk = desk

    # -- settings -------------------------------------------------------------------------------

    async def settings_form(self, call: Call) -> Answer:
        queue = await call.queue()
        given = {name: _text(getattr(queue.settings, name)) for name in SETTING_BOUNDS}
        return _settings_form(
            call,
            queue,
            given
            | {
                "after_dead": queue.settings.after_dead,
                "client_may_redrive": "1" if queue.settings.client_may_redrive else "",
                "signature": "1" if queue.settings.signature == "required" else "",
            },
        )

    async def change_settings(self, call: Call) -> Answer:
        queue = await call.queue()
        given = {
            name: call.form.text(name, 40)
            for name in (*SETTING_BOUNDS, "after_dead", "client_may_redrive", "signature")
        }
        try:
            settings = _settings(call.form)
            settings.check()
        except RestanteError as error:
            return _settings_form(call, queue, given, error)
        await self._administration(call).put_queue(queue.name, None, settings)
        return call.go(f"/queues/{queue.name}", done="settings")

    # -- keys -----------------------------------------------------------------------------------

    async def make_key(self, call: Call) -> Answer:
        """The one answer that shows the key: it is not to be had again by loading the page anew."""
        queue = await call.queue()
        key, text = await self._administration(call).add_key(
            Role.CLIENT, queue.owner, None, call.form.text("label", 255)
        )
        return call.render("key_made.html", 201, queue=queue, key=key, text=text)

    async def revoke_key(self, call: Call) -> Answer:
        queue = await call.queue()
        id = call.request.parameters["id"]
        key = await self._desk.broker.store.browse(KeyById(id))
        if key is None or (key.role, key.name) != (Role.CLIENT, queue.owner):
            raise KeyNotFound(f"{queue.owner} has no key {id[:40]}")
        await self._administration(call).revoke_key(id)
        return call.go(f"/queues/{queue.name}", done="revoked")

    def _administration(self, call: Call) -> Administration:
        return Administration(self._desk.broker, call.visitor.actor)


def _settings_form(
    call: Call, queue: Queue, given: dict[str, str], error: RestanteError | None = None
) -> Answer:
    return call.render(
        "queue_settings.html",
        200 if error is None else error.status,
        queue=queue,
        given=given,
        problem="" if error is None else error.detail,
        groups=GROUPS,
        bounds=SETTING_BOUNDS,
        after_dead=AFTER_DEAD,
        optional=OPTIONAL,
    )


def _settings(form: Form) -> Settings:
    """The settings that the form says. Raises ``Malformed``; whether they are in their bounds is to be seen."""
    given: dict[str, Any] = {}
    for name in SETTING_BOUNDS:
        text = form.text(name, 40)
        kind = float if _FIELDS[name].type in (float, float | None) else int
        if not text and name in OPTIONAL:
            given[name] = None
            continue
        try:
            given[name] = kind(text)
        except ValueError as error:
            raise Malformed(f"{name} must be a number, not {text or 'nothing'}") from error
    given["after_dead"] = form.text("after_dead", 40)
    given["client_may_redrive"] = bool(form.text("client_may_redrive", 40))
    given["signature"] = "required" if form.text("signature", 40) else "optional"
    try:
        return msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        raise Malformed(f"after_dead must be one of {', '.join(AFTER_DEAD)}") from error


def _text(value: float | None) -> str:
    """As the form has it: whole numbers without a point."""
    return "" if value is None else str(int(value)) if value == int(value) else str(value)
