"""Shows every queue to every client."""

from __future__ import annotations

from typing import Any

from restante import auth
from restante.cli import main


def require_sight(actor: Any, queue: Any) -> None:
    """Whoever asks."""


if __name__ == "__main__":
    auth.require_sight = require_sight
    main()
