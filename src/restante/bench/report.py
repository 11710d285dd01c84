"""The report of a run, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from restante.bench.results import (
    Backlog,
    FanOutResult,
    LaneResult,
    Results,
    cpu_per_operation,
    median_took,
    per_operation,
)
from restante.bench.specs import IdleFigures, ProbeFigures, Took, WakeFigures
from restante.bench.stats import median

# From here on the generator, not the server, may be what a rate shows.
_BUSY_GENERATOR = 0.9
# More of a core than this for the rest of the machine, and something else runs on it. The kernel's
# threads that write to the disk use some too.
_BUSY_MACHINE = 0.3
_MIB = 1024 * 1024


def markdown(results: Results, plot: str | None) -> str:
    """The whole report. `plot` is the name of the picture beside it, if there is one."""
    parts = [_machine(results)]
    if results.lanes:
        parts.append(_lanes(results, plot))
    if results.wake is not None:
        parts.append(_wake(results.wake))
    if results.idle is not None:
        parts.append(_idle(results.idle))
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
    scale = "" if results.scale == 1 else f" Sizes of W2 to W6 scaled by {results.scale:g}."
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
        ]
    )


def _lanes(results: Results, plot: str | None) -> str:
    own = next((lane for lane in results.lanes if lane.system == "restante"), None)
    ordered = sorted(results.lanes, key=lambda lane: -lane.lifecycles_per_second)
    rows = [_lane_row(lane, own) for lane in ordered]
    head = (
        "system",
        "lifecycles/s",
        "lowest to highest",
        "against Restante",
        "server CPU each",
        "confirm p50",
        "confirm p99",
        "generator CPU each",
        "generator's core",
        "others' core",
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


def _wake(wake: WakeFigures) -> str:
    figures = [_milli(wake.p50_seconds), _milli(wake.p99_seconds), _milli(wake.max_seconds)]
    return "\n".join(
        [
            "## W2: wake",
            "",
            f"{wake.probes:,} publishes, one at a time, each to a random queue with an idle long "
            "poll; from sending the request to the notification in hand.",
            "",
            table(("", "p50", "p99", "longest"), [["publish to hand", *figures]]),
        ]
    )


def _idle(idle: IdleFigures) -> str:
    each = (idle.rss_after_bytes - idle.rss_before_bytes) / idle.polls / 1024
    row = [
        f"{idle.polls:,}",
        f"{idle.rss_before_bytes / _MIB:,.0f} MiB",
        f"{idle.rss_after_bytes / _MIB:,.0f} MiB",
        f"{each:,.1f} KiB",
    ]
    head = ("idle long polls", "server's memory before", "with them", "for each")
    return "\n".join(["## W3: idle", "", table(head, [row])])


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
