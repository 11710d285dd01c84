"""A client for each transport, under the transport's name. See ``restante.testing.transports``."""
