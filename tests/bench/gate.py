"""Whether something is as it has to be, however fast it is; and those of such questions that figures answer. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from tests.bench.books import Books, Rows, disagreement
from tests.bench.finding import ERRORS, Finding
from tests.bench.sample import Figures
from tests.bench.scenario import GATEWAY, REDIS

ACCOUNTING = "rows = admitted calls"


class Gate(Struct, frozen=True):
    """`found` says why it is good, or why not."""

    name: str
    good: bool
    found: str


def accounting(books: Books, rows: Rows) -> Gate:
    wrong = disagreement(books, rows)
    return Gate(ACCOUNTING, not wrong, wrong or f"{rows.rows} of {rows.admitted}")


def at_rest(stuck: Sequence[str]) -> Gate:
    """`stuck`: what did not come to its end within its bound."""
    return Gate("everything answers, and comes to rest", not stuck, "; ".join(stuck) or "always")


def no_errors(results: Mapping[str, Mapping[str, Figures]], findings: Sequence[Finding]) -> Gate:
    """Of ours, that is: of peers they are in the table, and spoil the comparison."""
    bad = []
    for scenario, by_name in results.items():
        for name, found in by_name.items():
            if name.startswith(GATEWAY):
                bad += [f"{scenario} {name}: {count} {what}" for what, count in found.errors.items()]
                bad += [] if found.per_s else [f"{scenario} {name}: no answers"]
    ours = [one for one in findings if one.target in (GATEWAY, REDIS) and one.what == ERRORS]
    bad += [f"{one.trial} {one.target}: {one.value:.0f}" for one in ours if one.value]
    return Gate("0 errors", not bad, "; ".join(bad) or "none")
