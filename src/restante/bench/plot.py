"""W1 and the comparison of transports as pictures: panels of bars, drawn by matplotlib into SVG files."""

from __future__ import annotations

from pathlib import Path

from restante.bench.results import LaneResult, TransportResult

_OWN, _OTHER = "#b5482a", "#8f979e"


class PlotUnavailable(Exception):
    """matplotlib is not installed."""


def require_matplotlib() -> None:
    """Raise PlotUnavailable, with what to do about it, when no plot can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise PlotUnavailable(
            "matplotlib is not installed, so there will be no plot; "
            "`pip install 'restante[bench]'` brings it"
        ) from None


def draw_lanes(lanes: list[LaneResult], path: Path) -> None:
    """Lifecycles a second and server CPU for each, the fastest on top. Raises PlotUnavailable."""
    # Ordered by rate in both panels, so that a system is in one row.
    ordered = sorted(lanes, key=lambda lane: lane.lifecycles_per_second)
    names = [f"{lane.title}\n{lane.version}".strip() for lane in ordered]
    colours = [_OWN if lane.system == "restante" else _OTHER for lane in ordered]
    panels = [
        ("Durable lifecycles a second", [lane.lifecycles_per_second for lane in ordered]),
        ("Server CPU for each, µs", [lane.server_cpu_seconds_each * 1e6 for lane in ordered]),
    ]
    _draw_bars(names, panels, colours, path)


def draw_transports(transports: list[TransportResult], path: Path) -> None:
    """Latency, server CPU, bytes and memory of each transport. Raises PlotUnavailable."""
    ordered = transports[::-1]
    panels = [
        ("Latency, p50, ms", [one.alone.p50_seconds * 1e3 for one in ordered]),
        ("Server CPU, µs", [one.cpu_seconds_each * 1e6 for one in ordered]),
        ("Bytes on the wire", [one.wire_bytes_each for one in ordered]),
        ("Memory when idle, KiB", [(one.idle_bytes_each or 0.0) / 1024 for one in ordered]),
    ]
    _draw_bars([one.title for one in ordered], panels, [_OWN] * len(ordered), path)


def _draw_bars(
    names: list[str], panels: list[tuple[str, list[float]]], colours: list[str], path: Path
) -> None:
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # A fixed salt and no date: the same figures give the same file.
    with rc_context({"svg.hashsalt": "restante", "font.size": 10, "svg.fonttype": "none"}):
        width = 4 + 3 * len(panels)
        figure = Figure(figsize=(width, 1.2 + 0.62 * len(names)), layout="constrained")
        for number, (title, values) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), number + 1)
            bars = axes.barh(names if number == 0 else range(len(names)), values, color=colours)
            labels = [_label(value) for value in values]
            axes.bar_label(bars, labels=labels, padding=4)
            axes.set_title(title, loc="left")
            axes.set_xlim(0, max(values) * 1.25)
            axes.spines[["top", "right", "bottom"]].set_visible(False)
            axes.tick_params(bottom=False, labelbottom=False, left=False)
            if number:
                axes.set_yticks([])
        figure.savefig(path, format="svg", metadata={"Date": None})


def _label(value: float) -> str:
    if not value:
        return "none"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
