"""What is done with dead letters on their pages: redriven, discarded, replaced, passed by; by ticks or by a filter."""

from __future__ import annotations

import urllib.parse
from typing import Final

from restante.desk import dead
from restante.desk.forms import Form
from restante.desk.site import Call, Desk
from restante.engine.bodies import look_into
from restante.engine.dead_letters import DeadLetterDesk
from restante.errors import BodyGone, DeadLetterNotFound, Malformed, RestanteError
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.model import REASON_CHARACTERS, Selection, State
from restante.operators import Level
from restante.queries import OpenDeliveries
from restante.wire.job_messages import Task

EDITED_BYTES: Final = 262_144
"""A larger body is not edited on a page: ``restante dead replace`` takes a file."""
_PLACE: Final = "/dead-letters/{queue}"


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach what the forms do: all for operators."""
    for path, act in (
        ("redrive", redrive),
        ("discard", discard),
        ("preview", preview),
        ("job", begin),
        ("{seq}/edit", edit),
        ("{seq}/replace", replace),
        ("{seq}/open", open_key),
    ):
        desk.act(routes, f"{_PLACE}/{path}", act, Level.OPERATOR, back=_PLACE)


async def redrive(call: Call) -> Answer:
    """Those that were ticked."""
    _, done = await _desk(call).redrive(_queue(call), _ticked(call.form))
    return _back(call, "redriven", done)


async def discard(call: Call) -> Answer:
    """Those that were ticked, for a reason that has to be given."""
    reason = _why(call.form, Task.DISCARD)
    _, done = await _desk(call).discard(_queue(call), _ticked(call.form), reason=reason)
    return _back(call, "discarded", done)


async def preview(call: Call) -> Answer:
    """How many a job over all of a filter would take, and the button that begins it."""
    name, chosen = _queue(call), _chosen(call.form)
    task = _task(call.form)
    reason, rate = _why(call.form, task), _rate(call.form)
    counted = await call.desk.broker.jobs.count((name,), chosen)
    return call.render(
        "dead_preview.html",
        queue=name,
        chosen=chosen,
        query=dead.query_of(chosen),
        task=task,
        reason=reason,
        rate=rate,
        counted=counted,
    )


async def begin(call: Call) -> Answer:
    """Begin the job, and on to its page."""
    task = _task(call.form)
    job = await call.desk.broker.jobs.ask(
        task,
        (_queue(call),),
        _chosen(call.form),
        call.visitor.actor,
        reason=_why(call.form, task),
        rate_per_second=_rate(call.form),
    )
    return call.go(f"/jobs/{job.id}")


async def edit(call: Call) -> Answer:
    """The form with the present body in it, which is recorded as a look at it."""
    name, seq = _queue(call), dead.seq_of(call.request)
    found = await call.desk.broker.store.browse(OpenDeliveries(name, State.DEAD, seq - 1, 1))
    if not found or found[0].seq != seq:
        raise DeadLetterNotFound(f"queue {name} has no dead letter {seq}")
    letter = found[0]
    text, problem = "", ""
    if letter.body_bytes > EDITED_BYTES:
        problem = "The body is too large to be edited here: use restante dead replace."
    else:
        try:
            _, body = await look_into(call.desk.broker, letter.id, call.visitor.actor)
            text = body.decode()
        except BodyGone:
            problem = "The body is no longer kept: what you give here comes in its place."
        except UnicodeDecodeError:
            problem = (
                "The body is no UTF-8 text and not shown: what you give here comes in its place."
            )
    return _form(call, name, seq, letter.content_type, text, problem)


async def replace(call: Call) -> Answer:
    """Publish what was written in the place of the dead letter."""
    name, seq = _queue(call), dead.seq_of(call.request)
    media = call.form.text("content_type", 255)
    text = call.form.verbatim("body", 2 * EDITED_BYTES)
    # A browser sends every end of a line as CR LF (WHATWG HTML, 4.10.22.4), whatever it was.
    if not call.form.text("crlf"):
        text = text.replace("\r\n", "\n")
    try:
        await _desk(call).replace(name, seq, text.encode(), media)
    except RestanteError as error:
        return _form(call, name, seq, media, text, error.detail, error.status)
    return _back(call, "replaced", 1)


async def open_key(call: Call) -> Answer:
    """Let go what it holds up."""
    await _desk(call).open_ordering_key(_queue(call), dead.seq_of(call.request))
    return _back(call, "opened", 1)


def _form(  # what stands in the form
    call: Call, name: str, seq: int, media: str, text: str, problem: str, status: int = 200
) -> Answer:
    values = {"queue": name, "seq": seq, "media": media, "text": text, "problem": problem}
    return call.render("dead_replace.html", status, **values, crlf="\r\n" in text)


def _desk(call: Call) -> DeadLetterDesk:
    return DeadLetterDesk(call.desk.broker, call.visitor.actor)


def _queue(call: Call) -> str:
    return call.request.parameters["queue"]


def _back(call: Call, done: str, count: int) -> Answer:
    """To the page that it was done on, with the same filter."""
    name = urllib.parse.quote(_queue(call), safe="")
    chosen = dict(urllib.parse.parse_qsl(call.form.text("chosen", 16_384), keep_blank_values=True))
    kept = {field: chosen[field] for field in ("reason", "topic") if field in chosen}
    return call.go(f"/dead-letters/{name}", **kept, done=done, count=str(count))


def _ticked(form: Form) -> Selection:
    seqs = form.texts("seq")
    if not seqs:
        raise Malformed("nothing was ticked")
    if len(seqs) > dead.LETTERS or not all(
        seq.isascii() and seq.isdigit() and len(seq) <= 18 for seq in seqs
    ):
        raise Malformed("tick what is on the page")
    return Selection(seqs=tuple(dict.fromkeys(map(int, seqs))))


def _chosen(form: Form) -> Selection:
    """Of one reason and topic, or with ``all`` of any."""
    reason = form.verbatim("reason", REASON_CHARACTERS)
    return Selection(
        reason=None if form.text("any_reason") else reason, topic=form.text("topic", 128) or None
    )


def _task(form: Form) -> Task:
    try:
        return Task(form.text("task"))
    except ValueError as error:
        raise Malformed(f"task must be one of {', '.join(Task)}") from error


def _why(form: Form, task: Task) -> str:
    reason = form.text("why", REASON_CHARACTERS)
    if task is Task.DISCARD and not reason:
        raise Malformed("say why they are discarded: it stands in their receipts")
    return reason


def _rate(form: Form) -> float | None:
    text = form.text("rate", 20)
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise Malformed("the rate must be a number, by the second") from error
