"""Whether the ledgers of a run agree: every call of a client in the rows, once, for what it was worth. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from msgspec import Struct

from tests.chaos.bounds import LEAVE_S, Past
from tests.chaos.ledgers import Call, Key, Ledgers, Row, Sums, Tariff, Work, summed

CLOCK_S = 0.25
"""between a client's look at the clock and Redis'"""
ATTEMPTS_MAX = 2
TRIAL_TOKENS_MAX = 1
REAPED, GONE = "replica_lost", "client_gone"


class Finding(Struct, frozen=True):
    """A rule that does not hold, and for which call, row, work or key."""

    rule: str
    about: str
    words: str


def check(ledgers: Ledgers) -> list[Finding]:
    """Everything that is wrong; empty for a run that adds up."""
    calls = {call.mark: call for call in ledgers.calls}
    works = _by_tag(ledgers.works)
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in ledgers.rows:
        rows[row.mark].append(row)
    found = [*_strangers(ledgers, calls), *_sums(ledgers)]
    keys = {key.id: key for key in ledgers.keys}
    for call in ledgers.calls:
        past = Past(call, works.get(call.tag, []), ledgers.faults)
        mine = rows.get(call.mark, [])
        found += _counted(past, len(mine))
        for row in mine[:1]:
            about = [*_described(call, row), *_tokens(past, row), *_credits(keys[call.key_id], ledgers.tariff, row)]
            found += [Finding(rule, call.tag, f"{words}; {call} {row} {past.works}") for rule, words in about]
    return found


def _by_tag(works: Iterable[Work]) -> dict[str, list[Work]]:
    found: dict[str, list[Work]] = defaultdict(list)
    for work in works:
        found[work.tag].append(work)
    return found


def _strangers(ledgers: Ledgers, calls: dict[str, Call]) -> Iterator[Finding]:
    """Rows and work that no client asked for, and calls with one name."""
    tags = {call.tag for call in ledgers.calls}
    if len(calls) < len(ledgers.calls) or len(tags) < len(ledgers.calls):
        yield Finding("names", "calls", "two calls have one name")
    for row_id, count in Counter(row.id for row in ledgers.rows).items():
        if count > 1:
            yield Finding("doubled", row_id, f"{count} rows have this id")
    for row in ledgers.rows:
        if row.mark not in calls:
            yield Finding("nobody", row.id, f"no client made this call: {row}")
    for work in ledgers.works:
        if not work.tag and work.tokens_sent > TRIAL_TOKENS_MAX:
            yield Finding("work", work.node, f"more than a trial, for nobody: {work}")
        elif work.tag and work.tag not in tags:
            yield Finding("work", work.tag, f"no client asked for this: {work}")


def _counted(past: Past, rows: int) -> Iterator[Finding]:
    least, most = past.rows_expected
    if rows < least:
        yield Finding("lost", past.call.tag, f"no row for {past.call}, works {past.works}")
    if rows > most:
        yield Finding("doubled" if most else "refused", past.call.tag, f"{rows} rows for {past.call}")
    if past.call.end == "unreached" and past.works:
        yield Finding("work", past.call.tag, "a node worked for a call that reached nobody")
    if len(past.works) > ATTEMPTS_MAX:
        yield Finding("work", past.call.tag, f"asked of nodes {len(past.works)} times")
    if past.call.end == "broken" and past.killed_s is None:
        yield Finding("broken", past.call.tag, f"a connection broke and nobody was killed: {past.call}")


def _described(call: Call, row: Row) -> Iterator[tuple[str, str]]:
    """Whose, what and when."""
    said = (row.key_id, row.endpoint, row.streamed, row.end_user)
    if said != (call.key_id, call.path, call.streamed, call.end_user):
        yield "described", "key, endpoint, streamed or end user differ"
    if call.request_id and row.id != call.request_id:
        yield "described", "the client was told another id"
    noticed_s = call.ended_s + (LEAVE_S if call.end == "left" else CLOCK_S)
    if not call.began_s - CLOCK_S <= row.created_s <= noticed_s:
        yield "time", "it was not admitted while its client waited"
    if row.month != datetime.fromtimestamp(row.created_s, UTC).strftime("%Y%m"):
        yield "month", "not the month of its time"


def _tokens(past: Past, row: Row) -> Iterator[tuple[str, str]]:
    """Whether the row's status and tokens are those of what became of the call."""
    call, killed_s = past.call, past.killed_s
    if row.status == REAPED:
        if killed_s is None:
            yield "status", "its replica was not killed before it had to be settled"
        else:
            yield from _reaped(past, row, killed_s)
    elif row.status == "ok":
        if call.end == "failed":
            yield "status", "the client was told of a failure"
        yield from _exact(past, row)
    elif row.status == GONE:
        if call.end != "left":
            yield "status", "the client had not left"
        yield from _abandoned(past, row)
    else:
        if call.end == "finished" or (call.end == "left" and not past.disturbed):
            yield "status", "nothing had failed"
        if call.end == "failed" and (call.code, call.status) not in ((row.status, row.http_status), (row.status, 200)):
            yield "status", "the client was told another error"
        if row.prompt_tokens or row.completion_tokens or row.estimated:
            yield "failed", "a failed call is refunded in full"


