"""Jinja2 as the page uses it: everything is escaped, and a name that a template does not know is an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from restante.desk import words


def environment(packages: Sequence[str], **known: Any) -> Environment:
    """The templates of these packages, the first that has one, with the filters of ``words``.

    ``known`` are names that all of them may use.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for name in (
        "age",
        "compact",
        "count",
        "instant",
        "iso",
        "per_minute",
        "plural",
        "share",
        "size",
    ):
        made.filters[name] = getattr(words, name)
    made.globals.update(known)
    return made
