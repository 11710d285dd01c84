"""Keys can be told from non-keys without asking, and roles do what they say."""

import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from restante import auth
from restante.errors import Forbidden, QueueNotFound, Unauthenticated
from restante.model import Actor, Key, Queue, Role

ids = st.binary(min_size=auth.ID_BYTES, max_size=auth.ID_BYTES)
secrets = st.binary(min_size=auth.SECRET_BYTES, max_size=auth.SECRET_BYTES)
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@given(ids, secrets)
def test_a_minted_key_is_parsed_again(id_bytes, secret_bytes):
    id, key, kept = auth.mint(id_bytes, secret_bytes)
    assert auth.parse(key) == (id, kept)
    assert key.startswith(f"rst_{id}_")
    assert len(key) == 53
    assert len(kept) == 32
    assert auth.matches(kept, auth.parse(key)[1])


@given(ids, secrets, st.integers(4, 52), st.sampled_from(ALPHABET + "_A1 "))
def test_a_mistyped_key_is_no_key(id_bytes, secret_bytes, place, wrong):
    _, key, _ = auth.mint(id_bytes, secret_bytes)
    mistyped = key[:place] + wrong + key[place + 1 :]
    if mistyped != key:
        with pytest.raises(Unauthenticated):
            auth.parse(mistyped)


@given(st.text(max_size=80))
def test_any_other_text_is_no_key(text):
    with pytest.raises(Unauthenticated):
        auth.parse(text)


def test_what_is_around_a_key_is_not_ignored():
    _, key, _ = auth.mint(bytes(7), bytes(20))
    for text in (f" {key}", f"{key}\n", key.upper(), key[4:], key * 2):
        with pytest.raises(Unauthenticated):
            auth.parse(text)


@given(secrets, secrets)
def test_only_the_secret_itself_matches(one, other):
    _, _, kept = auth.mint(bytes(7), one)
    _, _, presented = auth.mint(bytes(7), other)
    assert auth.matches(kept, presented) == (one == other)


def test_an_unknown_id_never_matches():
    assert not auth.matches(None, hashlib.sha256(b"no such key").digest())


# -- roles --------------------------------------------------------------------------------------

OWN, OTHER = Queue("acme", "acme"), Queue("bob", "bob")


def actor(role):
    return Actor("acme", role)


@pytest.mark.parametrize(
    ("check", "role", "queue", "error"),
    [
        (auth.require_sight, Role.ADMIN, OTHER, None),
        (auth.require_sight, Role.PUBLISHER, OTHER, None),
        (auth.require_sight, Role.CLIENT, OWN, None),
        (auth.require_sight, Role.CLIENT, OTHER, QueueNotFound),
        (auth.require_collect, Role.ADMIN, OTHER, None),
        (auth.require_collect, Role.PUBLISHER, OWN, Forbidden),
        (auth.require_collect, Role.CLIENT, OWN, None),
        (auth.require_collect, Role.CLIENT, OTHER, QueueNotFound),
        (auth.require_publish, Role.ADMIN, OTHER, None),
        (auth.require_publish, Role.PUBLISHER, OTHER, None),
        (auth.require_publish, Role.CLIENT, OWN, Forbidden),
        # Not Forbidden: that would tell that the queue exists.
        (auth.require_publish, Role.CLIENT, OTHER, QueueNotFound),
    ],
)
def test_who_may_do_what(check, role, queue, error):
    if error is None:
        check(actor(role), queue)
    else:
        with pytest.raises(error):
            check(actor(role), queue)


def test_a_role_is_required():
    auth.require(actor(Role.ADMIN), Role.PUBLISHER, Role.ADMIN)
    with pytest.raises(Forbidden, match="publisher or admin"):
        auth.require(actor(Role.CLIENT), Role.PUBLISHER, Role.ADMIN)


def test_a_key_is_active_until_it_expires_or_is_revoked():
    def key(**fields):
        return Key(id="k", role=Role.CLIENT, name="a", secret_hash=b"", created_at_ms=0, **fields)

    assert key().active(10**15)
    assert key(expires_at_ms=10).active(9)
    assert not key(expires_at_ms=10).active(10)
    assert not key(revoked_at_ms=5).active(4)
