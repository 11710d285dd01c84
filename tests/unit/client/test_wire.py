"""What the client sends, what it repeats, and which errors it raises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from restante import errors
from restante.client import Client, Settle, UnexpectedAnswer, Unreachable
from restante.client.http import error_of
from restante.model import Publication, Role, Verb
from restante.outcomes import Result

PUBLISHED = {"id": "n1", "deliveries": [{"queue": "acme", "seq": 1}]}
SETTLED = {"ok": True, "lease": "L", "outcome": "acked", "state": "acked", "receipt": "acme~2"}


class Server:
    """Answers from a list: an answer, or an error of the connection to raise."""

    def __init__(self, *answers: httpx.Response | type[httpx.TransportError]) -> None:
        self.answers: Iterator[httpx.Response | type[httpx.TransportError]] = iter(answers)
        self.asked: list[httpx.Request] = []

    def client(self) -> Client:
        return Client(
            "http://service.test/",
            "a-key",
            transport=httpx.MockTransport(self._handle),
            retry_delays_seconds=(0, 0),
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = next(self.answers)
        if isinstance(answer, httpx.Response):
            return answer
        raise answer("broken", request=request)


def ok(content: object, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=content, headers=headers)


def problem(code: str, status: int) -> httpx.Response:
    return ok({"code": code, "detail": code}, status)


async def test_publish_sends_the_body_as_it_is():
    server = Server(ok(PUBLISHED, 201, **{"Idempotency-Replayed": "true"}))
    async with server.client() as client:
        published = await client.publish(
            "acme",
            b"\x00\xff",
            content_type="application/xml",
            attributes={"ce-type": "order", "region": "north"},
            idempotency_key="k1",
            ordering_key="o1",
            collapse_key="c1",
            deliver_after_seconds=1.5,
            expires_after_seconds=60,
        )
    assert published.replayed
    assert published.deliveries[0].seq == 1
    (request,) = server.asked
    assert request.url == "http://service.test/v1/queues/acme/notifications"
    assert request.content == b"\x00\xff"
    for name, value in {
        "authorization": "Bearer a-key",
        "content-type": "application/xml",
        "ce-type": "order",
        "restante-attribute-region": "north",
        "idempotency-key": "k1",
        "restante-ordering-key": "o1",
        "restante-collapse-key": "c1",
        "restante-deliver-after": "1.5",
        "restante-expires-after": "60",
    }.items():
        assert request.headers[name] == value


@pytest.mark.parametrize(
    "options",
    [
        {"attributes": {"region": "nörd"}},
        {"attributes": {"dotted.name": "x"}},
        {"attributes": {"region": " blanks "}},
        {"ordering_key": '"quoted"'},
        {"idempotency_key": "ключ"},
    ],
)
async def test_what_no_header_can_carry_goes_in_an_envelope(options):
    server = Server(ok({"results": [{"ok": True, **PUBLISHED}]}))
    async with server.client() as client:
        await client.publish("acme", b"text", **options)
    (request,) = server.asked
    assert request.url.path == "/v1/notifications"
    (item,) = json.loads(request.content)["notifications"]
    assert item["queue"] == "acme"
    assert item["body"] == "text"
    assert item.items() >= options.items()


async def test_an_envelope_brings_its_error():
    result = {"ok": False, "status": 404, "code": "queue_not_found", "detail": "no acme"}
    server = Server(ok({"results": [result]}))
    async with server.client() as client:
        with pytest.raises(errors.QueueNotFound, match="no acme"):
            await client.publish("acme", b"", attributes={"a": "ö"})


AWAITED = {"id": "n1", "result": "met", "deliveries": []}
STANDS = {
    "id": "n1",
    "content_type": "text/plain",
    "body_bytes": 1,
    "body_sha256": "ab",
    "published_at": "2026-01-31T12:00:00.000Z",
    "publisher": "shop",
    "result": "pending",
    "deliveries": [{"queue": "acme", "seq": 1, "state": "leased", "attempt": 1}],
}
IN_AN_ENVELOPE = Publication(queue="acme", body=b"x", attributes={"a.b": "c"})


async def test_who_waits_says_for_how_long_and_for_what():
    server = Server(ok(AWAITED))
    async with server.client() as client:
        awaited = await client.publish_and_wait(
            Publication(topic="orders", body=b"x"), wait_seconds=60, require=2
        )
    assert (awaited.id, awaited.result) == ("n1", Result.MET)
    (request,) = server.asked
    assert (request.headers["prefer"], request.headers["restante-require"]) == ("wait=60", "2")


async def test_a_delivery_of_which_nothing_could_be_learned_has_no_state():
    pending = AWAITED | {"result": "pending", "deliveries": [{"queue": "acme", "seq": 1}]}
    async with Server(ok(pending, 202)).client() as client:
        awaited = await client.publish_and_wait(Publication(queue="acme", body=b"x"))
    (delivery,) = awaited.deliveries
    assert (delivery.queue, delivery.state, delivery.attempt) == ("acme", None, None)


@pytest.mark.parametrize("publication", [IN_AN_ENVELOPE, Publication(queue="acme", body=b"x")])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"wait_seconds": 61}, errors.OutOfBounds),
        ({"wait_seconds": -1}, errors.OutOfBounds),
        ({"wait_seconds": float("nan")}, errors.OutOfBounds),
        ({"wait_seconds": 1.5}, ValueError),
        ({"require": "most"}, errors.Malformed),
        ({"require": 0}, errors.Malformed),
        ({"require": 2}, errors.InvalidHeader),
    ],
)
async def test_what_cannot_be_waited_for_is_not_published(publication, options, error):
    server = Server()
    async with server.client() as client:
        with pytest.raises(error):
            await client.publish_and_wait(publication, **options)
    assert server.asked == []


async def test_where_there_is_no_place_to_wait_it_is_told_how_it_stands():
    """It goes in an envelope, which is published before it is waited for."""
    server = Server(
        ok({"results": [{"ok": True, **PUBLISHED}]}), problem("too_many_waiters", 429), ok(STANDS)
    )
    async with server.client() as client:
        awaited = await client.publish_and_wait(IN_AN_ENVELOPE, wait_seconds=30, require="any")
    assert (awaited.id, awaited.result) == ("n1", Result.PENDING)
    assert [(one.state, one.attempt) for one in awaited.deliveries] == [("leased", 1)]
    waits = [dict(request.url.params) for request in server.asked[1:]]
    assert waits == [{"wait": "30", "require": "any"}, {"wait": "0", "require": "any"}]


@pytest.mark.parametrize(
    "answers",
    [
        [problem("store_unavailable", 503)],
        [problem("too_many_waiters", 429), problem("store_unavailable", 503)],
        [problem("too_many_waiters", 429), problem("too_many_requests", 429)],
        [httpx.ReadError, httpx.ConnectError, httpx.ConnectError],
        [httpx.Response(502, text="from a proxy")],
    ],
)
async def test_what_is_published_is_told_whatever_becomes_of_the_question(answers):
    server = Server(ok({"results": [{"ok": True, **PUBLISHED}]}), *answers)
    async with server.client() as client:
        awaited = await client.publish_and_wait(IN_AN_ENVELOPE, wait_seconds=30)
    assert (awaited.id, awaited.result) == ("n1", Result.PENDING)
    assert [(one.queue, one.seq, one.state) for one in awaited.deliveries] == [("acme", 1, None)]
    assert len(server.asked) == 1 + len(answers)


async def test_a_batch_has_a_result_for_each():
    results = [
        {"ok": True, **PUBLISHED},
        {"ok": False, "status": 507, "code": "store_full", "detail": "full"},
        {"ok": False, "status": 418, "code": "teapot", "detail": "short and stout"},
    ]
    server = Server(ok({"results": results}))
    async with server.client() as client:
        one, two, three = await client.publish_batch(
            [
                Publication(queue="acme", body=b"\xff", deliver_after_seconds=2),
                Publication(topic="t", body=b""),
                Publication(queue="b", body=b"x"),
            ]
        )
    items = json.loads(server.asked[0].content)["notifications"]
    assert items[0]["body_base64"] == "/w=="
    assert items[0]["deliver_after_seconds"] == 2
    assert items[1] == {
        "topic": "t",
        "body": "",
        "content_type": "application/octet-stream",
    }
    assert not isinstance(one, errors.RestanteError)
    assert isinstance(two, errors.StoreFull)
    assert isinstance(three, UnexpectedAnswer)


async def test_receive_settles_on_the_way():
    notification = {
        "id": "n1",
        "queue": "acme",
        "seq": 1,
        "lease": "L2",
        "attempt": 1,
        "content_type": "application/xml",
        "body_base64": "//4=",
        "published_at": "2026-01-31T12:00:00.000Z",
        "lease_until": "2026-01-31T12:00:30.000Z",
        "a_member_of_a_newer_server": 1,
    }
    server = Server(ok({"notifications": [notification], "settled": [SETTLED]}))
    async with server.client() as client:
        received = await client.receive(
            "acme",
            max=3,
            wait=5,
            lease=60,
            settle=[
                Settle(lease="L", reply=b"<ok/>", reply_content_type="application/xml"),
                Settle(lease="M", verb=Verb.NACK, reason="later", retry_after_seconds=9),
                Settle(lease="N", verb=Verb.EXTEND, lease_seconds=90),
            ],
        )
    assert received.notifications[0].content == b"\xff\xfe"
    assert received.settled[0].receipt == "acme~2"
    (request,) = server.asked
    assert json.loads(request.content) == {
        "max": 3,
        "wait": 5,
        "lease": 60,
        "settle": [
            {
                "lease": "L",
                "outcome": "ack",
                "reply": "<ok/>",
                "reply_content_type": "application/xml",
            },
            {"lease": "M", "outcome": "nack", "reason": "later", "retry_after": 9},
            {"lease": "N", "outcome": "extend", "lease_seconds": 90},
        ],
    }


async def test_a_long_poll_may_take_its_time():
    server = Server(ok({"notifications": []}))
    async with server.client() as client:
        await client.receive("acme", wait=60)
    timeout = server.asked[0].extensions["timeout"]
    assert timeout["read"] > 60
    assert timeout["connect"] == 30


async def test_names_and_tokens_stay_one_segment():
    server = Server(ok(SETTLED), ok(SETTLED))
    async with server.client() as client:
        await client.ack("../../v1/keys?x#y", b"reply")
    assert server.asked[0].url.raw_path == b"/v1/leases/..%2F..%2Fv1%2Fkeys%3Fx%23y/ack"


# -- what is repeated ---------------------------------------------------------------------------

Call = Callable[[Client], object]
REPEATED: dict[str, tuple[Call, object]] = {
    "get": (lambda c: c.queues(), {"queues": [], "next": None}),
    "put": (lambda c: c.put_queue("a"), {"name": "a", "owner": "a", "settings": {}}),
    "publish with a key": (lambda c: c.publish("a", b"", idempotency_key="k"), PUBLISHED),
    "a batch with a key": (
        lambda c: c.publish_batch([Publication(queue="a", body=b"")], idempotency_key="k"),
        {"results": [{"ok": True, **PUBLISHED}]},
    ),
    "ack": (lambda c: c.ack("L"), SETTLED),
    "nack": (lambda c: c.nack("L"), SETTLED),
    "settle": (lambda c: c.settle("a", [Settle(lease="L")]), {"settled": [SETTLED]}),
}
NOT_REPEATED: dict[str, Call] = {
    "publish without a key": lambda c: c.publish("a", b""),
    "a batch not all with keys": lambda c: c.publish_batch(
        [
            Publication(queue="a", body=b"", idempotency_key="k"),
            Publication(queue="a", body=b""),
        ]
    ),
    "receive": lambda c: c.receive("a"),
    "add_client": lambda c: c.add_client("a"),
    "add_key": lambda c: c.add_key(Role.CLIENT, "a"),
    "add_certificate": lambda c: c.add_certificate(Role.CLIENT, "a", "dns:a"),
    "redrive": lambda c: c.redrive("a"),
    "revoke_key": lambda c: c.revoke_key("k"),
}


@pytest.mark.parametrize("name", REPEATED)
async def test_a_lost_answer_is_asked_for_again(name):
    call, answer = REPEATED[name]
    server = Server(httpx.ReadError, httpx.RemoteProtocolError, ok(answer))
    async with server.client() as client:
        await call(client)  # type: ignore[misc]
    assert len(server.asked) == 3
    assert len({request.content for request in server.asked}) == 1


@pytest.mark.parametrize("name", NOT_REPEATED)
async def test_a_lost_answer_is_an_unknown_outcome(name):
    server = Server(httpx.ReadError)
    async with server.client() as client:
        with pytest.raises(errors.OutcomeUnknown, match="lost before the answer"):
            await NOT_REPEATED[name](client)  # type: ignore[misc]
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", NOT_REPEATED)
async def test_no_connection_is_tried_again_for_everything(name):
    server = Server(httpx.ConnectError, httpx.ConnectTimeout, httpx.ConnectError)
    async with server.client() as client:
        with pytest.raises(Unreachable, match=r"no connection to http://service\.test"):
            await NOT_REPEATED[name](client)  # type: ignore[misc]
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [401, 409, 500, 503, 507])
async def test_no_answer_is_retried(status):
    server = Server(ok({"code": "store_unavailable", "detail": "x"}, status))
    async with server.client() as client:
        with pytest.raises(errors.StoreUnavailable):
            await client.queues()
    assert len(server.asked) == 1


# -- errors -------------------------------------------------------------------------------------


def tree(kind: type[errors.RestanteError]) -> Iterator[type[errors.RestanteError]]:
    yield kind
    # Of the tree in errors.py alone: a program's own errors never cross the wire.
    for below in [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]:
        yield from tree(below)


@pytest.mark.parametrize("kind", list(tree(errors.RestanteError)))
def test_every_code_comes_back_as_its_error(kind):
    error = error_of(kind.code, "what happened")
    assert type(error) is kind
    assert error is not None
    assert error.detail == "what happened"
    assert str(error) == "what happened"


async def test_bounds_and_methods_come_back():
    bounds = {"name": "max", "minimum": 1, "maximum": 1000}
    server = Server(
        ok({"code": "out_of_bounds", "detail": "max", "bounds": bounds}, 422),
        ok({"code": "method_not_allowed", "detail": "no"}, 405, Allow="GET, PUT"),
    )
    async with server.client() as client:
        with pytest.raises(errors.OutOfBounds) as out:
            await client.queues()
        with pytest.raises(errors.MethodNotAllowed) as method:
            await client.queues()
    assert out.value.bounds == bounds
    assert method.value.allowed == ("GET", "PUT")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502, text="<html>Bad gateway</html>"),
        httpx.Response(500, json={"title": "no code"}),
        httpx.Response(418, json={"code": "teapot", "detail": "short"}),
        httpx.Response(302, headers={"Location": "http://elsewhere.test/"}),
        httpx.Response(200, text="hello"),
        httpx.Response(200, json={"queues": 7}),
    ],
)
async def test_what_is_not_ours_is_unexpected(answer):
    server = Server(answer)
    async with server.client() as client:
        with pytest.raises(UnexpectedAnswer) as unexpected:
            await client.queues()
    assert unexpected.value.answered == answer.status_code
    assert len(server.asked) == 1
