"""Times, lease tokens and receipts: what travels, and what is digested."""

import json
import re

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from restante.errors import LeaseNotFound, Malformed, ReceiptNotFound
from restante.model import NAME, LeaseRef, Receipt
from restante.queries import StoredReceipt
from restante.wire import times, tokens
from restante.wire.receipts import (
    GENESIS,
    chain,
    decode_entry,
    encode_entry,
    parse_receipt_id,
    receipt_digest,
    receipt_id,
    reply_fields,
    to_json,
)

LAST_MS = 253_402_300_799_999  # the end of the year 9999

# -- times --------------------------------------------------------------------------------------


@given(st.integers(0, LAST_MS))
def test_a_time_survives_as_text(wall_ms):
    text = times.to_text(wall_ms)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert times.to_ms(text) == wall_ms


@pytest.mark.parametrize(
    ("text", "wall_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-31T12:00:00.000Z", 1_769_860_800_000),
        ("2026-01-31T13:00:00.001+01:00", 1_769_860_800_001),
        ("2026-01-31T12:00:00.0019Z", 1_769_860_800_001),
    ],
)
def test_times(text, wall_ms):
    assert times.to_ms(text) == wall_ms


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "12:00Z"])
def test_no_times(text):
    with pytest.raises(Malformed):
        times.to_ms(text)


# -- lease tokens -------------------------------------------------------------------------------

queues = st.from_regex(NAME, fullmatch=True)

SECRET = bytes(range(32))
refs = st.builds(
    LeaseRef,
    queue=queues,
    seq=st.integers(0, 2**63),
    fence=st.integers(0, 2**32 - 1),
    notification=st.integers(0, 2**63),
)


@given(refs)
def test_a_token_names_its_lease(ref):
    token = tokens.seal(SECRET, ref)
    assert tokens.unseal(SECRET, token) == ref
    assert re.fullmatch(r"[A-Za-z0-9_-]{40,250}", token), "fit for a path"


@given(refs, st.data())
def test_an_altered_token_is_refused(ref, data):
    token = tokens.seal(SECRET, ref)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("AQgw_-09az%="))
    altered = token[:place] + letter + token[place + 1 :]
    try:
        # The last letter has spare bits: with other ones it still spells the same bytes.
        assert tokens.unseal(SECRET, altered) == ref
        assert altered == token or place == len(token) - 1
    except LeaseNotFound:
        assert altered != token


@given(refs, refs)
def test_a_seal_does_not_fit_another_lease(one, other):
    mac = tokens.seal(SECRET, one)[:13]
    forged = mac + tokens.seal(SECRET, other)[13:]
    if one != other:
        with pytest.raises(LeaseNotFound):
            tokens.unseal(SECRET, forged)


@given(refs)
def test_another_store_cannot_seal(ref):
    with pytest.raises(LeaseNotFound):
        tokens.unseal(SECRET, tokens.seal(bytes(32), ref))


@given(st.text(max_size=300))
def test_any_other_text_is_no_token(text):
    with pytest.raises(LeaseNotFound):
        tokens.unseal(SECRET, text)


@pytest.mark.parametrize("token", ["", "A", "====", "ä" * 40, "A" * 100_000, "\x00" * 40])
def test_no_tokens(token):
    with pytest.raises(LeaseNotFound):
        tokens.unseal(SECRET, token)


def test_a_sealed_name_that_is_no_queue_is_refused():
    for queue in ("a b", "a\x00", "x" * 129, ""):
        with pytest.raises(LeaseNotFound):
            tokens.unseal(SECRET, tokens.seal(SECRET, LeaseRef(queue, 1, 1, 1)))


# -- receipts -----------------------------------------------------------------------------------

# No lone surrogates: those are no Unicode text, and cannot be stored or sent.
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["\x00\x08\x0b\x0c\x1f\x7f\x80\u2028\u2029\ufeff\uffff\U0001f600</script>&'\"\\/"]
)
numbers = st.integers(0, 2**53)
receipts = st.builds(
    Receipt,
    at=texts,
    attempt=numbers,
    body_bytes=numbers,
    body_sha256=texts,
    fence=numbers,
    key_id=texts,
    leased_at=texts,
    notification=texts,
    number=numbers,
    outcome=texts,
    principal=texts,
    published_at=texts,
    queue=texts,
    reason=texts,
    remote_address=texts,
    reply=st.none() | texts,
    reply_base64=st.none() | texts,
    reply_content_type=texts,
    seq=numbers,
    state=texts,
    transport=texts,
)


@given(receipts)
def test_an_entry_is_canonical_json(receipt):
    """Whoever has a JSON library can recompute the digest."""
    entry = encode_entry(receipt)
    members = json.loads(entry)
    plain = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert plain.encode() == entry
    assert decode_entry(entry) == receipt
    given = {name: value for name, value in msgspec.structs.asdict(receipt).items() if value}
    assert given.items() <= members.items(), "only defaults are left out"


@given(receipts, st.binary(min_size=32, max_size=32))
def test_a_served_receipt_proves_its_digest(receipt, previous):
    entry = encode_entry(receipt)
    digest = chain(previous, entry)
    served = json.loads(to_json(StoredReceipt("acme", 12, entry, digest)))
    assert (served["id"], served["digest"]) == ("acme~12", digest.hex())
    assert receipt_digest(previous, served) == digest


def test_any_change_changes_the_digest():
    entry = encode_entry(
        Receipt(at="", notification="n", number=1, outcome="", queue="", seq=1, state="")
    )
    digest = chain(GENESIS, entry)
    assert chain(digest, entry) != digest
    assert chain(GENESIS, entry.replace(b'"n"', b'"m"')) != digest


@given(st.binary())
def test_a_reply_is_text_or_base64(reply):
    text, base64 = reply_fields(reply)
    assert (text is None) != (base64 is None)
    if text is not None:
        assert text.encode() == reply


@given(queues, st.integers(0, 10**18 - 1))
def test_a_receipt_id_is_parsed_again(queue, number):
    assert parse_receipt_id(receipt_id(queue, number)) == (queue, number)


@pytest.mark.parametrize(
    "text",
    ["", "acme", "acme~", "~1", "acme~-1", "acme~1x", "acme~1~2", "acme~²", "acme~" + "1" * 19],
)
def test_no_receipt_ids(text):
    with pytest.raises(ReceiptNotFound):
        parse_receipt_id(text)
