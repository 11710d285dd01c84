"""The command line. Start reading at ``program``; each other module is a group of commands.

Modules of commands import only what every command needs. What is heavy (httpx, rich, uvloop, the server itself) is
imported by the command that uses it: ``restante --help`` and a failing command must answer at once.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of ``restante``. Ends the process."""
    from restante.cli.program import app

    app(prog_name="restante")
