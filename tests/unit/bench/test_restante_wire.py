"""Leases and settled results are found by search; bodies that look like answers do not mislead."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
import pytest

from restante.bench.restante_wire import (
    ReceiveRequests,
    UnexpectedAnswer,
    all_settled,
    batch_request,
    find_leases,
    first_lease,
    xml_body,
)

HOSTILE = '"lease":"no","settled":[{"ok":false}],"notifications":[]'


def answer(leases: list[str], settled: list[bool]) -> bytes:
    return msgspec.json.encode(
        {
            "notifications": [{"id": "n", "lease": lease, "body": HOSTILE} for lease in leases],
            "settled": [{"ok": ok, "lease": "old"} for ok in settled],
        }
    )


def test_leases_of_notifications_only():
    assert find_leases(answer(["a", "b"], [True])) == [b"a", b"b"]
    assert first_lease(answer(["a", "b"], [True])) == b"a"


def test_an_empty_answer_has_no_lease():
    assert find_leases(answer([], [True])) == []
    assert first_lease(answer([], [True])) is None


def test_settled_may_be_left_out():
    assert find_leases(b'{"notifications":[{"lease":"a"}]}') == [b"a"]
    assert all_settled(b'{"notifications":[{"lease":"a"}]}', 0)
    assert not all_settled(b'{"notifications":[]}', 1)


@pytest.mark.parametrize("found", [find_leases, first_lease])
def test_another_answer_is_refused(found):
    with pytest.raises(UnexpectedAnswer):
        found(b'{"title":"Forbidden"}')


@pytest.mark.parametrize(
    ("settled", "count", "well"),
    [([], 0, True), ([True], 1, True), ([True], 2, False), ([True, False], 2, False)],
)
def test_settles_are_counted(settled: list[bool], count: int, well: bool):
    assert all_settled(answer(["a"], settled), count) is well


def test_receive_requests_ack_what_came_before():
    requests = ReceiveRequests("q", key="k", max=2, wait_seconds=20)
    assert msgspec.json.decode(requests.plain.partition(b"\r\n\r\n")[2]) == {"max": 2, "wait": 20}
    one, two = requests.acking(b"a"), requests.acking_all([b"a", b"b"])
    assert one == requests.acking_all([b"a"])
    assert msgspec.json.decode(two.partition(b"\r\n\r\n")[2]) == {
        "max": 2,
        "wait": 20,
        "settle": [{"lease": "a", "outcome": "ack"}, {"lease": "b", "outcome": "ack"}],
    }


@pytest.mark.parametrize("size", [200, 1024, 1_048_576])
def test_a_body_is_xml_of_exactly_its_size(size: int):
    body = xml_body(size)
    assert len(body) == size
    ElementTree.fromstring(body)


def test_a_tiny_body_is_only_its_size():
    assert len(xml_body(10)) == 10


def test_a_batch_names_its_queues():
    request = batch_request(["a", "b", "a"], b"<a/>", key="k")
    sent = msgspec.json.decode(request.partition(b"\r\n\r\n")[2])
    assert [item["queue"] for item in sent["notifications"]] == ["a", "b", "a"]
    assert {item["body"] for item in sent["notifications"]} == {"<a/>"}
