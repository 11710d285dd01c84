"""The specification handed to vendors is true: requests made up from it get the answers it promises."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core import NotSet
from schemathesis.core.parameters import ParameterLocation
from tests.e2e.conftest import ADMIN_KEY, Service

import restante.web
from restante import errors
from restante.app import build_api
from restante.certificates import SAN_CHARACTERS, SAN_PATTERN
from restante.client import Signer
from restante.model import NAME, SETTING_BOUNDS, Figures, Outcome, Settings, State
from restante.portal.composition import ROOT as PORTAL
from restante.webhooks import BOUNDS, Webhook
from restante.wire import (
    alert_messages,
    group_messages,
    job_messages,
    messages,
    operation_messages,
    operator_messages,
    request_messages,
    signing_messages,
    watching,
    webhook_messages,
)

SPECIFICATION: Final = Path(restante.web.__file__).with_name("openapi.yaml")
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(SPECIFICATION.read_text())
SCHEMAS: Final[dict[str, Any]] = DOCUMENT["components"]["schemas"]
METHODS: Final = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})
QUEUE: Final = "acme"
# Schemathesis does not follow the schema's XML names into a oneOf: test_xml.py has these.
XML_BY_HAND: Final = frozenset({"redrive", "discard", "subscribe", "askJob", "publishGroup"})
# Their bodies are payloads, and no payload is wrong.
RAW: Final = frozenset({"replaceDead", "publish", "publishToTopic", "ack"})
NUMBERS: Final = itertools.count()
# In this very case: the check that calls without a key takes the header away by its name.
AUTHORIZED: Final = {"Authorization": f"Bearer {ADMIN_KEY}"}
# These answer 200 for a batch in which everything was refused, each with its own status.
PER_ITEM: Final = frozenset({"publishBatch", "settle", "receive"})

load_all_checks()
schema = schemathesis.openapi.from_dict(DOCUMENT)
schema.config.seed = 1
schema.config.generation.update(deterministic=True, allow_extra_parameters=False)


@schema.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Half of all calls go to a queue that exists; one that does not is found out soon enough."""
    name = path_parameters.get("queue") if isinstance(path_parameters, dict) else None
    if isinstance(name, str) and NAME.fullmatch(name) and len(name) % 2:
        path_parameters["queue"] = QUEUE
    return path_parameters


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server of its own: what is made up here would be in the others' way."""
    service = Service(tmp_path_factory.mktemp("openapi") / "data")
    service.start()
    with service.caller() as admin:
        assert admin.post("/v1/clients", json={"name": QUEUE}).status_code == 201
        path = f"/v1/queues/{QUEUE}/notifications"
        for number in range(20):
            answer = admin.post(path, content=b"\xff%d" % number, headers={"ce-type": "test"})
            assert answer.status_code == 201
    yield service
    assert service.end(signal.SIGTERM) == 0, service.log()
    assert "Traceback" not in service.log()


# A stream of events has no end to wait for: test_events.py, test_watching.py, test_operations.py have them.
@schema.exclude(operation_id=["events", "watchOverview", "operationEvents"]).parametrize()
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_promised(case: schemathesis.Case, service: Service) -> None:
    _prepare(case)
    operation = case.operation.definition.raw["operationId"]
    per_item = operation in PER_ITEM
    in_xml = "xml" in (case.media_type or "")
    excluded: list[Any] = []
    # In XML the number 0 is the text "0": what violates the schema in JSON need not do so there.
    wrong = _wrong_parts(case)
    # Schemathesis makes a case wrong by leaving out what may be left out, and says so by naming no part.
    if (
        per_item
        or in_xml
        or not wrong
        or (wrong == {ParameterLocation.BODY} and (operation in RAW or _body_is_left_out(case)))
    ):
        excluded.append(CHECKS.get_one("negative_data_rejection"))
    # What was tried as the queue's settings a moment ago may let no body in (413). Which sizes of a log there are, and
    # what is a cursor of its export, no schema says.
    if operation in {"replaceDead", "getLedgerConsistency", "exportLedger"} or (
        operation in XML_BY_HAND and in_xml
    ):
        excluded.append(CHECKS.get_one("positive_data_acceptance"))
    case.call_and_validate(
        base_url=service.url, headers=AUTHORIZED, timeout=20, excluded_checks=excluded
    )


