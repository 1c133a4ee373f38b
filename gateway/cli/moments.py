"""Times and how long things take, as people write and read them. All times are UTC."""

import re
import time
from argparse import ArgumentTypeError
from datetime import UTC, datetime

DAY_S = 86_400
UNITS_S = {"w": 7 * DAY_S, "d": DAY_S, "h": 3_600, "m": 60, "s": 1}
SPANS = (("y", 365 * DAY_S), ("d", DAY_S), ("h", 3_600), ("min", 60), ("s", 1))
_PARTS = re.compile(r"(?:[0-9]{1,9}[wdhms])+", re.ASCII)
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)


def duration(text: str) -> int:
    """Seconds: 90s, 15m, 24h, 90d, 4w, or several of them together."""
    if not _PARTS.fullmatch(text):
        raise ArgumentTypeError(f"{text!r} is no duration: write it as 90s, 15m, 24h, 90d or 1d12h")
    return sum(int(number) * UNITS_S[unit] for number, unit in re.findall(r"([0-9]+)([wdhms])", text))


def moment(text: str) -> str:
    """RFC 3339 in UTC: a time as that or a date, or a duration from now on."""
    try:
        if _PARTS.fullmatch(text):
            return _rfc3339(datetime.fromtimestamp(time.time() + duration(text), UTC))
        return _rfc3339(_read(text))
    except (ValueError, OverflowError, OSError):
        wanted = "write it as 2027-01-01T00:00:00Z, as 2027-01-01, or from now on as 90d"
        raise ArgumentTypeError(f"{text!r} is no time: {wanted}") from None


def month(text: str) -> str:
    """A month as the gateway takes it: 2026-11."""
    if not _MONTH.fullmatch(text):
        raise ArgumentTypeError(f"{text!r} is no month: write it as 2026-11")
    return text


def minute(text: str | None) -> str:
    """A time of the gateway's to the minute; "" for none."""
    return _read(text).strftime("%Y-%m-%d %H:%M") if text else ""


def since(text: str | None) -> str:
    """How far a time of the gateway's is from now: "3 d ago", "in 89 d"; "" for none."""
    if not text:
        return ""
    seconds = round(_read(text).timestamp() - time.time())
    if seconds == 0:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def full(text: str | None) -> str:
    """Both, for where there is room."""
    return f"{minute(text)} UTC ({since(text)})" if text else ""


def span(seconds: float) -> str:
    """The largest unit of which there is at least one, and how many: "15 min"."""
    for unit, unit_s in SPANS:
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {unit}"
    return f"{seconds:g} s"


def _read(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
