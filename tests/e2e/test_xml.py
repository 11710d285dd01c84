"""The whole interface in XML: the same as in JSON, for a client that speaks nothing else."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import httpx
import msgspec
import pytest
from lxml import etree
from tests.e2e.conftest import Mailbox

from restante.model import Receipt
from restante.wire import messages, xml
from restante.wire.group_messages import GroupOut
from restante.wire.job_messages import JobOut, Task

T = TypeVar("T")

XML: Final = {"accept": "application/xml"}
SENT: Final = {**XML, "content-type": "application/xml"}
AWKWARD: Final = ["", " ", "a\r\nb\r", "]]>", '<&">', "é😀", "\tx\n", "\0", "\ufffe"]


def ask(caller: httpx.Client, path: str, value: object, type: type[T], status: int = 200) -> T:
    """A request in XML, and its answer in XML as a message."""
    answer = caller.post(path, content=xml.encode(value, "request"), headers=SENT)
    return read(answer, type, status)


def read(answer: httpx.Response, type: type[T], status: int = 200) -> T:
    assert answer.status_code == status, answer.text
    kind = "application/xml" if status < 400 else "application/problem+xml"
    assert answer.headers["content-type"] == kind
    return xml.decode(answer.content, type)


def find(root: Any, path: str) -> list[Any]:
    """By another parser than ours, with the namespace spelt out."""
    found: list[Any] = root.xpath(path, namespaces={"r": xml.NAMESPACE, "p": xml.PROBLEM_NAMESPACE})
    return found


class TestWay:
    def test_publish_collect_settle_and_prove(self, mailbox: Mailbox) -> None:
        asked = {
            "notifications": [
                {"queue": mailbox.name, "body": body, "attributes": {"n": str(n)}}
                for n, body in enumerate(AWKWARD)
            ]
        }
        published = ask(mailbox.publisher, "/v1/notifications", asked, messages.PublishedBatch)
        assert [result.ok for result in published.results] == [True] * len(AWKWARD)

        path = f"/v1/queues/{mailbox.name}/receive"
        received = ask(mailbox.client, path, {"max": 100, "wait": 0}, messages.Received)
        bodies = [messages.bytes_of("body", n.body, n.body_base64) for n in received.notifications]
        assert bodies == [body.encode() for body in AWKWARD]
        assert [n.attributes["n"] for n in received.notifications] == list(map(str, range(9)))

        settle: list[dict[str, object]] = [
            {"lease": n.lease, "outcome": "ack", "reply": body}
            for n, body in zip(received.notifications, AWKWARD, strict=True)
        ]
        settle.append({"lease": "forged", "outcome": "ack"})
        signing = {"max": 1, "wait": 0, "settle": settle}
        settled = ask(mailbox.client, path, signing, messages.Received).settled or []
        assert [item.state for item in settled] == ["acked"] * len(AWKWARD) + [None]
        assert settled[-1].code == "lease_not_found"

        for item, body in zip(settled, AWKWARD, strict=False):
            answer = mailbox.client.get(f"/v1/receipts/{item.receipt}", headers=XML)
            receipt = read(answer, Receipt)
            assert (receipt.reply or "") == body
            assert receipt.principal == mailbox.name

    @pytest.mark.parametrize(
        ("verb", "asked", "state"),
        [
            ("nack", {"reason": "busy\r\n", "retry_after": 0.5}, "scheduled"),
            ("reject", {"reason": "<bad/>"}, "dead"),
            ("release", {}, "ready"),
            ("extend", {"lease": 90.5}, "leased"),
        ],
    )
    def test_each_verb(self, mailbox: Mailbox, verb: str, asked: object, state: str) -> None:
        mailbox.publish()
        (delivery,) = mailbox.receive()
        path = f"/v1/leases/{delivery['lease']}/{verb}"
        assert ask(mailbox.client, path, asked, messages.SettledItem).state == state

    def test_administering(self, mailbox: Mailbox) -> None:
        admin, name = mailbox.admin, f"{mailbox.name}-xml"
        made = ask(admin, "/v1/clients", {"name": name}, messages.ClientMade, 201)
        key = {"role": "client", "name": name, "label": "second", "expires_after_seconds": 60}
        assert ask(admin, "/v1/keys", key, messages.KeyMade, 201).expires_at is not None
        conditions = {"region": ["eu", "uk"], "kind": "order"}
        subscription = {"pattern": f"{name}.#", "queue": made.queue, "filter": conditions}
        subscribed = ask(admin, "/v1/subscriptions", subscription, messages.SubscriptionOut, 201)
        assert subscribed.filter == {"region": ["eu", "uk"], "kind": ["order"]}

        queue = xml.encode({"max_attempts": 1, "after_dead": "park"}, "queue")
        answer = admin.put(f"/v1/queues/{name}", content=queue, headers=SENT)
        assert read(answer, messages.QueueOut).settings.after_dead == "park"

    def test_a_job_over_a_queue(self, mailbox: Mailbox) -> None:
        asked = {"task": "redrive", "queues": [mailbox.name], "filter": {"reason": "none such"}}
        job = ask(mailbox.admin, "/v1/jobs", asked, JobOut, 202)
        assert (job.task, job.queues, job.total) == (Task.REDRIVE, [mailbox.name], 0)
        assert job.filter.reason == "none such"

    def test_a_group(self, mailbox: Mailbox) -> None:
        member = {"queue": mailbox.name, "body": "<a/>", "compensation": {"body": "<b/>"}}
        asked = {"timeout_seconds": 60, "members": [member]}
        group = ask(mailbox.publisher, "/v1/groups", asked, GroupOut, 202)
        assert (group.state, group.members[0].queue) == ("pending", mailbox.name)
        (delivery,) = mailbox.receive(wait=20)
        assert (delivery["body"], delivery["attributes"]) == ("<a/>", {"group": group.id})

    def test_dead_letters_by_a_filter(self, mailbox: Mailbox) -> None:
        for reason in ("one", "two", "two"):
            mailbox.publish()
            (delivery,) = mailbox.receive()
            mailbox.settle(delivery["lease"], "reject", reason=reason)
        path = f"/v1/queues/{mailbox.name}/dead"
        for action, asked, done in [
            ("redrive", {"filter": {"reason": "two"}, "preview": True}, (2, 0)),
            ("redrive", {"seqs": [1, 2]}, (2, 2)),
            ("discard", {"all": True, "reason": "old"}, (1, 1)),
        ]:
            result = ask(mailbox.admin, f"{path}/{action}", asked, messages.BulkDone)
            assert (result.matched, result.done) == done


class TestSameness:
    def test_every_page_says_the_same_in_both(self, mailbox: Mailbox) -> None:
        mailbox.settings(max_attempts=1)
        first = mailbox.publish(ce_type="x", restante_attribute_region="<eu>")
        (delivery,) = mailbox.receive()
        mailbox.settle(delivery["lease"], "nack", reason="no\x1bpe")
        mailbox.publish(b"\xff\0")
        mailbox.receive()
        queue = f"/v1/queues/{mailbox.name}"
        pages: dict[str, Any] = {
            f"/v1/notifications/{first.json()['id']}": messages.NotificationStatus,
            queue: messages.QueueWithFigures,
            f"/v1/queues?limit=1&after={mailbox.name}": messages.QueuePage,
            f"{queue}/dead": dict[str, Any],
            f"{queue}/receipts": dict[str, Any],
            f"{queue}/receipts?limit=1": dict[str, Any],
            f"/v1/receipts/{mailbox.name}~1": Receipt,
            f"/v1/clients/{mailbox.name}": messages.ClientOut,
            "/v1/clients?limit=2": messages.ClientPage,
            "/v1/keys?limit=2": messages.KeyPage,
            "/v1/subscriptions": messages.SubscriptionList,
            "/v1/nodes": messages.NodeList,
        }
        for path, type in pages.items():
            in_json = msgspec.to_builtins(mailbox.admin.get(path).json())
            answer = mailbox.admin.get(path, headers=XML)
            in_xml = msgspec.to_builtins(read(answer, type))
            for figures in (in_json.get("figures"), in_xml.get("figures")):
                if figures is not None:
                    figures["oldest_age_seconds"] = 0  # it went on between the two
            if type == dict[str, Any]:
                assert in_xml == _as_text(in_json), path
            else:
                expected = msgspec.convert(in_json, type)
                assert in_xml == msgspec.to_builtins(expected), path


def _as_text(value: Any) -> Any:
    """As XML has it where no type says what is a number: all text, and nothing that is null or empty."""
    if isinstance(value, dict):
        return {name: _as_text(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


class TestForOtherParsers:
    def test_the_answer_is_in_the_namespace(self, mailbox: Mailbox) -> None:
        mailbox.publish(b"<order/>", ce_type="a&b")
        path = f"/v1/queues/{mailbox.name}/receive"
        answer = mailbox.client.post(path, headers=XML)
        root = etree.fromstring(answer.content)
        assert find(root, "/r:received/r:notifications/r:item/r:body/text()") == ["<order/>"]
        assert find(root, "//r:attributes/r:entry[@name='ce-type']/text()") == ["a&b"]

    def test_problems_are_in_theirs(self, mailbox: Mailbox) -> None:
        answer = mailbox.client.get("/v1/queues/nowhere", headers=XML)
        root = etree.fromstring(answer.content)
        assert find(root, "/p:problem/p:code/text()") == ["queue_not_found"]
        asked = xml.encode({"wait": 61}, "receive")
        path = f"/v1/queues/{mailbox.name}/receive"
        root = etree.fromstring(mailbox.client.post(path, content=asked, headers=SENT).content)
        assert find(root, "//p:bounds/p:maximum/text()") == ["60"]


class TestRefusals:
    @pytest.mark.parametrize(
        "document",
        [
            "<receive>",
            "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><receive><max>&e;</max></receive>",
            "<receive><max>many</max></receive>",
            "<receive><maximum>1</maximum></receive>",
            "<?go away?><receive/>",
        ],
    )
    def test_says_where(self, mailbox: Mailbox, document: str) -> None:
        path = f"/v1/queues/{mailbox.name}/receive"
        answer = mailbox.client.post(path, content=document, headers=SENT)
        problem = read(answer, messages.Problem, 400)
        assert problem.code == "malformed"
        assert problem.detail.startswith("XML, line 1, column ")

    @pytest.mark.parametrize("name", [".", "..", "a b", "é", ""])
    def test_names_that_no_path_could_carry(self, mailbox: Mailbox, name: str) -> None:
        problem = ask(mailbox.admin, "/v1/clients", {"name": name}, messages.Problem, 422)
        assert problem.code == "invalid_name"

    def test_a_filter_by_what_no_attribute_is_called(self, mailbox: Mailbox) -> None:
        asked = {"pattern": "a", "queue": mailbox.name, "filter": {"Not a name": "x"}}
        problem = ask(mailbox.admin, "/v1/subscriptions", asked, messages.Problem, 422)
        assert problem.code == "invalid_header"
