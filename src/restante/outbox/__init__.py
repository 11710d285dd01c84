"""Publishing in a transaction of one's own: a row beside the change that it tells of, and what takes it from there.

Imported by the publisher's program, so it knows the rules only; what carries rows over from other databases
(``relay``) uses the client.
"""

from restante.outbox.writing import publish_in

__all__ = ["publish_in"]
