"""Webhooks: the service calls the client, and the answer to the call settles the lease.

``dispatcher`` runs a ``worker`` for each webhook; ``calls`` says what is asked and answered, ``calling`` does it over
HTTP to addresses that ``resolving`` has checked; ``outcomes``, ``breaker`` and ``bucket`` decide, and do nothing else.
"""
