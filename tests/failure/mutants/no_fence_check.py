"""Lets any lease of a delivery settle it, the current one or not."""

from __future__ import annotations

from typing import Any

from restante import lifecycle
from restante.cli import main
from restante.stores.sqlite import writes


def decide_settle(standing: lifecycle.Standing, fence: int, *rest: Any, **named: Any) -> Any:
    return lifecycle.decide_settle(standing, standing.fence, *rest, **named)


if __name__ == "__main__":
    writes.decide_settle = decide_settle  # type: ignore[attr-defined]
    main()
