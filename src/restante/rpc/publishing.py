"""PublishStream: batches one way, what came of them the other, in between as many as the publisher likes to have."""

from __future__ import annotations

from typing import Any, ClassVar

from restante import auth
from restante.engine.attachments import Attachment, Ending
from restante.errors import RestanteError
from restante.model import Role
from restante.rpc.dialogue import Dialogue
from restante.rpc.handing_out import HEARTBEAT_SECONDS
from restante.rpc.messages import to_problem, to_publications, to_publish_results
from restante.wire.proto import restante_pb2 as pb


class PublishingStream(Dialogue[pb.PublishStreamRequest, pb.PublishAnswer]):
    """One call of PublishStream."""

    response: ClassVar[type[Any]] = pb.PublishStreamResponse

    async def _converse(self, attachment: Attachment) -> None:
        auth.require(self._actor, Role.PUBLISHER, Role.ADMIN)
        beating = self._start(self._beat())
        await self._carry_out_all(self._carry_out)
        beating.cancel()

    async def _carry_out(self, request: pb.PublishStreamRequest) -> None:
        publications = to_publications(request.notifications)
        size = sum(len(publication.body) for publication in publications)
        publishing = await self._broker.begin_batch(publications, self._actor)
        ref = request.ref
        self._begun(
            ref,
            len(publications),
            size,
            publishing,
            lambda: pb.PublishAnswer(ref=ref, results=to_publish_results(publishing.known())),
        )

    async def _beat(self) -> None:
        while True:
            await self._broker.clock.wait(HEARTBEAT_SECONDS)
            await self._send()

    def _refusal(self, ref: str, error: RestanteError) -> pb.PublishAnswer:
        return pb.PublishAnswer(ref=ref, problem=to_problem(error))

    def _leave(self, ending: Ending) -> bool:
        return True
