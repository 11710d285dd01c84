"""The store in a PostgreSQL: whether it is there, keeps what it commits, has room for nodes, and cleans up."""

from __future__ import annotations

from typing import Final

import asyncpg
import msgspec

from restante.cli.doctor import clock, ledger
from restante.cli.doctor.findings import Case, Finding, carry_out, failure, ok, warning
from restante.cli.doctor.machine import installed
from restante.errors import ConfigurationError
from restante.keyfiles import SECRETS_KEY_FILE, load_keyring
from restante.papers import Kind
from restante.receipt_log import STATE_KEY
from restante.redaction import shown
from restante.stores.postgresql.connections import Connection, Database, connection_error
from restante.stores.postgresql.nodes import SECRETS
from restante.stores.postgresql.schema import OLDEST_SERVER, SCHEMA, VERSION

SUBJECT: Final = "PostgreSQL"
NODE_CONNECTIONS: Final = 10
"""About so many connections a node takes."""
_MAJOR: Final = 10_000

_FACTS: Final = """
SELECT pg_backend_pid() AS pid,
       current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('synchronous_standby_names') AS standbys,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('autovacuum') AS autovacuum,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS connections,
       (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS taken,
       extract(epoch FROM clock_timestamp())::float8 AS now
"""


_STORE: Final = f"""
SELECT (SELECT convert_from(value, 'UTF8')::int FROM {SCHEMA}.meta WHERE name = 'version') AS schema,
       (SELECT value FROM {SCHEMA}.meta WHERE name = '{SECRETS}') AS sealed_with,
       (SELECT count(*)::int FROM {SCHEMA}.webhooks) AS webhooks
"""  # noqa: S608 (fixed names)
_LOG: Final = f"SELECT content FROM {SCHEMA}.papers WHERE kind = $1 AND key = $2"  # noqa: S608 (fixed names)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a database says of itself.

    ``schema`` is the version of the tables, None where there are none yet; ``replicas`` how many standbys are
    connected and synchronous, None where this user may not know. ``sealed_with`` is the id of the key with which the
    nodes seal secrets, ``own_keys`` those of this machine's keys. ``log`` says how far the log of receipts has come.
    """

    url: str
    version: int
    standby: bool = False
    synchronous_commit: str = "on"
    standbys: str = ""
    replicas: int | None = None
    fsync: str = "on"
    full_page_writes: str = "on"
    autovacuum: str = "on"
    connections: int = 100
    taken: int = 1
    schema: int | None = None
    pooled: bool = False
    webhooks: int = 0
    sealed_with: bytes | None = None
    own_keys: tuple[bytes, ...] = ()
    log: bytes | None = None
    now: float = 0.0


async def examine(case: Case) -> list[Finding]:
    """What is found of the database that the settings name."""
    before = clock.now()
    try:
        facts = await look(case.store_url, own_keys(case))
    except ConfigurationError as error:
        return [failure(SUBJECT, error.detail, "the server does not start without its store")]
    after = clock.now()
    key = ledger.examine(case, facts.log)
    return [
        *await carry_out(CHECKS, facts),
        *([] if key is None else [key]),
        clock.offset("clock", "PostgreSQL's", facts.now, before, after),
    ]


def own_keys(case: Case) -> tuple[bytes, ...]:
    """The ids of the keys in this machine's file, none where there is none. Raises ``ConfigurationError``."""
    path = case.config.secrets_key_file or case.config.data / SECRETS_KEY_FILE
    # Reading it would make it where it is not there.
    return load_keyring(path).ids if path.exists() else ()


async def look(url: str, own: tuple[bytes, ...] = ()) -> Facts:
    """Ask the database. Raises ``ConfigurationError`` where it cannot be asked."""
    database = Database(url)
    try:
        connection = await database.connect()
        try:
            return await _ask(connection, shown(url), own)
        finally:
            connection.terminate()
    except (
        OSError,
        ValueError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ) as error:
        raise connection_error(url, error) from error


async def _ask(connection: Connection, place: str, own: tuple[bytes, ...]) -> Facts:
    row = await connection.fetchrow(_FACTS)
    if row is None:
        raise ConfigurationError(f"{place} does not tell its settings")
    found = dict(row)
    pid = found.pop("pid")
    if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{SCHEMA}.meta"):
        found |= dict(await connection.fetchrow(_STORE) or {})
    if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{SCHEMA}.papers"):
        found["log"] = await connection.fetchval(_LOG, Kind.LOG.value, STATE_KEY)
    replicas = await connection.fetchval(
        "SELECT count(*) FILTER (WHERE sync_state IN ('sync', 'quorum'))::int FROM pg_stat_replication"
    )
    return Facts(
        url=place,
        own_keys=own,
        replicas=replicas,
        # Then the process asked is not the one that greeted.
        pooled=pid != connection.get_server_pid(),
        **found,
    )


