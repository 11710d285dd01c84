"""Debian's Prometheus with the rules that are shipped, and a node that it scrapes."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.conftest import Mailbox, Service

from restante.bench.processes import free_port
from restante.testing.servers.prometheus import PrometheusServer

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
WAIT_SECONDS = 60.0
pytestmark = pytest.mark.timeout(180)


class Watch:
    """What Prometheus has to say."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=30)

    def close(self) -> None:
        self._http.close()

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(path, params=parameters)
        # While it starts it answers 503.
        return answer.json()["data"] if answer.status_code == 200 else None

    def firing(self) -> set[str]:
        told = self.ask("/alerts") or {"alerts": []}
        return {a["labels"]["alertname"] for a in told["alerts"] if a["state"] == "firing"}

    def value(self, query: str) -> float | None:
        told = self.ask("/query", query=query)
        return float(told["result"][0]["value"][1]) if told and told["result"] else None


DEPLOYED = Path(__file__).parents[2] / "deploy" / "prometheus"


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not come about"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    # The same address after a restart, where Prometheus looks for it.
    address = f"127.0.0.1:{free_port()}"
    service = Service(tmp_path_factory.mktemp("watched") / "data", "--admin-listen", address)
    service.start()
    yield service
    service.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def watch(node: Service) -> Iterator[Watch]:
    config = (DEPLOY / "prometheus.yml").read_text()
    rules = (DEPLOY / "restante.rules.yml").read_text()
    quick = config.replace("15s", "1s").replace(
        "127.0.0.1:7071", node.admin_url.removeprefix("http://")
    )
    files = {
        "prometheus.yml": quick,
        "restante.rules.yml": re.sub(r"for: \d+[ms]", "for: 1s", rules),
    }
    assert quick != config
    assert files["restante.rules.yml"] != rules
    with PrometheusServer(files) as server:
        watch = Watch(server.url)
        yield watch
        watch.close()


@pytest.fixture
def mailbox(node: Service) -> Iterator[Mailbox]:
    made = Mailbox(node)
    yield made
    made.close()


def test_the_target_is_up(watch: Watch) -> None:
    def health() -> set[str]:
        told = watch.ask("/targets") or {"activeTargets": []}
        return {target["health"] for target in told["activeTargets"]}

    until(lambda: health() == {"up"})
    until(lambda: watch.value("restante_ready") == 1)
    rules = [rule for group in watch.ask("/rules")["groups"] for rule in group["rules"]]
    assert rules
    until(lambda: watch.value("count(restante_build_info)") == 1)


def test_dead_letters_are_told_of(watch: Watch, mailbox: Mailbox) -> None:
    until(lambda: watch.value("restante_ready") == 1)
    assert "RestanteDeadLetters" not in watch.firing()
    queue = f"/v1/queues/{mailbox.name}"
    assert mailbox.admin.post(f"{queue}/notifications", content=b"<broken").status_code == 201
    lease = mailbox.client.post(f"{queue}/next").headers["restante-lease"]
    assert mailbox.client.post(f"/v1/leases/{lease}/reject", json={"reason": "broken"}).is_success
    until(lambda: "RestanteDeadLetters" in watch.firing())
    assert watch.value('max(restante_deliveries{state="dead"})') == 1
    assert watch.value('restante_failures_total{reason="broken"}') == 1
    assert mailbox.admin.post(f"{queue}/dead/discard", json={"all": True, "reason": "-"}).is_success
    until(lambda: "RestanteDeadLetters" not in watch.firing())


def test_a_client_that_falls_silent_is_told_of(watch: Watch, mailbox: Mailbox) -> None:
    queue = f"/v1/queues/{mailbox.name}"
    mailbox.settings(silence_limit_seconds=1)
    assert mailbox.client.post(f"{queue}/next?wait=0").status_code == 204
    until(lambda: "RestanteClientSilent" in watch.firing())


def test_a_backlog_is_told_of_by_its_depth_and_by_its_age(watch: Watch, mailbox: Mailbox) -> None:
    until(lambda: watch.value("restante_ready") == 1)
    mailbox.settings(depth_limit=2, oldest_age_limit_seconds=1)
    for _ in range(2):
        mailbox.publish()
    until(lambda: {"RestanteBacklogDeep", "RestanteBacklogOld"} <= watch.firing())
    for one in mailbox.receive(max=2):
        mailbox.settle(one["lease"], "ack")
    until(lambda: not {"RestanteBacklogDeep", "RestanteBacklogOld"} & watch.firing())


def test_attempts_that_fail_are_told_of(watch: Watch, mailbox: Mailbox) -> None:
    until(lambda: watch.value("restante_ready") == 1)
    mailbox.settings(max_attempts=1_000, backoff_base_seconds=0)
    mailbox.publish()

    def fails() -> bool:
        for one in mailbox.receive():
            mailbox.settle(one["lease"], "nack", reason="HTTP 500")
        return {"RestanteErrorRateHigh", "RestanteQueueErrorRateHigh"} <= watch.firing()

    until(fails)
    for one in mailbox.receive(wait=5):
        mailbox.settle(one["lease"], "ack")


def test_a_webhook_that_is_off_is_told_of(watch: Watch, mailbox: Mailbox) -> None:
    until(lambda: watch.value("restante_ready") == 1)
    hook = f"/v1/queues/{mailbox.name}/webhook"
    assert mailbox.client.put(hook, json={"url": "https://127.0.0.1:1024/"}).status_code == 201
    assert mailbox.client.post(f"{hook}/disable").is_success
    until(lambda: "RestanteWebhookDisabled" in watch.firing())
    assert mailbox.client.delete(hook).is_success
    until(lambda: "RestanteWebhookDisabled" not in watch.firing())


def test_a_log_that_cannot_be_written_is_told_of(
    watch: Watch, node: Service, mailbox: Mailbox
) -> None:
    until(lambda: watch.value("restante_ready") == 1)
    refusing = (
        "CREATE TRIGGER refusing BEFORE INSERT ON seals BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    restarted(node, refusing)
    mailbox.publish()
    until(lambda: "RestanteLogFailing" in watch.firing())
    assert watch.value("restante_log_failing") == 1
    until(lambda: watch.value("restante_log_unsealed_receipts >= 1"))
    assert (watch.value("restante_log_unsealed_age_seconds") or 0) > 0
    restarted(node, "DROP TRIGGER refusing")
    until(lambda: "RestanteLogFailing" not in watch.firing())
    until(lambda: watch.value("restante_log_unsealed_receipts") == 0)


def restarted(node: Service, statement: str) -> None:
    """With something done to its store meanwhile."""
    assert node.end(signal.SIGTERM) == 0
    with closing(sqlite3.connect(node.data / "restante.db")) as store:
        store.execute(statement)
        store.commit()
    node.start()


def test_a_node_that_is_gone_is_told_of(watch: Watch, node: Service) -> None:
    until(lambda: watch.value("restante_ready") == 1)
    node.end(signal.SIGTERM)
    until(lambda: "RestanteNodeDown" in watch.firing())
    node.start()
    until(lambda: "RestanteNodeDown" not in watch.firing())


@pytest.mark.parametrize(
    ("what", "file"), [("config", "prometheus.yml"), ("rules", "restante.rules.yml")]
)
def test_prometheus_takes_the_files(what: str, file: str) -> None:
    done = subprocess.run(
        ["promtool", "check", what, DEPLOYED / file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
