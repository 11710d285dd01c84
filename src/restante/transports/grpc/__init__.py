"""gRPC: the service Delivery of restante.proto on a listener of its own. Needs the extra ``grpc``."""

from restante.transports.grpc.listener import Listener, admin_listener, public_listener

__all__ = ["Listener", "admin_listener", "public_listener"]
