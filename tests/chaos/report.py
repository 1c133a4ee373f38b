"""What a chaos run came to, in figures for people."""

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.chaos.checker import REAPED, Finding
from tests.chaos.ledgers import Call, Fault, Ledgers, Row


def lines(ledgers: Ledgers, findings: Sequence[Finding], quiet_s: float) -> Iterator[str]:
    """Kills, calls, rows, what was charged too much or too little, and how long recoveries took."""
    rules = Counter(finding.rule for finding in findings)
    yield f"kills: {_counts(Counter(fault.kind for fault in ledgers.faults))}"
    yield f"calls: {len(ledgers.calls)} ({_counts(Counter(call.end for call in ledgers.calls))})"
    yield f"refusals and failures: {_counts(Counter(call.code for call in ledgers.calls if call.code))}"
    yield f"rows: {len(ledgers.rows)} ({_counts(Counter(row.status for row in ledgers.rows))})"
    yield f"lost {rules['lost']}, doubled {rules['doubled']}, findings {len(findings)}"
    yield f"quiet {quiet_s:.1f} s after the load"
    pairs = list(_reaped(ledgers))
    over = max((row.completion_tokens - len(call.arrivals) for call, row in pairs if call.streamed), default=0)
    under = max((len(call.arrivals) - row.completion_tokens for call, row in pairs), default=0)
    yield f"reaped: {len(pairs)} rows; charged at most {over} tokens over, {under} under what was delivered"
    for kind in ("gateway", "redis", "node", "postgres", "worker"):
        took = [one.up_s - one.dead_s for one in ledgers.faults if one.kind == kind]
        service = [
            seconds for one in ledgers.faults if one.kind == kind and (seconds := _service(one, ledgers)) is not None
        ]
        down_s, more_s = max(took, default=0), max(service, default=0)
        yield f"{kind}: ready again after at most {down_s:.1f} s, serves {more_s:.2f} s after that"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{what} {number}" for what, number in sorted(counter.items())) or "none"


def _reaped(ledgers: Ledgers) -> Iterator[tuple[Call, Row]]:
    calls = {call.mark: call for call in ledgers.calls}
    for row in ledgers.rows:
        if row.status == REAPED and row.mark in calls:
            yield calls[row.mark], row


def _service(fault: Fault, ledgers: Ledgers) -> float | None:
    """Seconds from the return of what was killed until it was of use: a call that began after it was let in or refused
    for its own sake, by that replica, or by any where it was Redis; a node had work; somebody looked. None: unknown."""
    if fault.kind == "node":
        begun = [work.at_s for work in ledgers.works if work.node == fault.name and work.at_s >= fault.up_s]
    elif fault.kind in ("gateway", "redis"):
        begun = [call.ended_s for call in ledgers.calls if _decided(call) and call.began_s >= fault.up_s
                 and (fault.kind == "redis" or call.replica == fault.name)]  # fmt: skip
    else:
        begun = [fault.serves_s]
    return max(0.0, min(begun) - fault.up_s) if begun else None


def _decided(call: Call) -> bool:
    """Whether Redis has said something about it."""
    return call.status > 0 and call.code not in ("limits_unavailable", "keys_not_loaded", "team_elsewhere")
