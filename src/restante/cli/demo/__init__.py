"""``restante demo``: a real server, a publisher, three clients of different temper, and the books in the end.

Everything goes over HTTP, as it would between companies. Start reading at ``play.run``.
"""

from restante.cli.demo.play import Plan, run

__all__ = ["Plan", "run"]
