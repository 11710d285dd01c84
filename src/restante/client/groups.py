"""Groups: what is published together, and undone together where one of them cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from restante.client.http import Wire
from restante.wire.group_messages import GroupOut, GroupPage
from restante.wire.messages import text_of


class Compensation(msgspec.Struct, frozen=True, kw_only=True):
    """What undoes a member that has been signed for."""

    body: bytes
    content_type: str = "application/octet-stream"


class GroupMember(msgspec.Struct, frozen=True, kw_only=True):
    """What goes to one queue. Where it is not ``required``, the group is complete without it."""

    queue: str
    body: bytes
    content_type: str = "application/octet-stream"
    required: bool = True
    compensation: Compensation | None = None


class GroupOperations:
    """Pages hold at most ``limit`` that have ended; ``after`` is the ``next`` of the page before."""

    _wire: Wire

    async def publish_group(
        self,
        members: Sequence[GroupMember],
        *,
        timeout_seconds: float,
        wait_seconds: int = 0,
        idempotency_key: str = "",
    ) -> GroupOut:
        """Publish to several queues; where a required one rejects, or the time is up, compensate those that acked.

        Waits up to ``wait_seconds`` (0 to 60) until the group is no longer ``pending``; ``group`` goes on waiting.
        With an idempotency key it may be repeated safely, and is when an answer gets lost.
        """
        headers = {"Content-Type": "application/json"}
        if wait_seconds:
            headers["Prefer"] = f"wait={wait_seconds}"
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        ask = {"members": [_asked(one) for one in members], "timeout_seconds": timeout_seconds}
        answer = await self._wire.send(
            "POST",
            "/v1/groups",
            content=msgspec.json.encode(ask),
            headers=headers,
            repeatable=bool(idempotency_key),
            wait_seconds=wait_seconds,
        )
        return self._wire.read(GroupOut, answer)

    async def group(self, id: str, *, wait_seconds: float = 0.0) -> GroupOut:
        """How it stands, as soon as it is no longer ``pending`` or ``wait_seconds`` (0 to 60) are over."""
        return await self._wire.call(
            GroupOut,
            "GET",
            f"/v1/groups/{quote(id, safe='')}",
            params={"wait": wait_seconds},
            wait_seconds=wait_seconds,
        )

    async def groups(self, *, limit: int | None = None, after: str | None = None) -> GroupPage:
        """Those that are open, then those that ended, up to ``limit``; ``next`` is None at the end."""
        params = {"limit": limit, "after": after}
        return await self._wire.call(GroupPage, "GET", "/v1/groups", params=params)


def _asked(member: GroupMember) -> dict[str, object]:
    asked = _payload(member) | {"queue": member.queue, "required": member.required}
    if member.compensation is not None:
        asked["compensation"] = _payload(member.compensation)
    return asked


def _payload(given: GroupMember | Compensation) -> dict[str, object]:
    text, encoded = text_of(given.body, for_xml=False)
    body = {"body_base64": encoded} if text is None else {"body": text}
    return {**body, "content_type": given.content_type}
