"""Codecs: what travels and what is digested, as bytes. Pure."""
