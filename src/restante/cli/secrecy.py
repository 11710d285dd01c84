"""URLs that may hold a password: given in the environment, for every user of the machine sees a command line."""

from __future__ import annotations

import typer

from restante.errors import ConfigurationError
from restante.redaction import holds_secret


def without_secret(context: typer.Context, parameter: typer.CallbackParam, url: str) -> str:
    """The URL itself; ``ConfigurationError`` where it holds a secret and was given as a flag."""
    source = context.get_parameter_source(str(parameter.name))
    if source is not None and source.name == "COMMANDLINE" and holds_secret(url):
        raise ConfigurationError(
            f"{parameter.opts[0]} holds a password, which every user of this machine could see;"
            f" put it into {parameter.envvar}"
        )
    return url
