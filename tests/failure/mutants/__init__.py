"""Servers that are wrong in one way each: run as a module, they patch themselves and then serve."""
