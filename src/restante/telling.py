"""Composing what is sent out unasked: alerts and heads of the log, each to the destinations that are configured."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

from restante import redaction
from restante.alerting import Alerting, Limits
from restante.config import Config
from restante.engine.broker import Broker
from restante.engine.head_post import HeadPost, Holds, Tell
from restante.engine.notices import NoticePost
from restante.errors import ConfigurationError
from restante.mailing import parse_server
from restante.ports import AlertSender
from restante.senders import heads

WEBHOOK = "webhook"
MAIL = "mail"
QUEUE = "queue"


def alerting_of(config: Config) -> Alerting:
    """What the configuration says of alerts."""
    told = (
        (WEBHOOK, config.alert_webhook_url),
        (MAIL, config.smtp_url),
        (QUEUE, config.alert_queue),
    )
    return Alerting(
        limits=Limits(
            depth=config.alert_depth,
            oldest_age_seconds=config.alert_oldest_age_seconds,
            silence_seconds=config.alert_silence_seconds,
            dead=config.alert_dead,
            error_rate=config.alert_error_rate,
        ),
        destinations=tuple(name for name, value in told if value is not None),
    )


@contextlib.asynccontextmanager
async def telling(broker: Broker, config: Config, agent: str) -> AsyncIterator[None]:
    """Tell of alerts wherever the configuration says, over HTTP as ``agent``.

    ``ConfigurationError`` where a library for it is missing.
    """
    async with contextlib.AsyncExitStack() as stack:
        senders: dict[str, AlertSender] = {}
        if config.alert_webhook_url is not None:
            senders[WEBHOOK] = await stack.enter_async_context(_webhook(broker, config, agent))
        if config.smtp_url is not None and config.alert_mail_from is not None:
            from restante.senders.mail import MailSender

            server = parse_server(config.smtp_url)
            senders[MAIL] = MailSender(server, config.alert_mail_from, config.alert_mail_to)
        if config.alert_queue is not None:
            from restante.senders.queue import QueueSender

            senders[QUEUE] = QueueSender(config.alert_queue, broker.publish)
        posts = [
            NoticePost(
                broker.store, broker.clock, broker.alerts, name, sender, broker.membership.id
            )
            for name, sender in senders.items()
        ]
        async with _carrying_out(post.deliver() for post in posts):
            yield


@contextlib.asynccontextmanager
async def _webhook(broker: Broker, config: Config, agent: str) -> AsyncIterator[AlertSender]:
    try:
        from restante.senders.webhook import WebhookSender
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise ConfigurationError(
            "alert_webhook_url is set, and aiohttp is not installed: pip install 'restante[webhooks]'"
        ) from error
    if config.alert_webhook_url is None:
        raise AssertionError("asked for a sender to nowhere")
    async with WebhookSender(
        config.alert_webhook_url, config.alert_webhook_secret, agent, broker.clock
    ) as sender:
        yield sender


def known_heads(config: Config) -> list[str]:
    """The heads that were sent to a file last. ``ConfigurationError``."""
    return [] if config.ledger_head_file is None else heads.of_file(config.ledger_head_file)


@contextlib.asynccontextmanager
async def sending_heads(broker: Broker, config: Config, agent: str) -> AsyncIterator[None]:
    """Send heads of the log of receipts wherever the configuration says. ``ConfigurationError`` as for ``telling``."""
    async with contextlib.AsyncExitStack() as stack:
        tells: dict[str, Tell] = {}
        shown: dict[str, str] = {}
        holds: dict[str, Holds] = {}
        if (path := config.ledger_head_file) is not None:
            file = _place("file", str(path.absolute()))
            tells[file], holds[file] = heads.to_file(path), heads.in_file(path)
            shown[file] = str(path)
        if (queue := config.ledger_head_queue) is not None:
            place = _place(QUEUE, queue)
            tells[place] = heads.to_queue(queue, broker.publish)
            shown[place] = f"queue {queue}"
        if (url := config.ledger_head_url) is not None:
            place = _place("url", url)
            tells[place] = await stack.enter_async_context(_posting_heads(url, agent))
            shown[place] = redaction.shown(url)
        posts = [
            HeadPost(
                broker.store,
                broker.clock,
                broker.log,
                broker.membership.id,
                name,
                shown[name],
                tell,
                holds.get(name),
            )
            for name, tell in tells.items()
        ]
        for post in posts:
            broker.log.listen(post.hurry)
        async with _carrying_out(post.deliver() for post in posts):
            yield


def _posting_heads(url: str, agent: str) -> contextlib.AbstractAsyncContextManager[Tell]:
    try:
        from restante.senders.webhook import posting_heads
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise ConfigurationError(
            "ledger_head_url is set, and aiohttp is not installed: pip install 'restante[webhooks]'"
        ) from error
    return posting_heads(url, agent)


def _place(way: str, target: str) -> str:
    """The name of a place that heads go to: another target is another place, and is told of the newest head anew.

    The target itself may hold a token.
    """
    return f"{way}/{hashlib.sha256(target.encode()).hexdigest()[:16]}"


@contextlib.asynccontextmanager
async def _carrying_out(work: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Have endless work done meanwhile."""
    jobs = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
