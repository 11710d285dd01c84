"""Signatures, against the two libraries that vendors verify with."""

import time

import pytest
import standardwebhooks
import svix

from restante.wire import signatures

OLD, NEW = b"o" * 24, b"n" * 32
BODY = '<?xml version="1.0"?><order name="Bodø"/>'.encode()
ID = "019c1a2b-3c4d-7e5f-8a6b-7c8d9e0f1a2b"


def headers(secrets, body=BODY, timestamp=None):
    at = int(time.time()) if timestamp is None else timestamp
    return {
        "webhook-id": ID,
        "webhook-timestamp": str(at),
        "webhook-signature": signatures.sign(secrets, ID, at, body),
    }


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_both_libraries_verify_it_while_secrets_rotate(secret):
    text = signatures.to_text(secret)
    signed = headers([NEW, OLD])
    assert signed["webhook-signature"].count("v1,") == 2
    standardwebhooks.Webhook(text).verify(BODY, signed, json_parse=False)
    svix.Webhook(text).verify(BODY, signed)


def test_another_secret_body_id_or_time_does_not_verify():
    verify = standardwebhooks.Webhook(signatures.to_text(NEW)).verify
    signed = headers([NEW])
    for body, changed in (
        (BODY, headers([OLD])),
        (BODY + b" ", signed),
        (BODY, {**signed, "webhook-id": "another"}),
        (BODY, {**signed, "webhook-timestamp": str(int(time.time()) + 1)}),
        (BODY, headers([NEW], timestamp=int(time.time()) - 600)),
    ):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verify(body, changed, json_parse=False)


def test_the_example_of_the_specification():
    """From the libraries' own documentation: so does the rest of the world sign."""
    secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    import base64

    signed = signatures.sign(
        [base64.b64decode(secret)],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_bytes_of_any_kind_are_signed():
    import base64
    import hashlib
    import hmac

    body = bytes(range(256))
    by_hand = hmac.new(NEW, b"id.5." + body, hashlib.sha256).digest()
    assert signatures.sign([NEW], "id", 5, body) == f"v1,{base64.b64encode(by_hand).decode()}"
    assert signatures.sign([], "id", 5, body) == ""
