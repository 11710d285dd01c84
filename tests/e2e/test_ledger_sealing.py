"""What is written is sealed though nothing comes after it, by whoever is left to do it."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from tests.e2e.conftest import Mailbox, Service
from tests.e2e.test_ledger import assert_proved, key_of, restante

pytestmark = pytest.mark.timeout(180)


def prove_newest(box: Mailbox) -> int:
    """One receipt, and nothing behind it: asked for at once, its proof comes. How large the log is then."""
    assert box.publish().status_code == 201
    receipt = box.receipts()[-1]
    answer = box.client.get(f"/v1/receipts/{receipt['id']}/proof", params={"wait": 30})
    assert answer.status_code == 200, answer.text
    proof: dict[str, Any] = answer.json()
    assert_proved(proof, receipt, key_of(box.client))
    return int(proof["checkpoint"].split("\n")[1])


def test_on_a_server_where_nothing_else_happens(own_server: Service) -> None:
    box = Mailbox(own_server)
    assert [prove_newest(box) for _ in range(3)] == [1, 2, 3]
    # Killed right behind a receipt that is not sealed yet, or is about to be.
    assert box.publish().status_code == 201
    own_server.end(signal.SIGKILL)
    own_server.start()
    assert prove_newest(box) == 5
    box.close()
    assert "looked at 5 receipts" in restante("verify", of=own_server)


def test_on_two_nodes_of_which_the_one_that_seals_is_killed(nodes: tuple[Service, Service]) -> None:
    boxes = [Mailbox(node) for node in nodes]
    size = 0
    # In the first round whichever it is may have sealed; from then on the one that is killed was alone before.
    for killed, left in ((0, 1), (1, 0), (0, 1)):
        size += 1
        assert prove_newest(boxes[killed]) == size
        # The last that it takes in is sealed by itself, or by who is left.
        size += 1
        assert boxes[killed].publish().status_code == 201
        nodes[killed].end(signal.SIGKILL)
        size += 1
        assert prove_newest(boxes[left]) == size
        nodes[killed].start()
    told = restante("verify", "--json", of=nodes[0])
    assert json.loads(told)["findings"] == []
    for box in boxes:
        box.close()