def _prepare(case: schemathesis.Case) -> None:
    """Nobody publishes meanwhile, so every wait would be to its end. One out of bounds is left alone."""
    operation = case.operation.definition.raw["operationId"]
    case.body = _without_fractions(case.body)
    if operation == "putWebhook" and _body_is_right(case) and isinstance(case.body, dict):
        # What a URL and a header may be is more than a pattern says. Nobody listens at this one.
        case.body["url"] = "https://127.0.0.1:1024/inbox"
        if case.body.get("headers"):
            case.body["headers"] = {"x-tenant": "acme"}
    if operation == "addSigningKey" and _body_is_right(case) and isinstance(case.body, dict):
        # Only a key is one, and each is registered once.
        case.body["pem"] = Signer(Ed25519PrivateKey.generate()).public_pem
    if key := case.headers.get("Idempotency-Key"):
        # One used before, for another body, is rightly refused; that has its own tests.
        case.headers["Idempotency-Key"] = f"{next(NUMBERS)}{key}"[: max(255, len(key))]
    if operation == "receive" and isinstance(case.body, NotSet):
        case.media_type, case.body = "application/json", {}
    if "wait=" in str(case.headers.get("Prefer", "")):
        case.headers["Prefer"] = "wait=0"
    asked = case.body if operation == "receive" else case.query
    unsaid = 20 if operation in {"receive", "next"} else 0
    if isinstance(asked, dict) and _waits(asked.get("wait", unsaid)):
        asked["wait"] = 0


def _body_is_right(case: schemathesis.Case) -> bool:
    return not isinstance(case.body, NotSet) and ParameterLocation.BODY not in _wrong_parts(case)


def _body_is_left_out(case: schemathesis.Case) -> bool:
    """One that may be."""
    described = case.operation.definition.raw.get("requestBody", {})
    return isinstance(case.body, NotSet) and not described.get("required", False)


def _wrong_parts(case: schemathesis.Case) -> set[ParameterLocation]:
    components = case.meta.components if case.meta is not None else {}
    return {where for where, info in components.items() if info.mode.is_negative}


