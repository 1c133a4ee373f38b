"""What admission would say of a call, as the terminal shows it."""

from typing import Any

from gateway.cli.amounts import credits, plain
from gateway.cli.command import Options
from gateway.cli.moments import span
from gateway.cli.table import table

HEAD = ("WHOSE", "LIMIT", "OF", "BEFORE", "NEEDS", "AFTER", "WAIT")


def explained(said: Any, options: Options) -> str:
    rows = [_row(limit) for limit in said["limits"]]
    return "\n\n".join([_verdict(said), *([table(HEAD, rows)] if rows else [])])


def _verdict(said: Any) -> str:
    if said["would_admit"]:
        cost = f"costs {credits(said['price'])} at most"
        return f"admitted: its answer may take {plain(said['max_tokens'])} tokens, and it {cost}"
    wait = f" Try again in {span(said['retry_after'])}." if said.get("retry_after") else ""
    return f"refused: {said['message']} ({said['reason']}){wait}"


def _row(limit: Any) -> tuple[Any, ...]:
    numbers = (plain(limit[name]) for name in ("of", "before", "needs", "after"))
    return limit["whose"], limit["limit"], *numbers, span(limit["wait_seconds"]) if limit["wait_seconds"] else ""
