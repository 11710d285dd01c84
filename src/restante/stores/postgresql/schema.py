"""The database: its tables and their versions.

One row of ``deliveries`` is one delivery that has not ended: narrow, without the body, gone when it ends. What ended
is told by ``receipts``. ``tallies`` holds what a queue counts, and its row lock is what puts everything that happens
to a queue, on whatever node, one after the other. ``notifications`` (with the bodies) and ``receipts`` are partitioned
by time, so that they are dropped and not deleted; what a dropped partition's notifications were is told by
``archive`` (see ``retention.py``). Each state of a delivery has an index of its own, so that the first of a queue is
found in one step, whatever its backlog.

Every table on the way of a notification has the queue, or the notification's own number, in front of its keys.
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final = "restante"
OLDEST_SERVER: Final = 150_000
"""PostgreSQL 15, as ``server_version_num`` has it."""
MIGRATION_LOCK: Final = 0x52535445  # "RSTE"

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE meta (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE timeline (
        one boolean PRIMARY KEY DEFAULT true CHECK (one), offset_ms bigint NOT NULL, steps bigint NOT NULL,
        reached_ms bigint NOT NULL
    );
    INSERT INTO timeline VALUES (true, 0, 0, 0);
    CREATE TABLE clients (name text COLLATE "C" PRIMARY KEY, created_at bigint NOT NULL);
    CREATE TABLE queues (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE,
        owner text COLLATE "C" NOT NULL, settings text NOT NULL
    );
    CREATE INDEX queues_by_owner ON queues (owner, name);
    CREATE TABLE tallies (
        queue bigint PRIMARY KEY, version bigint NOT NULL DEFAULT 1,
        seq bigint NOT NULL DEFAULT 0, receipts bigint NOT NULL DEFAULT 0, chain bytea NOT NULL,
        scheduled bigint NOT NULL DEFAULT 0, ready bigint NOT NULL DEFAULT 0, held bigint NOT NULL DEFAULT 0,
        leased bigint NOT NULL DEFAULT 0, dead bigint NOT NULL DEFAULT 0, acked bigint NOT NULL DEFAULT 0,
        superseded bigint NOT NULL DEFAULT 0, expired bigint NOT NULL DEFAULT 0, discarded bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
    CREATE TABLE pruned (queue bigint PRIMARY KEY, receipts bigint NOT NULL);
    CREATE TABLE keys (
        id text COLLATE "C" PRIMARY KEY, role text NOT NULL, name text COLLATE "C" NOT NULL,
        secret_hash bytea NOT NULL, created_at bigint NOT NULL, expires_at bigint, revoked_at bigint,
        label text NOT NULL, certificate_san text NOT NULL
    );
    CREATE INDEX keys_by_principal ON keys (role, name);
    CREATE TABLE subscriptions (
        id text COLLATE "C" PRIMARY KEY, pattern text NOT NULL, queue text NOT NULL, filter text NOT NULL
    );
    CREATE UNIQUE INDEX subscriptions_once ON subscriptions (pattern, queue, md5(filter));
    CREATE TABLE webhooks (
        queue text COLLATE "C" PRIMARY KEY, version bigint NOT NULL, webhook bytea NOT NULL
    );
    CREATE TABLE webhook_slots (
        slot smallint PRIMARY KEY, holder text COLLATE "C", held_until timestamptz
    ) WITH (fillfactor = 40);
    INSERT INTO webhook_slots (slot) SELECT generate_series(0, 255);

    CREATE SEQUENCE notification_numbers INCREMENT 1000;
    CREATE TABLE notifications (
        n bigint NOT NULL, published_at bigint NOT NULL, id text COLLATE "C" NOT NULL, topic text NOT NULL,
        content_type text NOT NULL, attributes bytea, publisher text NOT NULL,
        body_sha256 bytea NOT NULL, body_bytes integer NOT NULL, body bytea
    ) PARTITION BY RANGE (published_at);
    CREATE INDEX notifications_by_number ON notifications (n);
    CREATE INDEX notifications_by_id ON notifications (id);
    CREATE TABLE notifications_kept PARTITION OF notifications DEFAULT;
    CREATE TABLE archive (
        n bigint NOT NULL, published_at bigint NOT NULL, id text COLLATE "C" NOT NULL, topic text NOT NULL,
        content_type text NOT NULL, attributes bytea, publisher text NOT NULL,
        body_sha256 bytea NOT NULL, body_bytes integer NOT NULL
    ) PARTITION BY RANGE (published_at);
    CREATE INDEX archive_by_number ON archive (n);
    CREATE INDEX archive_by_id ON archive (id);
    CREATE TABLE archive_kept PARTITION OF archive DEFAULT;
    CREATE TABLE receipts (
        queue bigint NOT NULL, number bigint NOT NULL, at bigint NOT NULL, notification bigint NOT NULL,
        seq bigint NOT NULL, outcome text NOT NULL, fence bigint NOT NULL, entry bytea NOT NULL, digest bytea NOT NULL
    ) PARTITION BY RANGE (at);
    CREATE INDEX receipts_by_number ON receipts (queue, number);
    CREATE INDEX receipts_by_notification ON receipts (notification, queue);
    CREATE TABLE receipts_kept PARTITION OF receipts DEFAULT;

    CREATE TABLE deliveries (
        queue bigint NOT NULL, seq bigint NOT NULL, notification bigint NOT NULL, published_at bigint NOT NULL,
        body_bytes integer NOT NULL, state smallint NOT NULL, due bigint, attempt integer NOT NULL,
        fence bigint NOT NULL, forgiving boolean NOT NULL, parked boolean NOT NULL, overtaken boolean NOT NULL,
        ordering_key text COLLATE "C", collapse_key text COLLATE "C", expires bigint,
        leased_at bigint, consumer text COLLATE "C", holder bytea, dead_at bigint, reason bytea,
        PRIMARY KEY (queue, seq)
    ) WITH (
        fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.2,
        autovacuum_vacuum_cost_delay = 1
    );
    CREATE INDEX deliveries_ready ON deliveries (queue, seq) WHERE state = 1;
    CREATE INDEX deliveries_leased ON deliveries (queue, seq) WHERE state = 3;
    CREATE INDEX deliveries_dead ON deliveries (queue, seq) WHERE state = 4;
    CREATE INDEX deliveries_due ON deliveries (due) WHERE state IN (0, 3);
    CREATE INDEX deliveries_expiring ON deliveries (expires) WHERE expires IS NOT NULL AND state IN (0, 1, 2);
    CREATE INDEX deliveries_ordered ON deliveries (queue, ordering_key, state, seq) WHERE ordering_key IS NOT NULL;
    CREATE INDEX deliveries_collapsed ON deliveries (queue, collapse_key, seq) WHERE collapse_key IS NOT NULL;
    CREATE TABLE idempotency (
        publisher text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, fingerprint bytea NOT NULL,
        notification bigint NOT NULL, id text NOT NULL, places text NOT NULL, at bigint NOT NULL,
        PRIMARY KEY (publisher, key)
    );
    CREATE INDEX idempotency_by_age ON idempotency (at);

    CREATE TABLE outbox (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE,
        publisher text NOT NULL, queue text NOT NULL DEFAULT '', topic text NOT NULL DEFAULT '',
        content_type text NOT NULL, attributes text NOT NULL DEFAULT '{}', body bytea NOT NULL,
        ordering_key text NOT NULL DEFAULT '', collapse_key text NOT NULL DEFAULT '',
        deliver_after_seconds double precision NOT NULL DEFAULT 0, expires_after_seconds double precision,
        refused text, written_at timestamptz NOT NULL DEFAULT clock_timestamp()
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
    CREATE INDEX outbox_waiting ON outbox (position) WHERE refused IS NULL;

    CREATE TABLE change_count (one boolean PRIMARY KEY DEFAULT true CHECK (one), version bigint NOT NULL);
    INSERT INTO change_count VALUES (true, 1);
    CREATE TABLE changelog (version bigint NOT NULL, item integer NOT NULL, subject text NOT NULL, name text NOT NULL,
        PRIMARY KEY (version, item));
    CREATE TABLE nodes (
        id text COLLATE "C" PRIMARY KEY, name text NOT NULL, version text NOT NULL, url text NOT NULL,
        started_at bigint NOT NULL, draining boolean NOT NULL, connections integer NOT NULL,
        webhooks integer NOT NULL, calls_webhooks boolean NOT NULL, beat_at timestamptz NOT NULL
    );
    """,
    """
    CREATE TABLE papers (
        kind text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, version bigint NOT NULL,
        content bytea NOT NULL, expires_at bigint, PRIMARY KEY (kind, key)
    ) WITH (
        fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 1
    );
    CREATE INDEX papers_by_expiry ON papers (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX deliveries_scheduled ON deliveries (queue, seq) WHERE state = 0;
    CREATE INDEX deliveries_waiting ON deliveries (queue, seq) WHERE state = 2;
    """,
    """
    CREATE TABLE seals (
        queue bigint NOT NULL, first bigint NOT NULL, count integer NOT NULL, place bigint NOT NULL,
        PRIMARY KEY (queue, first)
    );
    CREATE TABLE sealed (queue bigint PRIMARY KEY, receipts bigint NOT NULL) WITH (
        fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 1
    );
    """,
)
VERSION: Final = len(MIGRATIONS)
