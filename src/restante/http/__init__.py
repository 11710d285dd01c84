"""ASGI plumbing that transports and web pages share: routes, requests, answers, authentication.

Raw ASGI and a small router of our own: a framework's request objects and middleware cost as much per request as the
whole of a publish (docs/decisions/0003-raw-asgi.md).
"""
