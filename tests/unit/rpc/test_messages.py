"""Between protobuf's messages and the engine's values."""

from typing import Any, cast

import pytest
from tests.unit.engine.house import ACME, SHOP, letter

from restante.errors import LeaseLost, Malformed, OutOfBounds, QueueNotFound
from restante.model import Appended, Delivery, LeaseRef, Place, Settled, State, Verb
from restante.rpc import messages
from restante.wire.proto import restante_pb2 as pb


def delivery(body=b"<a/>", **fields):
    given = {
        "id": "n-1",
        "ref": LeaseRef("acme", 7, 1, 3),
        "attempt": 2,
        "topic": "orders",
        "content_type": "application/xml",
        "body": body,
        "attributes": {"region": "nörd"},
        "ordering_key": "k",
        "published_at_ms": 1_767_225_600_123,
        "lease_until_ms": 1_767_225_630_000,
    }
    return Delivery(**(given | fields))


def test_a_publication_says_all_that_the_engine_can_be_asked():
    asked = pb.Publication(
        topic="orders",
        content_type="text/plain",
        body=b"\xff",
        attributes={"a": "b"},
        idempotency_key="i",
        ordering_key="o",
        collapse_key="c",
        deliver_after_seconds=1.5,
        expires_after_seconds=0.5,
    )
    (publication,) = messages.to_publications([asked])
    assert publication.topic == "orders"
    assert (publication.body, publication.content_type) == (b"\xff", "text/plain")
    assert publication.attributes == {"a": "b"}
    assert (publication.idempotency_key, publication.ordering_key) == ("i", "o")
    assert publication.collapse_key == "c"
    assert (publication.deliver_after_seconds, publication.expires_after_seconds) == (1.5, 0.5)


def test_what_a_publication_leaves_out_has_the_defaults_of_http():
    (publication,) = messages.to_publications([pb.Publication(queue="acme")])
    assert publication == letter(b"")


def test_results_of_publishing():
    results = messages.to_publish_results(
        [
            Appended("n-1", [Place("acme", 1), Place("bob", 2)], replayed=True),
            QueueNotFound("there is no queue x here"),
            Appended("n-2", [Place(f"q-{number}", 1) for number in range(101)]),
        ]
    )
    done, refused, everywhere = results
    assert (done.id, done.queues, done.replayed) == ("n-1", 2, True)
    assert [(place.queue, place.seq) for place in done.deliveries] == [("acme", 1), ("bob", 2)]
    assert not done.HasField("problem")
    assert (refused.id, refused.problem.code, refused.problem.status) == (
        "",
        "queue_not_found",
        404,
    )
    assert (everywhere.queues, len(everywhere.deliveries)) == (101, 0)


async def test_a_notification_has_all_that_was_published_and_its_lease(broker):
    session = await broker.session("acme", ACME)
    told = messages.to_notification(session, delivery())
    assert (told.id, told.queue, told.seq, told.attempt) == ("n-1", "acme", 7, 2)
    assert (told.topic, told.content_type, told.body) == ("orders", "application/xml", b"<a/>")
    assert dict(told.attributes) == {"region": "nörd"}
    assert told.ordering_key == "k"
    assert told.published_at.ToJsonString() == "2026-01-01T00:00:00.123Z"
    assert told.lease_until.ToJsonString() == "2026-01-01T00:00:30Z"
    assert broker.ref_of(told.lease) == LeaseRef("acme", 7, 1, 3)


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([1], [1]),
        ([1_000_000] * 7, [3, 3, 1]),
        # What is too large for any response comes alone.
        ([10, 16_000_000, 10], [1, 1, 1]),
        ([16_000_000], [1]),
        ([0] * 1_000, [1_000]),
    ],
)
def test_a_response_holds_no_more_than_a_client_takes(sizes, parts):
    deliveries = [delivery(b"x" * size) for size in sizes]
    found = list(messages.in_responses(deliveries))
    assert [len(part) for part in found] == parts
    assert [one for part in found for one in part] == deliveries


def test_attributes_count_too():
    deliveries = [delivery(b"", attributes={"a": "x" * 16_000}) for _ in range(1_000)]
    parts = list(messages.in_responses(deliveries))
    for part in parts:
        assert sum(len(one.attributes["a"]) for one in part) < 4 * 1024 * 1024
    assert sum(len(part) for part in parts) == 1_000


