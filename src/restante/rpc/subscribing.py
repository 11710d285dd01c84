"""Subscribe: notifications one way; what comes back are calls of Settle."""

from __future__ import annotations

from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.engine.stream import Stream
from restante.model import Actor
from restante.rpc.handing_out import drain_of, error_of, hand_out, open_stream
from restante.rpc.link import Line, LinkClosed
from restante.wire.proto import restante_pb2 as pb


async def subscribe(broker: Broker, actor: Actor, request: pb.SubscribeRequest, line: Line) -> None:
    """One call of Subscribe: until the client leaves (``LinkClosed``) or the service ends it (raises with what)."""
    stream: Stream | None = None

    def end(ending: Ending) -> None:
        if stream is not None:
            stream.end(displaced=ending is Ending.DISPLACED)

    async def send(notifications: list[pb.Notification]) -> None:
        if line.gone():
            raise LinkClosed
        await line.write(pb.SubscribeResponse(notifications=notifications))

    with broker.attachments.attach(actor, end) as attachment:
        stream = await open_stream(broker, actor, request)
        attachment.become(f"{stream.queue}/{stream.id}")
        with stream:
            if attachment.ending is not None:
                # While the stream was being opened.
                stream.end()
            unwatch = line.watch(stream.end)
            try:
                attached = pb.Attached(resume=stream.id)
                await line.write(pb.SubscribeResponse(attached=attached))
                await hand_out(stream, send, resumed=bool(request.resume))
                if attachment.ending is Ending.DRAIN:
                    await line.write(pb.SubscribeResponse(drain=drain_of(broker)))
            finally:
                unwatch()
    if attachment.ending is None:
        raise LinkClosed
    raise error_of(attachment.ending)
