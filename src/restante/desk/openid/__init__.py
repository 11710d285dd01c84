"""Signing in by OpenID Connect: ``provider`` asks the provider, ``flow`` leads the browser there and back."""
