"""The server that runs, asked over HTTP: what it says of itself, and what time it is there."""

from __future__ import annotations

import re
import ssl
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from restante.cli.doctor import clock
from restante.cli.doctor.findings import Case, Finding, failure, ok, warning
from restante.cli.doctor.sqlite import owner

ANSWER_SECONDS: Final = 5.0
SUBJECT: Final = "server"
_LOG_FIGURE: Final = re.compile(r"^restante_log_(failing|unsealed_receipts) (\S+)$", re.MULTILINE)


async def examine(case: Case) -> list[Finding]:
    """What is found of the server at ``case.url``, or of the one that has the data folder open."""
    holder = owner(case.config.data) if case.on_sqlite else None
    if case.url is None and holder is None:
        return [ok(SUBJECT, "none runs on this data folder")]
    findings = []
    context = ssl.create_default_context()
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False, verify=context) as caller:
        if holder is not None and case.config.admin_listen.port:
            admin_url = f"http://{case.config.admin_listen}"
            findings.append(await health(caller, admin_url, holder))
            findings += await sealing(caller, admin_url, holder)
        if case.url is not None:
            findings += await public(caller, case.url)
    return findings or [ok(SUBJECT, f"process {holder} serves this data folder")]


async def health(caller: httpx.AsyncClient, admin_url: str, holder: str) -> Finding:
    """What the admin listener of the process that has the store open says."""
    try:
        healthy = await caller.get(f"{admin_url}/healthz")
        ready = await caller.get(f"{admin_url}/readyz")
    except httpx.HTTPError as error:
        return warning(
            SUBJECT,
            f"process {holder} has the store open, and {admin_url} does not answer ({_why(error)})",
            "say where its admin listener is, with the settings that it was started with (--config)",
        )
    if healthy.status_code != 200:
        return failure(
            SUBJECT,
            f"process {holder} can no longer store: it is about to end",
            "look into its log for why; it is to be started again by what supervises it",
        )
    if ready.status_code != 200:
        return warning(
            SUBJECT,
            f"process {holder} takes no requests: it starts, stops, or cannot reach its store",
            "look into its log; `restante nodes` shows the others",
        )
    return ok(SUBJECT, f"process {holder} is healthy and takes requests")


async def sealing(caller: httpx.AsyncClient, admin_url: str, holder: str) -> list[Finding]:
    """Whether that process seals receipts into the log; nothing where it does not say."""
    try:
        answer = await caller.get(f"{admin_url}/metrics", params={"queues": "0"})
    except httpx.HTTPError:
        return []  # ``health`` has told of it
    told = dict(_LOG_FIGURE.findall(answer.text))
    if "failing" not in told:
        return []
    if float(told["failing"]):
        behind = f"{float(told['unsealed_receipts']):,.0f} are not in the log"
        return [
            failure(
                SUBJECT,
                f"process {holder} cannot seal receipts: {behind}",
                "`log.not_sealed` in its log says why; docs/ledger.md, what to do about its key",
            )
        ]
    return [ok(SUBJECT, f"process {holder} seals receipts into the log")]


async def public(caller: httpx.AsyncClient, url: str) -> list[Finding]:
    """Whether a server answers there, and how its clock goes."""
    before = clock.now()
    try:
        answer = await caller.get(f"{url}/openapi.yaml")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [
            failure(
                SUBJECT,
                f"{url} does not answer ({_why(error)})",
                "start it with `restante serve`, or say where it is with --url",
            )
        ]
    after = clock.now()
    found = []
    if answer.status_code == 200 and b"title: Restante" in answer.content[:200]:
        found.append(ok(SUBJECT, f"{url} is a Restante"))
    else:
        found.append(
            failure(
                SUBJECT,
                f"{url} answers {answer.status_code}, and not as Restante does",
                "see which program listens there, and where the proxy sends this path",
            )
        )
    if date := answer.headers.get("date"):
        theirs = parsedate_to_datetime(date).timestamp()
        # The header has whole seconds.
        earlier = clock.Instant(before.wall - 1, before.monotonic)
        found.append(clock.offset("clock", f"{url}'s", theirs, earlier, after))
    return found


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