def test_settlements_of_every_verb():
    settles = messages.to_settles(
        [
            pb.Settlement(lease="1", ack=pb.Ack(reply=b"<ok/>", reply_content_type="text/xml")),
            pb.Settlement(lease="2", ack=pb.Ack()),
            pb.Settlement(lease="3", nack=pb.Nack(reason="later", retry_after_seconds=0)),
            pb.Settlement(lease="4", nack=pb.Nack()),
            pb.Settlement(lease="5", reject=pb.Reject(reason="poison")),
            pb.Settlement(lease="6", release=pb.Release()),
            pb.Settlement(lease="7", extend=pb.Extension(lease_seconds=9)),
            pb.Settlement(lease="8", extend=pb.Extension()),
        ]
    )
    assert [one.lease for one in settles] == list("12345678")
    verbs = [Verb.ACK] * 2 + [Verb.NACK] * 2 + [Verb.REJECT, Verb.RELEASE] + [Verb.EXTEND] * 2
    assert [one.verb for one in settles] == verbs
    assert (settles[0].reply, settles[0].reply_content_type) == (b"<ok/>", "text/xml")
    assert settles[1].reply is None
    assert (settles[2].reason, settles[2].retry_after_seconds) == ("later", 0)
    assert settles[3].retry_after_seconds is None
    assert settles[4].reason == "poison"
    assert [one.lease_seconds for one in settles[6:]] == [9, None]


def test_extend_gives_all_its_leases_the_same():
    settles = messages.to_extensions(pb.ExtendRequest(leases=["1", "2"], lease_seconds=9))
    assert [(one.lease, one.verb, one.lease_seconds) for one in settles] == [
        ("1", Verb.EXTEND, 9),
        ("2", Verb.EXTEND, 9),
    ]
    for leases in ([], ["x"] * 1_001):
        with pytest.raises(OutOfBounds):
            messages.to_extensions(pb.ExtendRequest(leases=leases))


def test_a_settlement_says_something_and_a_batch_has_bounds():
    with pytest.raises(Malformed):
        messages.to_settles([pb.Settlement(lease="1")])
    for items in ([], [pb.Settlement(lease="1", ack=pb.Ack())] * 1_001):
        with pytest.raises(OutOfBounds):
            messages.to_settles(items)


async def test_results_of_settling(broker):
    for _ in range(2):
        await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    one, two = [session.token(each) for each in await session.receive()]
    asked = [
        pb.Settlement(lease=one, ack=pb.Ack()),
        pb.Settlement(lease=two, extend=pb.Extension(lease_seconds=60)),
        pb.Settlement(lease="nonsense", ack=pb.Ack()),
    ]
    settling = await broker.settle(messages.to_settles(asked), ACME)
    acked, extended, forged = messages.to_settle_results(settling, await settling.results())
    assert (acked.outcome, acked.state, acked.receipt) == ("acked", "acked", "acme~3")
    assert not acked.HasField("lease_until")
    assert (extended.outcome, extended.state, extended.receipt) == ("extended", "leased", "")
    assert extended.lease_until.ToJsonString() == "2026-01-01T00:01:00Z"
    assert (forged.outcome, forged.problem.code) == ("", "lease_not_found")


def test_a_problem_says_no_more_than_fits_in_a_trailer():
    problem = messages.to_problem(LeaseLost("ü" * 100_000))
    assert (problem.code, problem.status, len(problem.detail)) == ("lease_lost", 409, 1_000)


def test_what_is_no_message_is_malformed():
    assert messages.decode(pb.PullRequest, b"") == pb.PullRequest()
    for data in (b"\xff", b"\x0a\x05ab", b"\x0a\x01\xff"):
        with pytest.raises(Malformed, match="PullRequest"):
            messages.decode(pb.PullRequest, data)


def test_states_have_their_labels():
    settled = Settled("nacked", State.SCHEDULED, number=4)
    assert messages._to_settle_result("acme", settled) == pb.SettleResult(
        outcome="nacked", state="scheduled", receipt="acme~4"
    )


class Untouched:
    """A kind of message that nobody may begin to read."""

    @staticmethod
    def FromString(data):  # noqa: N802  # protobuf's name
        raise AssertionError("it was read")


@pytest.mark.parametrize(
    "member",
    [
        b"\x0a\x00",
        b"\x0a\x01x",
        b"\x08\x01",
        b"\x09" + bytes(8),
        b"\x0d" + bytes(4),
        b"\xa2\x06\x00",
    ],
)
def test_too_many_members_are_refused_before_any_is_read(member):
    messages.decode(pb.PublishRequest, b"\x0a\x00" * messages.MEMBERS)
    with pytest.raises(OutOfBounds):
        messages.decode(cast("Any", Untouched), member * (messages.MEMBERS + 1))


@pytest.mark.parametrize(
    "data", [b"\x0a", b"\x0a\xff", b"\x0a\x05x", b"\xff" * 20, b"\x0b", b"\x0f" * 3_000]
)
def test_what_is_cut_off_or_no_message_is_the_parser_s_to_refuse(data):
    with pytest.raises(Malformed):
        messages.decode(pb.PublishRequest, data)


def test_a_batch_is_counted_before_it_is_looked_at():
    with pytest.raises(OutOfBounds, match="number of notifications"):
        messages.to_publications([cast("Any", None)] * 1_001)
    crowded = pb.Publication(attributes={str(n): "" for n in range(messages.ATTRIBUTES + 1)})
    with pytest.raises(OutOfBounds, match="number of attributes"):
        messages.to_publications([crowded])
