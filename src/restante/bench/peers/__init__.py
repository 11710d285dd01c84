"""The other systems that W1 is measured against. A new one is one file here and one line below."""

from __future__ import annotations

from restante.bench.peers.base import Peer
from restante.bench.peers.beanstalkd import Beanstalkd
from restante.bench.peers.nats import Nats
from restante.bench.peers.rabbitmq import RabbitMq
from restante.bench.peers.redis import Redis
from restante.bench.peers.sqlqueue import SqlQueue

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (RabbitMq(), Nats(), Beanstalkd(), Redis(), SqlQueue())
}

__all__ = ["PEERS", "Peer"]
