"""Signing outcomes with a key of the client's own."""

from __future__ import annotations

import datetime
import hashlib
from typing import Self
from urllib.parse import quote

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from restante.client.http import Wire
from restante.errors import InvalidSigningKey, SignatureRefused
from restante.model import Signature, Verb
from restante.wire.client_signatures import SIGNABLE, key_id, load_public_key, pem_of, text_of
from restante.wire.messages import NotificationOut, bytes_of
from restante.wire.signing_messages import SigningKeyList, SigningKeyOut

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Signer:
    """Signs with one private key. ``key_id`` is the id under which its public key is to be registered."""

    def __init__(self, private: PrivateKey) -> None:
        """``InvalidSigningKey`` for a kind or size of key that the service does not take."""
        self._private = private
        self.public_pem = pem_of(private.public_key())
        self.key_id = key_id(load_public_key(self.public_pem))

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> Self:
        """Of a private key in PEM, encrypted or not. ``InvalidSigningKey``."""
        try:
            private = serialization.load_pem_private_key(pem, password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidSigningKey(f"that private key cannot be read: {error}") from error
        if not isinstance(private, PrivateKey):
            raise InvalidSigningKey("a key is Ed25519, of the elliptic curve P-256, or RSA")
        return cls(private)

    def sign(
        self,
        notification: NotificationOut,
        verb: Verb = Verb.ACK,
        *,
        said: bytes = b"",
        at: datetime.datetime | None = None,
    ) -> Signature:
        """Over a notification as it was received, with its body. ``said`` is the reply with an ack, else the reason.

        ``at`` (None: now) may be at most 10 minutes from the service's time when it settles.
        """
        outcome = SIGNABLE.get(verb)
        if outcome is None:
            raise SignatureRefused(f"a {verb.value} is not signed: an ack, a nack or a reject is")
        body = bytes_of("body", notification.body, notification.body_base64) or b""
        moment = at or datetime.datetime.now(datetime.UTC)
        unsigned = Signature(
            key=self.key_id,
            at=moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            notification=notification.id,
            body_sha256=hashlib.sha256(body).hexdigest(),
            value=b"",
        )
        text = text_of(unsigned, notification.queue, outcome.value, said)
        return msgspec.structs.replace(unsigned, value=self._sign(text))

    def _sign(self, text: bytes) -> bytes:
        match self._private:
            case Ed25519PrivateKey():
                return self._private.sign(text)
            case ec.EllipticCurvePrivateKey():
                return self._private.sign(text, ec.ECDSA(hashes.SHA256()))
            case _:
                pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
                return self._private.sign(text, pss, hashes.SHA256())


class SigningKeyOperations:
    """What is asked of the register."""

    _wire: Wire

    async def add_signing_key(self, client: str, pem: str, *, label: str = "") -> SigningKeyOut:
        """Register a client's public key or certificate, in PEM. Role admin.

        ``InvalidSigningKey``, ``ClientNotFound``, ``AlreadyExists``, ``TooManySigningKeys``.
        """
        ask: dict[str, object] = {"pem": pem, "label": label}
        return await self._wire.call(
            SigningKeyOut, "POST", _path(client), ask=ask, repeatable=False
        )

    async def signing_keys(self, client: str) -> list[SigningKeyOut]:
        """A client's keys, those that have ended too, in the order in which they were added."""
        return (await self._wire.call(SigningKeyList, "GET", _path(client))).signing_keys

    async def revoke_signing_key(self, client: str, id: str) -> SigningKeyOut:
        """Nothing more is signed with it; what it signed before can be verified. ``KeyNotFound``."""
        path = f"{_path(client)}/{quote(id, safe='')}"
        answer = await self._wire.send("DELETE", path, repeatable=True)
        return self._wire.read(SigningKeyOut, answer)


def _path(client: str) -> str:
    return f"/v1/clients/{quote(client, safe='')}/signing-keys"
