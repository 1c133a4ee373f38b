"""How many calls are let in at a time: the others wait their turn, or hear at once that there are too many.

Without it a herd of calls is worked on all together, each turn of the loop takes longer than a decision of Redis may,
all are refused after all that work, and come again.
"""

import asyncio
from collections import deque
from types import TracebackType

from gateway.cut import Cut
from gateway.errors import LimitsUnavailable, Overloaded

AT_ONCE_MAX = 128
"""admissions under way: enough to fill the pipe to a distant Redis, and for one node of a cluster to hang; few enough
for Redis to answer in time when it is what is short, and for a turn of the loop to be short"""
WAITING_MAX = 4_096
"""calls that wait for that: one or two seconds of work, which is little for a model to answer in"""
WAIT_S_MAX = 5.0
"""where Redis is so slow that they take longer"""
SILENT_S = 0.1
"""after so long without any answer, one that did not come is taken for all"""


class Gate:
    """To be entered, again and again; in the order of coming.

    Raises `Overloaded` for those who would have to wait, and are too many or wait too long. When Redis gives nobody an
    answer, nobody waits on to ask it too: all hear `LimitsUnavailable`.
    """

    def __init__(
        self, at_once: int = AT_ONCE_MAX, waiting_max: int = WAITING_MAX, wait_s_max: float = WAIT_S_MAX
    ) -> None:
        self._free = at_once
        self._waiting_max = waiting_max
        self._wait_s_max = wait_s_max
        self._line: deque[asyncio.Future[None]] = deque()
        self._heard_s = 0.0
        """when Redis last gave one an answer"""
        self.unread = 0
        """calls that do not even wait here yet: they were left on their connections"""

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def full(self) -> bool:
        return len(self._line) >= self._waiting_max

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
        elif self.full:
            raise Overloaded
        else:
            await self._wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line or kind:
            self._listen(kind)
        self._let_in()

    def _listen(self, kind: type[BaseException] | None) -> None:
        now_s = asyncio.get_running_loop().time()
        if kind is not LimitsUnavailable:
            self._heard_s = now_s
        elif now_s - self._heard_s >= SILENT_S:
            for turn in self._line:
                if not turn.done():
                    turn.set_exception(LimitsUnavailable())

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            with Cut(self._wait_s_max) as late:
                await turn
        except BaseException:
            self._give_up(turn)
            raise
        if late.caught:
            self._give_up(turn)
            raise Overloaded

    def _give_up(self, turn: "asyncio.Future[None]") -> None:
        """Whose turn it just was lets in the next."""
        if turn in self._line:
            self._line.remove(turn)
        elif not turn.cancelled() and turn.exception() is None:
            self._let_in()

    def _let_in(self) -> None:
        """One place is free: it goes to the first that waits."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
