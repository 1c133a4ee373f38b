"""What a key or a team has used and has left, as the terminal shows it."""

from typing import Any

from gateway.cli.amounts import plain
from gateway.cli.command import Options
from gateway.cli.limits import UNLIMITED, short
from gateway.cli.moments import span
from gateway.cli.table import table

HEAD = ("", "LIMIT", "USED", "HELD", "LEFT", "")


def report(said: Any, options: Options) -> str:
    """The account of a key and that of its team, or of a team alone."""
    parts = [table(HEAD, _rows(said)), *_shadow(said)]
    if team := said.get("team"):
        parts += ["", f"team {team['team_id']}", table(HEAD, _rows(team)), *_shadow(team)]
    return "\n".join(parts)


def _rows(said: Any) -> list[tuple[Any, ...]]:
    month, running, credits = said["monthly_tokens"], said["concurrency"], said["credits"]
    left = None if month["limit"] is None else month["limit"] - month["spent"] - month["held"]
    free = None if running["limit"] is None else running["limit"] - running["now"]
    return [
        _window("requests a minute", said["requests_per_min"]),
        _window("tokens a minute", said["tokens_per_min"]),
        (
            "tokens a month",
            short(month["limit"]),
            plain(month["spent"]),
            plain(month["held"]),
            plain(left),
            month["month"],
        ),
        ("calls at once", short(running["limit"]), plain(running["now"]), "", plain(free), ""),
        _credits(credits),
    ]


def _window(name: str, window: Any) -> tuple[Any, ...]:
    if window is None:
        return name, UNLIMITED, "", "", "", ""
    reset = f"whole in {span(window['reset_seconds'])}" if window["reset_seconds"] else "whole"
    return name, plain(window["limit"]), plain(window["limit"] - window["left"]), "", plain(window["left"]), reset


def _credits(credits: Any) -> tuple[Any, ...]:
    if credits is None:
        return "credits", "not counted", "", "", "", ""
    free = credits["balance"] - credits["held"]
    return "credits", plain(credits["granted"]), plain(credits["charged"]), plain(credits["held"]), plain(free), ""


def _shadow(said: Any) -> list[str]:
    would = said["would_refuse"]
    return [f"in shadow, would have refused: {', '.join(f'{count:,} ({why})' for why, count in would.items())}"] * bool(
        would
    )
