"""W1 as a picture: two panels of bars, drawn by matplotlib into an SVG file."""

from __future__ import annotations

from pathlib import Path

from restante.bench.results import LaneResult

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
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Ordered by rate in both panels, so that a system is in one row.
    ordered = sorted(lanes, key=lambda lane: lane.lifecycles_per_second)
    names = [f"{lane.title}\n{lane.version}".strip() for lane in ordered]
    colours = [_OWN if lane.system == "restante" else _OTHER for lane in ordered]
    panels = [
        ("Durable lifecycles a second", [lane.lifecycles_per_second for lane in ordered]),
        ("Server CPU for each, µs", [lane.server_cpu_seconds_each * 1e6 for lane in ordered]),
    ]
    # A fixed salt and no date: the same figures give the same file.
    with rc_context({"svg.hashsalt": "restante", "font.size": 10, "svg.fonttype": "none"}):
        figure = Figure(figsize=(10, 1.2 + 0.62 * len(ordered)), layout="constrained")
        for number, (title, values) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), number + 1)
            bars = axes.barh(names if number == 0 else range(len(names)), values, color=colours)
            axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=4)
            axes.set_title(title, loc="left")
            axes.set_xlim(0, max(values) * 1.18)
            axes.spines[["top", "right", "bottom"]].set_visible(False)
            axes.tick_params(bottom=False, labelbottom=False, left=False)
            if number:
                axes.set_yticks([])
        figure.savefig(path, format="svg", metadata={"Date": None})