def _exact(past: Past, row: Row) -> Iterator[tuple[str, str]]:
    """A good end: what the client was told, what it got, and what a node did."""
    call, charged = past.call, (row.prompt_tokens, row.completion_tokens)
    if row.estimated:
        yield "exact", "estimated, though the answer has its end"
    if call.told is not None and call.told != charged:
        yield "exact", f"the client was told {call.told}"
    if call.streamed and call.end == "finished" and len(call.arrivals) != row.completion_tokens:
        yield "exact", f"{len(call.arrivals)} tokens came"
    if row.completion_tokens < len(call.arrivals):
        yield "under", f"{len(call.arrivals)} tokens came"
    whole = any((work.prompt_tokens, work.tokens_sent) == charged for work in past.works if work.completed)
    if not whole and all(work.closed for work in past.works):
        yield "exact", "no node has done this"


def _abandoned(past: Past, row: Row) -> Iterator[tuple[str, str]]:
    """A client that left: at least what it got, at most what the node sent."""
    if not row.estimated:
        yield "estimated", "a client that left, and figures that claim to be exact"
    if row.completion_tokens < len(past.call.arrivals):
        yield "under", f"{len(past.call.arrivals)} tokens came"
    yield from _at_most(past, row)


def _reaped(past: Past, row: Row, killed_s: float) -> Iterator[tuple[str, str]]:
    """A killed replica: the last report, which is near what was delivered."""
    if not row.estimated:
        yield "estimated", "reaped, and figures that claim to be exact"
    if row.completion_tokens < (least := past.reported_min(killed_s)):
        yield "under", f"at least {least} tokens must have been reported"
    yield from _at_most(past, row)


def _at_most(past: Past, row: Row) -> Iterator[tuple[str, str]]:
    most = past.reported_max()
    if most is not None and row.completion_tokens > most:
        yield "over", f"at most {most} tokens can have been counted"
    if row.prompt_tokens > past.call.prompt_tokens_max:
        yield "over", f"the prompt cannot have more than {past.call.prompt_tokens_max}"


def _credits(key: Key, tariff: Tariff, row: Row) -> Iterator[tuple[str, str]]:
    """A good call costs its price, and so does one that was cut short after its first token."""
    paid = row.status == "ok" or row.completion_tokens > 0
    cost = tariff.cost(row.prompt_tokens, row.completion_tokens) if paid else 0
    if row.credits_micro != (cost if key.metered else 0):
        yield "credits", f"{cost} was its price"
    if row.team_id != key.team_id or row.team_credits_micro != (cost if key.team_metered else 0):
        yield "credits", f"{cost} was its price, of team {key.team_id!r}"


def _sums(ledgers: Ledgers) -> Iterator[Finding]:
    """What others say that the rows of a key come to."""
    truth = summed(ledgers.rows)
    told = {where: {key: sums for place, key, sums in ledgers.sums if place == where} for where, _, _ in ledgers.sums}
    for where, sums in told.items():
        for key in sorted(truth.keys() | sums.keys()):
            if truth.get(key, Sums()) != sums.get(key, Sums()):
                yield Finding("sums", key, f"{where} says {sums.get(key)}, the rows {truth.get(key)}")
    for key, tokens in ledgers.spent:
        rows = truth.get(key, Sums())
        if tokens != rows.prompt_tokens + rows.completion_tokens:
            yield Finding("spent", key, f"Redis has counted {tokens}, the rows {rows}")
