"""Restante keeps each notification for its client until that client has collected it and signed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restante.client.respond_async import RespondAsync
    from restante.embedding import asgi, open
    from restante.middleware import IdempotencyMiddleware
    from restante.outbox import publish_in

__all__ = [
    "IdempotencyMiddleware",
    "RespondAsync",
    "__version__",
    "asgi",
    "open",
    "publish_in",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Late, so that a client that only wants the rules or the SDK does not load a server.
    if name in ("asgi", "open"):
        from restante import embedding  # noqa: PLC0415

        return getattr(embedding, name)
    if name == "IdempotencyMiddleware":
        from restante import middleware  # noqa: PLC0415

        return middleware.IdempotencyMiddleware
    if name == "publish_in":
        from restante import outbox  # noqa: PLC0415

        return outbox.publish_in
    if name == "RespondAsync":
        from restante.client import respond_async  # noqa: PLC0415

        return respond_async.RespondAsync
    raise AttributeError(f"module 'restante' has no attribute {name!r}")