def version(facts: Facts) -> Finding:
    major = facts.version // _MAJOR
    if facts.version < OLDEST_SERVER:
        return failure(
            SUBJECT,
            f"{facts.url} is version {major}: it takes {OLDEST_SERVER // _MAJOR} or newer",
            "upgrade it (pg_upgrade)",
        )
    if facts.standby:
        return failure(
            SUBJECT,
            f"{facts.url} is a standby, and takes no writes",
            "name the primary, or all servers with commas between: the one that takes writes is found",
        )
    return ok(SUBJECT, f"{facts.url} is version {major}, and takes writes")


def schema(facts: Facts) -> Finding:
    subject = "schema"
    if facts.schema is None:
        return ok(subject, "there are no tables yet: the first start makes them")
    if facts.schema > VERSION:
        return failure(
            subject,
            f"version {facts.schema} was written by a newer Restante (this one knows {VERSION})",
            "upgrade Restante on this machine",
        )
    if facts.schema < VERSION:
        return warning(
            subject,
            f"version {facts.schema}: the next start brings it to {VERSION}",
            "make a backup first; nodes of the version before go on working meanwhile",
        )
    return ok(subject, f"version {facts.schema}, as this Restante has it")


def durability(facts: Facts) -> Finding:
    subject = "durability"
    for setting, value in (
        ("fsync", facts.fsync),
        ("full_page_writes", facts.full_page_writes),
        ("synchronous_commit", facts.synchronous_commit),
    ):
        if value == "off":
            return failure(
                subject,
                f"{setting} = off: what was acknowledged may be lost",
                f"set {setting} = on (the server does not start otherwise)",
            )
    if facts.synchronous_commit == "local" and facts.standbys:
        return warning(
            subject,
            "synchronous_commit = local: a synchronous standby is named, and no commit waits for it",
            "set synchronous_commit = on for this user",
        )
    return ok(subject, f"synchronous_commit = {facts.synchronous_commit}")


def standbys(facts: Facts) -> Finding:
    subject = "standby"
    if not facts.standbys:
        return warning(
            subject,
            "synchronous_standby_names is empty: what was acknowledged is on one machine, and lost with its disk",
            "for a store that survives its machine, name a synchronous standby (docs/deployment.md)",
        )
    if facts.replicas == 0:
        return failure(
            subject,
            f"synchronous_standby_names = {facts.standbys}, and none is connected: every commit waits for it",
            "start the standby, or take its name away until it is back",
        )
    return ok(subject, f"synchronous_standby_names = {facts.standbys}")


def connections(facts: Facts) -> Finding:
    subject = "connections"
    left = facts.connections - facts.taken
    numbers = f"{facts.taken} of {facts.connections} are taken"
    if left < NODE_CONNECTIONS:
        return warning(
            subject,
            f"{numbers}: too few are left for one more node, which takes about {NODE_CONNECTIONS}",
            "raise max_connections, or put PgBouncer between (pool_mode = transaction)",
        )
    return ok(subject, numbers)


def pooler(facts: Facts) -> Finding:
    if facts.pooled:
        return ok("pooler", "one is between, in transaction mode: no statement stays prepared")
    return ok("pooler", "none is between")


def webhooks(facts: Facts) -> Finding | None:
    """What webhooks take: the package that calls them, and the keys that open their secrets."""
    subject = "webhooks"
    if not facts.webhooks:
        return None
    if not installed("aiohttp"):
        return failure(
            subject,
            f"there are {facts.webhooks:,}, and the package that calls them is not installed",
            "pip install 'restante[webhooks]' (the server does not start otherwise)",
        )
    if facts.sealed_with is not None and facts.sealed_with not in facts.own_keys:
        return failure(
            subject,
            f"there are {facts.webhooks:,}, and this machine has not the key with which the nodes seal secrets",
            "copy the file of secrets_key_file from another node (the server does not start otherwise)",
        )
    return ok(subject, f"there are {facts.webhooks:,}, and this machine can call them")


def vacuum(facts: Facts) -> Finding:
    if facts.autovacuum == "off":
        return failure(
            "autovacuum",
            "it is off: the tables of what is under way swell until everything is slow",
            "set autovacuum = on",
        )
    return ok("autovacuum", "on")


CHECKS: Final = (version, schema, durability, standbys, connections, pooler, webhooks, vacuum)
