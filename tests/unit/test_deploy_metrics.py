"""Prometheus' rules and Grafana's dashboard in ``deploy/`` ask for what a node tells."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
import yaml
from tests.unit.engine.conftest import broker, clock, store
from tests.unit.engine.house import ACME, SHOP, letter, turns

from restante.app import build_admin_api
from restante.changes import PutWebhook
from restante.config import Config
from restante.engine.settling import Settle
from restante.model import Verb
from restante.webhooks import Webhook

__all__ = ["broker", "clock", "store"]

PROJECT = Path(__file__).parents[2]
PROMETHEUS = PROJECT / "deploy" / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "restante.rules.yml").read_text())
DASHBOARD = json.loads((PROJECT / "deploy" / "grafana" / "restante.json").read_text())
GUIDE = (PROJECT / "docs" / "metrics.md").read_text()
RULE_LIST = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = DASHBOARD["panels"]
_METRIC = re.compile(r"(?<![\w:])((?:restante|process|python)_\w+)")


def metrics_in(expression: str) -> set[str]:
    return set(_METRIC.findall(expression))


@pytest.fixture
async def told(broker, clock):
    """The names of all that the exporter can tell, with every kind of thing having happened once."""
    await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (delivery,) = await session.receive(max=1)
    item = Settle(lease=session.token(delivery), verb=Verb.REJECT, reason="cannot be read")
    await (await session.settle([item])).results()
    webhook = Webhook(queue="acme", url="https://acme.example/", secrets=(), created_at_ms=0)
    await broker.store.configure([PutWebhook(webhook)])
    clock.advance(11)
    await turns(200)
    transport = httpx.ASGITransport(build_admin_api(broker))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        text = (await client.get("/metrics")).text
    # Nobody is attached, so no sample says over what: the family is named all the same.
    families = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    return families | set(re.findall(r"^(\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("rule", RULE_LIST, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_what_is_told(rule, told):
    assert metrics_in(rule["expr"]) <= told
    recorded = {one["record"] for one in RULE_LIST if "record" in one}
    assert set(re.findall(r"job:[\w:]+", rule["expr"])) <= recorded


def test_every_alert_says_what_it_is_about():
    alerts = [rule for rule in RULE_LIST if "alert" in rule]
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in alerts)
    for rule in alerts:
        assert f"`{rule['alert']}`" in GUIDE


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_is_told(panel, told):
    asked = [target["expr"] for target in panel["targets"]]
    assert asked
    for expression in asked:
        names = metrics_in(expression)
        assert names
        assert names <= told


def test_the_dashboard_takes_its_data_from_where_it_is_told():
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)


def test_the_panels_do_not_lie_upon_each_other():
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        taken |= cells


def test_the_guide_names_every_metric(told):
    families = {name for name in told if name.startswith("restante_")}
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in families}
    short = {re.sub(r"^restante_queue_(?!s_)", "restante_", name) for name in bare}
    missing = {
        name
        for name in short
        if name not in GUIDE and name.replace("restante_", "restante_queue_", 1) not in GUIDE
    }
    assert not missing
    assert metrics_in(GUIDE) - {"restante_queue_", "python_gc_", "process_"} <= told | bare


def test_prometheus_scrapes_where_the_admin_listener_is_by_default():
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scrape["static_configs"] == [{"targets": [str(Config().admin_listen)]}]
    assert scrape["job_name"] == "restante"
