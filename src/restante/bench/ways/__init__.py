"""Restante's transports as the load generator speaks them, by name."""

from restante.bench.ways.base import Collecting, Way, way_of
from restante.bench.ways.events import Events
from restante.bench.ways.grpc import Grpc
from restante.bench.ways.grpc_streams import GrpcStreams
from restante.bench.ways.longpoll import LongPoll
from restante.bench.ways.webhook import Webhook
from restante.bench.ways.websocket import BinaryWebSocket, WebSocket

WAYS: dict[str, Way] = {
    way.name: way
    for way in (
        LongPoll(),
        WebSocket(),
        BinaryWebSocket(),
        Events(),
        Grpc(),
        GrpcStreams(),
        Webhook(),
    )
}

__all__ = ["WAYS", "Collecting", "Way", "way_of"]
