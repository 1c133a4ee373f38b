"""Commands as they leave a replica, with the call and its numbers left open; for `hammer`."""

from typing import Any

from gateway.core.call import Bill, Call
from gateway.core.keys import Credential
from gateway.core.limits import Estimate
from gateway.core.usage import Detail
from gateway.state.functions import Functions
from gateway.state.limiter import RedisLimiter
from gateway.state.teams import OTHER_TEAM
from tests.fakes import KEY, call, credential_of
from tests.integration.hammer import ID_OF_NOBODY, NUMBERS_OF_NOBODY, Prepared, packed

LET_IN = [1, b"", b"", 0, 1, 1, -1, -1, 0, -1, -1, 0, b"", 1]


class Listener:
    """A Redis that is never asked: it keeps what it is sent, and says of a key only which team it is in."""

    def __init__(self, team: str) -> None:
        self._team = team
        self.heard: tuple[Any, ...] = ()

    async def call(self, *command: Any) -> Any:
        self.heard = command
        if self._team and self._team not in command:
            return [OTHER_TEAM, self._team.encode()]
        return LET_IN


async def admission(key_id: str, team: str, *, prompt_max: int = 1, output_max: int = 0) -> Prepared:
    """Left open: the prompt expected, which without output is what it takes of the tokens a minute."""
    estimate = Estimate(prompt_max, NUMBERS_OF_NOBODY[0], output_max)
    listener = Listener(team)
    await RedisLimiter(Functions(listener), 1).admit(nobody(key_id, estimate), "", b"{}")
    return Prepared(packed(*listener.heard))


async def settlement(key_id: str, team: str, *, paid: bool) -> Prepared:
    """Left open: prompt and completion."""
    prompt, completion = NUMBERS_OF_NOBODY
    bill = Bill(
        prompt_tokens=prompt, completion_tokens=completion, paid=paid, estimated=False, whole=True, detail=Detail()
    )
    listener = Listener(team)
    await RedisLimiter(Functions(listener), 1).settle(nobody(key_id, Estimate(1, 1, 1)), bill)
    return Prepared(packed(*listener.heard))


def nobody(key_id: str, estimate: Estimate) -> Call:
    credential = Credential(key_id=key_id, digests=credential_of(KEY).digests)
    return call(id=ID_OF_NOBODY, credential=credential, estimate=estimate)
