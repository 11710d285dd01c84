"""Each POST says what an idempotency key does for it, and does that."""

from pathlib import Path

import pytest
import yaml

import restante.web
from restante.app import build_api
from restante.http.once import Once

DOCUMENT = yaml.safe_load(Path(restante.web.__file__).with_name("openapi.yaml").read_text())
POSTS = {path: item["post"] for path, item in DOCUMENT["paths"].items() if "post" in item}
KEYS = {
    name
    for name, parameter in DOCUMENT["components"]["parameters"].items()
    if parameter["name"] == "Idempotency-Key"
}
REMEMBERED = "onceKey"
KEPT_WITH_WHAT_IS_MADE = {
    "/v1/queues/{queue}/notifications": "idempotencyKey",
    "/v1/topics/{topic}/notifications": "idempotencyKey",
    "/v1/notifications": "batchKey",
    "/v1/groups": "groupKey",
    "/v1/operations": "operationKey",
}
WITHOUT = {
    "/v1/leases/{lease}/ack": "a lease is settled once",
    "/v1/leases/{lease}/nack": "a lease is settled once",
    "/v1/leases/{lease}/reject": "a lease is settled once",
    "/v1/leases/{lease}/release": "a lease is settled once",
    "/v1/leases/{lease}/extend": "a lease is extended from now",
    "/v1/queues/{queue}/settle": "a lease is settled once",
    "/v1/cookie": "nothing is changed",
    "/v1/operators": "a password is in it, and a name is given once",
}
REFUSED = {
    "/v1/queues/{queue}/receive": "what it hands out is under leases",
    "/v1/queues/{queue}/next": "what it hands out is under leases",
}


def key_of(path):
    """The parameter that describes the key of a POST, by its name among the components."""
    keys = [
        name
        for one in POSTS[path].get("parameters", ())
        if (name := one.get("$ref", "").rpartition("/")[2]) in KEYS
    ]
    assert len(keys) <= 1
    return keys[0] if keys else None


def test_each_post_that_takes_no_key_is_known_and_exists():
    assert {path for path in POSTS if key_of(path) is None} == set(WITHOUT) | set(REFUSED)
    assert set(KEPT_WITH_WHAT_IS_MADE) <= set(POSTS)


@pytest.mark.parametrize("path", POSTS)
def test_what_is_described_is_done(broker, path):
    route, _ = build_api(broker).routes.find("POST", path)
    if path in REFUSED:
        assert route.once is Once.REFUSED
    elif path in WITHOUT or path in KEPT_WITH_WHAT_IS_MADE:
        assert route.once is Once.BY_ITSELF
        assert key_of(path) == KEPT_WITH_WHAT_IS_MADE.get(path)
    else:
        assert route.once in (Once.REMEMBERED, Once.SECRET)
        assert key_of(path) == REMEMBERED