def _without_fractions(value: Any) -> Any:
    """To a JSON Schema 30.0 is a whole number; the specification says in words that it is not."""
    if isinstance(value, dict):
        return {name: _without_fractions(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_without_fractions(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _waits(value: object) -> bool:
    try:
        return 0 < float(str(value)) <= 60
    except ValueError:
        return False


# -- the file against the code ----------------------------------------------------------------------


def operations() -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method in METHODS
    }


async def test_every_route_is_described_and_every_description_is_served() -> None:
    from restante.app import open_broker

    async with open_broker("memory://") as broker:
        routes = set(build_api(broker).routes)
    # Those are described in asyncapi.yaml, and those in restante.proto.
    sockets = {route for route in routes if route[0] == "WEBSOCKET"}
    calls = {route for route in routes if route[1].startswith("/restante.v1.Delivery/")}
    # Pages for people are no interface for programs.
    pages = {route for route in routes if route[1].startswith(f"{PORTAL}/")}
    assert routes - sockets - calls - pages == operations()
    assert sockets
    assert calls
    assert pages


def test_operations_have_names_summaries_and_known_tags() -> None:
    found = [
        item[method] for item in DOCUMENT["paths"].values() for method in item if method in METHODS
    ]
    ids = [operation["operationId"] for operation in found]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for operation in found:
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
    assert {tag for operation in found for tag in operation["tags"]} == tags


def test_every_reference_leads_somewhere_and_everything_is_referred_to() -> None:
    referred = set(re.findall(r"\$ref: '#/components/(\w+/\w+)", SPECIFICATION.read_text()))
    defined = {
        f"{kind}/{name}"
        for kind in ("parameters", "responses", "schemas")
        for name in DOCUMENT["components"][kind]
    }
    assert referred == defined


def test_error_codes_are_those_of_the_code() -> None:
    def codes(kind: type[errors.RestanteError]) -> set[str]:
        # Those of the client are never answered with.
        below = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
        return {kind.code}.union(*(codes(one) for one in below))

    startup = codes(errors.StartupError)
    bases = {"invalid", "conflict", "store_error"}  # never raised themselves
    assert set(SCHEMAS["Problem"]["properties"]["code"]["enum"]) == (
        codes(errors.RestanteError) - startup - bases
    )


def test_words_are_those_of_the_code() -> None:
    assert SCHEMAS["State"]["enum"] == [state.label for state in _by_listing(State)]
    assert set(SCHEMAS["Outcome"]["enum"]) == {outcome.value for outcome in Outcome}


def _by_listing(states: type[State]) -> list[State]:
    return sorted(states, key=lambda state: SCHEMAS["State"]["enum"].index(state.label))


def test_settings_have_the_bounds_and_defaults_of_the_code() -> None:
    described = SCHEMAS["Settings"]["properties"]
    assert set(described) == set(Settings.__struct_fields__)
    assert set(SCHEMAS["QueueRequest"]["properties"]) == {"owner", *described}
    for name, bound in SETTING_BOUNDS.items():
        assert (described[name]["minimum"], described[name]["maximum"]) == (bound.low, bound.high)
    for name, value in described.items():
        assert value["default"] == getattr(Settings(), name)


def test_names_of_certificates_are_those_of_the_code() -> None:
    described = SCHEMAS["NewKey"]["properties"]["certificate_san"]
    assert described["pattern"] == f"^{SAN_PATTERN}$"
    assert described["maxLength"] == SAN_CHARACTERS


def test_webhooks_have_the_bounds_and_defaults_of_the_code() -> None:
    described = SCHEMAS["WebhookRequest"]["properties"]
    for name, bound in BOUNDS.items():
        assert (described[name]["minimum"], described[name]["maximum"]) == (bound.low, bound.high)
    defaults = Webhook(queue="q", url="")
    for name in (*BOUNDS, "payload"):
        assert described[name]["default"] == getattr(defaults, name)


def test_a_selection_of_dead_letters_has_the_members_of_the_code() -> None:
    forms = [SCHEMAS[name]["properties"] for name in ("DeadBySeqs", "DeadByFilter", "DeadAll")]
    assert set().union(*forms) == set(messages.DeadRequest.__struct_fields__)
    members = set(forms[1]["filter"]["properties"])
    assert members == set(messages.DeadFilter.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "Act": messages.ActOut,
        "ActPage": messages.ActPage,
        "Alert": alert_messages.AlertOut,
        "AlertList": alert_messages.AlertList,
        "AlertPage": alert_messages.AlertPage,
        "Attention": watching.AttentionOut,
        "Compensation": group_messages.PayloadIn,
        "Group": group_messages.GroupOut,
        "GroupItem": group_messages.GroupItem,
        "GroupMember": group_messages.MemberOut,
        "GroupPage": group_messages.GroupPage,
        "GroupRequest": group_messages.GroupRequest,
        "Awaited": messages.PublishedAndAwaited,
        "BulkDone": messages.BulkDone,
        "Consumer": watching.ConsumerOut,
        "ConsumerCount": watching.ConsumerCount,
        "ConsumerList": watching.ConsumerList,
        "Contact": watching.ContactOut,
        "Failure": watching.FailureOut,
        "History": watching.HistoryOut,
        "Holder": messages.HolderOut,
        "Job": job_messages.JobOut,
        "JobCounted": job_messages.JobCounted,
        "JobPage": job_messages.JobPage,
        "LinkMade": operator_messages.LinkMade,
        "NewLink": operator_messages.NewLink,
        "Operation": operation_messages.OperationOut,
        "OperationMove": operation_messages.MoveRequest,
        "OperationPage": operation_messages.OperationPage,
        "OperationRequest": operation_messages.OperationRequest,
        "OpenDelivery": messages.OpenOut,
        "OpenPage": messages.OpenPage,
        "Opened": messages.OpenedOut,
        "Overview": watching.OverviewOut,
        "Pace": watching.PaceOut,
        "Point": watching.PointOut,
        "QueueView": watching.QueueSeen,
        "ReasonCount": messages.ReasonOut,
        "ReasonList": messages.ReasonList,
        "ReceiptPage": messages.ReceiptPage,
        "Way": messages.WayOut,
        "Rates": watching.RatesOut,
        "Request": request_messages.RequestOut,
        "Standing": Figures,
        "Totals": watching.TotalsOut,
        "WebhookHealth": watching.WebhookHealthOut,
        "AwaitedDelivery": messages.AwaitedDelivery,
        "Client": messages.ClientOut,
        "ClientMade": messages.ClientMade,
        "ClientPage": messages.ClientPage,
        "DeadLetter": messages.DeadOut,
        "DeadPage": messages.DeadPage,
        "NewOperator": operator_messages.NewOperator,
        "Operator": operator_messages.OperatorOut,
        "OperatorChange": operator_messages.OperatorChange,
        "OperatorList": operator_messages.OperatorList,
        "DisableWebhook": webhook_messages.DisableWebhook,
        "Pinged": webhook_messages.PingedOut,
        "Secret": webhook_messages.SecretOut,
        "SecretMade": webhook_messages.SecretMade,
        "Webhook": webhook_messages.WebhookOut,
        "WebhookRequest": webhook_messages.WebhookRequest,
        "Delivery": messages.NotificationOut,
        "DeliveryStatus": messages.DeliveryOut,
        "Extend": messages.Extend,
        "Figures": messages.FiguresOut,
        "Key": messages.KeyOut,
        "KeyPage": messages.KeyPage,
        "Nack": messages.Nack,
        "Node": messages.NodeOut,
        "NodeList": messages.NodeList,
        "NewClient": messages.NewClient,
        "NewKey": messages.NewKey,
        "NewSubscription": messages.NewSubscription,
        "Notification": messages.NotificationStatus,
        "Problem": messages.Problem,
        "Publication": messages.PublicationItem,
        "PublishBatch": messages.PublishBatch,
        "Published": messages.Published,
        "PublishedBatch": messages.PublishedBatch,
        "PublishedItem": messages.PublishedItem,
        "Queue": messages.QueueOut,
        "QueuePage": messages.QueuePage,
        "Receive": messages.Receive,
        "Received": messages.Received,
        "Reject": messages.Reject,
        "SettleBatch": messages.SettleBatch,
        "SettledBatch": messages.SettledBatch,
        "SettleItem": messages.SettleItem,
        "Signature": messages.SignatureIn,
        "NewSigningKey": signing_messages.NewSigningKey,
        "SigningKey": signing_messages.SigningKeyOut,
        "SigningKeyList": signing_messages.SigningKeyList,
        "SettledItem": messages.SettledItem,
        "Subscription": messages.SubscriptionOut,
        "SubscriptionList": messages.SubscriptionList,
    }.items(),
)
def test_members_are_those_of_the_code(name: str, message: Any) -> None:
    described: Mapping[str, Any] = SCHEMAS[name]["properties"]
    assert set(described) == set(message.__struct_fields__)


def test_references_to_parameters_stand_with_operations() -> None:
    """Beside them, for a whole path, the page at /docs would show the parameter without its name."""
    for path, item in DOCUMENT["paths"].items():
        assert all("$ref" not in parameter for parameter in item.get("parameters", ())), path
