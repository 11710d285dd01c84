"""Slow hashes of passwords (Argon2id, RFC 9106), made in threads and a few at a time: each takes 64 MiB for a while."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from restante.errors import TooManySignIns

AT_ONCE: Final = 2
WAITING: Final = 20
"""So many may wait for their turn; who comes then is refused, and loses nothing."""


class Passwords:
    """``hasher`` is for tests, which have no time for slow ones."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises ``TooManySignIns``."""
        return await self._in_turn(password, "")

    async def matches(self, kept_hash: str | None, password: str) -> bool:
        """Whether that is the password. Without a hash it takes as long to say no, so that names are not found out.

        Raises ``TooManySignIns``.
        """
        if kept_hash is None:
            if not self._nobodys:
                self._nobodys = await self.hash(secrets.token_hex())
            kept_hash = self._nobodys
        return bool(await self._in_turn(password, kept_hash)) and kept_hash is not self._nobodys

    async def _in_turn(self, password: str, kept_hash: str) -> str:
        if self._waiting >= WAITING:
            raise TooManySignIns("many are signing in just now: try again in a moment")
        self._waiting += 1
        try:
            async with self._turns:
                if not kept_hash:
                    return await asyncio.to_thread(self._hasher.hash, password)
                return await asyncio.to_thread(self._verified, kept_hash, password)
        finally:
            self._waiting -= 1

    def _verified(self, kept_hash: str, password: str) -> str:
        """The hash that the password matches; empty where it does not."""
        try:
            self._hasher.verify(kept_hash, password)
        except (VerificationError, InvalidHashError):
            return ""
        return kept_hash
