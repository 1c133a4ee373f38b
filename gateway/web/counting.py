"""POST /v1/messages/count_tokens: how long a prompt is, without making a backend work. It costs nothing."""

from typing import Any

import msgspec

from gateway.core import limits, names
from gateway.core.routing import OBJECTIONS
from gateway.dialects.asked import Dialect
from gateway.errors import GatewayError, MethodNotAllowed
from gateway.ports import Inspector
from gateway.web import body, headers, intent
from gateway.web.calls import CallDeps, refuse
from gateway.web.headers import Headers
from gateway.web.replies import Reply


class CountEndpoint:
    """Answers the route. `dialect` reads requests and words errors; what it would ask of a backend is counted."""

    def __init__(self, endpoint: str, dialect: Dialect) -> None:
        self.endpoint = endpoint
        self._dialect = dialect

    async def answer(self, deps: CallDeps, inspector: Inspector, scope: Any, receive: Any, send: Any) -> None:
        call_id = deps.new_id()
        reply = Reply(send, self._dialect, call_id, beat_s=deps.beat_s, routing_headers=False)
        try:
            tokens, about = await self._count(deps, inspector, scope, receive)
        except GatewayError as error:
            await refuse(deps, self.endpoint, call_id, reply, error)
            return
        await reply.whole(200, msgspec.json.encode({"input_tokens": tokens}), about)

    async def _count(self, deps: CallDeps, inspector: Inspector, scope: Any, receive: Any) -> tuple[int, Headers]:
        """An estimate, for only a backend that evaluates the prompt can count it; and the key's limits as headers."""
        if scope["method"] != "POST":
            raise MethodNotAllowed
        statement = await inspector.inspect(*deps.door.presented(scope))
        asked = body.decoded(await deps.intake.read(receive, scope["headers"]), self._dialect.parse)
        wish = intent.meant(deps.fleet, asked.model)
        usable = names.allowed(statement.models, wish.model)
        objection = deps.fleet.objection(wish.model) if usable else "model_not_found"
        if objection and objection != "no_backend":  # nothing is asked of one
            raise OBJECTIONS[objection]
        size = asked.upstream.size()
        deps.policy.apply(asked.upstream, size, wish.alias)
        return limits.prompt_expected(size.text_bytes, size.messages, size.images), headers.of_levels(statement.levels)
