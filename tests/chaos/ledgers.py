"""The ledgers of a run under faults: what clients got, what nodes did, what rows say, what was killed when.

One call has three names: `mark` (the hash of an address of its own) in rows, `tag` (in its prompt) at the nodes, and
`request_id` once its client has been told. All times are Unix seconds of one machine.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

End = Literal["finished", "failed", "left", "broken", "unreached"]
Kind = Literal["gateway", "worker", "redis", "postgres", "node"]


class Call(Struct, frozen=True, kw_only=True):
    """One call as its client saw it. It is never repeated.

    finished: the whole answer came. failed: an error was told, as a status or amid the answer. left: the client went by
    itself. broken: the connection ended without a word. unreached: there was no connection.
    """

    mark: str
    tag: str
    key_id: str
    path: str
    streamed: bool
    replica: str
    prompt_tokens_max: int
    """no estimate of the prompt is above this"""
    began_s: float
    ended_s: float
    end: End
    status: int = 0
    """0: none came"""
    code: str = ""
    """of the error"""
    request_id: str = ""
    end_user: str = ""
    arrivals: tuple[float, ...] = ()
    """when each token came"""
    told: tuple[int, int] | None = None
    """prompt and completion tokens, where the answer tells them"""


class Work(Struct, frozen=True, kw_only=True):
    """One request at one node. `tag` is empty for a trial of the gateway's own."""

    node: str
    tag: str
    prompt_tokens: int = 0
    tokens_sent: int = 0
    completed: bool = False
    closed: bool = True
    """False: the node was killed while it worked, so what it had sent is only known about"""
    at_s: float = 0.0


class Row(Struct, frozen=True, kw_only=True):
    """What matters of a row of usage_logs."""

    id: str
    mark: str
    key_id: str
    team_id: str
    created_s: float
    month: str
    endpoint: str
    streamed: bool
    end_user: str
    status: str
    http_status: int
    prompt_tokens: int
    completion_tokens: int
    estimated: bool
    credits_micro: int
    team_credits_micro: int


class Fault(Struct, frozen=True, kw_only=True):
    """One kill -9: it was sent at `killed_s`, the process was gone at `dead_s`, the next one ready at `up_s`, and of
    use for certain at `serves_s`."""

    kind: Kind
    name: str
    killed_s: float
    dead_s: float
    up_s: float
    serves_s: float = 0.0


class Key(Struct, frozen=True, kw_only=True):
    """What a key's calls are to cost whom."""

    id: str
    metered: bool = False
    team_id: str = ""
    team_metered: bool = False


class Tariff(Struct, frozen=True):
    """Millionths of a credit: of a call, of 1,000 tokens of its prompt, of its answer."""

    request: int
    prompt: int
    completion: int

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        return self.request - (-prompt_tokens * self.prompt // 1000) - (-completion_tokens * self.completion // 1000)


class Sums(Struct, frozen=True):
    """Of all rows of a key: how many, prompt and completion tokens, credits of key and team."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    credits_micro: int = 0
    team_credits_micro: int = 0


class Ledgers(Struct, frozen=True, kw_only=True):
    """A whole run. `sums` are told by others than the rows: where, key id, sums."""

    calls: Sequence[Call]
    works: Sequence[Work]
    rows: Sequence[Row]
    faults: Sequence[Fault]
    keys: Sequence[Key]
    tariff: Tariff
    sums: Sequence[tuple[str, str, Sums]] = ()
    spent: Sequence[tuple[str, int]] = ()
    """key id, and its tokens of the month as Redis counts them"""


def summed(rows: Iterable[Row]) -> dict[str, Sums]:
    """The sums of rows by key."""
    found: dict[str, Sums] = {}
    for row in rows:
        was = found.get(row.key_id, Sums())
        found[row.key_id] = Sums(
            was.calls + 1,
            was.prompt_tokens + row.prompt_tokens,
            was.completion_tokens + row.completion_tokens,
            was.credits_micro + row.credits_micro,
            was.team_credits_micro + row.team_credits_micro,
        )
    return found
