"""The report of a run, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from restante.bench.results import (
    Backlog,
    FanOutResult,
    LaneResult,
    Neighbours,
    Results,
    TransportResult,
    cpu_per_operation,
    median_took,
    per_operation,
)
from restante.bench.specs import IdleFigures, ProbeFigures, Took, WakeFigures
from restante.bench.stats import median
from restante.bench.ways import WAYS

# From here on the generator, not the server, may be what a rate shows.
_BUSY_GENERATOR = 0.9
# More of a core than this for the rest of the machine, and something else runs on it. The kernel's
# threads that write to the disk use some too.
_BUSY_MACHINE = 0.3
_MIB = 1024 * 1024
_LANES = 64


def markdown(results: Results, plot: str | None) -> str:
    """The whole report. `plot` is the name of the picture beside it, if there is one."""
    parts = [_machine(results)]
    if results.lanes:
        parts.append(_lanes(results, plot))
    if results.wakes:
        parts.append(_wake(results.wakes))
    if results.idles:
        parts.append(_idle(results.idles))
    if results.neighbours:
        parts.append(_neighbours(results.neighbours))
    if results.transports:
        parts.append(transports_table(results.transports))
    parts.extend(_backlog(backlog) for backlog in results.backlogs)
    if results.drain is not None:
        parts.append(_drain(results.drain))
    if results.fan_out is not None:
        parts.append(_fan_out(results.fan_out))
    if results.failures:
        lines = [f"- {failure.splitlines()[0]}" for failure in results.failures]
        parts.append("\n".join(["## Failed", "", *lines]))
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines.extend("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(lines)


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} µs"


def _milli(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"


def _machine(results: Results) -> str:
    machine = results.machine
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    scale = "" if results.scale == 1 else f" Sizes of W2 to W7 scaled by {results.scale:g}."
    return "\n".join(
        [
            "# Benchmark",
            "",
            f"Run at {results.started_at}, {results.rounds} rounds, medians.{scale}",
            "",
            f"- Machine: {machine.cores} cores, {machine.cpu}, "
            f"{machine.memory_bytes / 1024**3:.0f} GiB, Linux {machine.kernel}; "
            "the load generator shares it with the server.",
            f"- Disk: {machine.file_system}; fdatasync after 4 KiB appended: "
            f"p50 {_milli(machine.fdatasync_p50_seconds)}, "
            f"p99 {_milli(machine.fdatasync_p99_seconds)}.",
            f"- Python {machine.python}, {libraries}.",
            *([f"- Restante on {results.setup}."] if results.setup else []),
        ]
    )


def _lanes(results: Results, plot: str | None) -> str:
    own = next((lane for lane in results.lanes if lane.system == "restante"), None)
    ordered = sorted(results.lanes, key=lambda lane: -lane.lifecycles_per_second)
    # Where a database does part of the work, what each part of it all takes is told apart.
    shared = any(lane.store_cpu_seconds_each for lane in ordered)
    rows = [_lane_row(lane, own) + (_parts_of_cpu(lane) if shared else []) for lane in ordered]
    parts = ("of it the nodes", "PostgreSQL", "the waker") if shared else ()
    head = (
        "system",
        "lifecycles/s",
        "lowest to highest",
        "against the first of ours",
        "server CPU each",
        "confirm p50",
        "confirm p99",
        "generator CPU each",
        "generator's core",
        "others' core",
        *parts,
    )
    lines = [
        "## W1: durable lifecycles",
        "",
        "64 publishers each awaiting their confirm, 64 consumers acking singly, 64 queues, 1 KiB, "
        f"durable at publish and at ack; windows of {results.seconds:g} s on a fresh store.",
        "",
        table(head, rows),
    ]
    if any(lane.generator_utilisation > _BUSY_GENERATOR for lane in ordered):
        lines += ["", "(*) The generator used up its core: the rate is a lower bound."]
    if any(lane.other_utilisation > _BUSY_MACHINE for lane in ordered):
        lines += ["", "Other programs kept the machine busy meanwhile: the rates say little."]
    if plot is not None:
        lines += ["", f"![Lifecycles a second and server CPU for each]({plot})"]
    lines += ["", "Settings, and what each acknowledgement means:", ""]
    lines += [f"- {lane.title} {lane.version}: {lane.settings}." for lane in ordered]
    lines += [f"- {title}: not installed, left out." for title in results.missing_peers]
    return "\n".join(lines)


def _lane_row(lane: LaneResult, own: LaneResult | None) -> list[str]:
    rate = lane.lifecycles_per_second
    rates = [window.completed / window.seconds for window in lane.windows]
    bound = " (*)" if lane.generator_utilisation > _BUSY_GENERATOR else ""
    return [
        f"{lane.title} {lane.version}".strip(),
        f"{rate:,.0f}{bound}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{rate / own.lifecycles_per_second:.2f}" if own is not None else "",
        _micro(lane.server_cpu_seconds_each),
        _milli(lane.of(lambda window: window.confirm_p50_seconds)),
        _milli(lane.of(lambda window: window.confirm_p99_seconds)),
        _micro(lane.generator_cpu_seconds_each),
        f"{lane.generator_utilisation:.0%}",
        f"{lane.other_utilisation:.0%}",
    ]


def _parts_of_cpu(lane: LaneResult) -> list[str]:
    store, waker = lane.store_cpu_seconds_each, lane.waker_cpu_seconds_each
    if not store:
        return ["-", "-", "-"]
    nodes = max(lane.server_cpu_seconds_each - store - waker, 0.0)
    return [_micro(part) if part else "-" for part in (nodes, store, waker)]


def _wake(wakes: Mapping[str, WakeFigures]) -> str:
    rows = [
        [
            WAYS[way].title,
            _milli(wake.p50_seconds),
            _milli(wake.p99_seconds),
            _milli(wake.max_seconds),
        ]
        for way, wake in wakes.items()
    ]
    probes = max(wake.probes for wake in wakes.values())
    return "\n".join(
        [
            "## W2: wake",
            "",
            f"{probes:,} publishes over HTTP, one at a time, each to a random queue with an idle "
            "consumer; from sending the request to the notification in hand.",
            "",
            table(("publish to hand", "p50", "p99", "longest"), rows),
        ]
    )


def _idle(idles: Mapping[str, IdleFigures]) -> str:
    rows = [
        [
            WAYS[way].title,
            f"{idle.idle:,}",
            f"{idle.rss_before_bytes / _MIB:,.0f} MiB",
            f"{idle.rss_after_bytes / _MIB:,.0f} MiB",
            f"{(idle.rss_after_bytes - idle.rss_before_bytes) / idle.idle / 1024:,.1f} KiB",
        ]
        for way, idle in idles.items()
    ]
    head = ("", "idle consumers", "server's memory before", "with them", "for each")
    return "\n".join(["## W3: idle", "", table(head, rows)])


def _neighbours(neighbours: Mapping[str, Neighbours]) -> str:
    rows = [
        [
            WAYS[way].title,
            f"{_milli(one.alone.p50_seconds)} / {_milli(one.alone.p99_seconds)}",
            f"{_milli(one.beside.p50_seconds)} / {_milli(one.beside.p99_seconds)}",
            f"{one.beside.p99_seconds / one.alone.p99_seconds:.2f}",
        ]
        for way, one in neighbours.items()
    ]
    count = max(one.never_reading for one in neighbours.values())
    head = ("publish to hand", "alone, p50 / p99", "beside them, p50 / p99", "ratio of p99")
    return "\n".join(
        [
            "## W7: bad neighbours",
            "",
            f"A steady load over {_LANES} queues, alone and beside {count:,} WebSockets with all the "
            "credit there is, on a queue of 512 KiB notifications, that never read.",
            "",
            table(head, rows),
        ]
    )


def transports_table(transports: Sequence[TransportResult]) -> str:
    """How the transports compare."""
    rows = [
        [
            one.title,
            f"{_milli(one.alone.p50_seconds)} / {_milli(one.alone.p99_seconds)}",
            f"{_milli(one.steady.p50_seconds)} / {_milli(one.steady.p99_seconds)}",
            _micro(one.cpu_seconds_each),
            f"{one.wire_bytes_each:,.0f}",
            one.requests,
            f"{one.wire.connections}",
            "-" if one.idle_bytes_each is None else f"{one.idle_bytes_each / 1024:,.1f} KiB",
        ]
        for one in transports
    ]
    rate = max(one.steady.delivered / one.steady.seconds for one in transports)
    return "\n".join(
        [
            "## The transports",
            "",
            "1 KiB notifications, published over HTTP whatever the transport, each acked by itself.",
            "Latency is from sending the publish to the notification in hand: one at a time with 100 "
            f"idle consumers, and at a steady {rate:,.0f} a second over {_LANES} queues. CPU is the "
            "server's at that rate, for each notification from its publish to its ack. Bytes are what the "
            "consumer's connections carry both ways, for each notification with its ack.",
            "",
            table(
                (
                    "",
                    "latency alone, p50 / p99",
                    "under load, p50 / p99",
                    "server CPU",
                    "bytes",
                    "requests",
                    "connections",
                    "memory when idle",
                ),
                rows,
            ),
        ]
    )


def _backlog(backlog: Backlog) -> str:
    if backlog.queues == 1:
        where = f"{backlog.notifications:,} waiting in one queue"
    else:
        where = f"{backlog.notifications:,} waiting in {backlog.queues:,} queues"
    figures: list[tuple[str, Callable[[ProbeFigures], float]]] = [
        ("publish, 32 in flight", lambda probe: per_operation(probe.publish)),
        ("publish, server CPU", lambda probe: cpu_per_operation(probe.publish)),
        ("publish, one at a time", lambda probe: probe.publish_alone_p50_seconds),
        ("lease and ack, 32 in flight", lambda probe: per_operation(probe.lease_ack)),
        ("lease and ack, server CPU", lambda probe: cpu_per_operation(probe.lease_ack)),
        ("lease and ack, one at a time", lambda probe: probe.lease_ack_alone_p50_seconds),
    ]
    rows = []
    for name, figure in figures:
        empty, full = backlog.both(figure)
        rows.append([name, _micro(empty), _micro(full), f"{full / empty:.2f}" if empty else "-"])
    ready = (backlog.ready_empty_seconds, backlog.ready_full_seconds)
    rows.append(
        ["start to ready", f"{ready[0]:.2f} s", f"{ready[1]:.2f} s", f"{ready[1] / ready[0]:.2f}"]
    )
    filled = backlog.notifications / backlog.fill.seconds
    return "\n".join(
        [
            f"## W4: backlog, {where}",
            "",
            f"Published in batches of 1,000 at {filled:,.0f} a second; the store then occupies "
            f"{backlog.store_bytes / _MIB:,.0f} MiB, {backlog.store_bytes / backlog.notifications:,.0f}"
            " bytes for each 1 KiB body.",
            "",
            table(("for each", "empty", "with the backlog", "ratio"), rows),
        ]
    )


def _drain(drain: Took) -> str:
    row = [
        f"{drain.operations:,}",
        f"{drain.seconds:.2f} s",
        f"{drain.operations / drain.seconds:,.0f}",
        _micro(cpu_per_operation(drain)),
    ]
    head = ("waiting in one queue", "until all are acked", "a second", "server CPU each")
    return "\n".join(
        [
            "## W5: drain",
            "",
            "One client, one connection, up to 1,000 at a time, the acks riding along.",
            "",
            table(head, [row]),
        ]
    )


def _fan_out(fan_out: FanOutResult) -> str:
    publishes = len(fan_out.publishes)
    grown = fan_out.grown_bytes / publishes
    cpu = median([took.server_cpu_seconds for took in fan_out.publishes])
    row = [
        f"{fan_out.queues:,}",
        f"{fan_out.body_bytes / _MIB:g} MiB",
        f"{median_took(fan_out.publishes):.3f} s",
        f"{cpu:.3f} s",
        f"{grown / _MIB:.1f} MiB",
        f"{fan_out.queues * fan_out.body_bytes / _MIB:,.0f} MiB",
    ]
    head = ("queues", "body", "one publish", "server CPU", "store grew by", "a copy each would be")
    return "\n".join(["## W6: fan-out", "", table(head, [row])])
