"""Times as Ollama writes and reads them."""

from datetime import datetime
from typing import Any

KEEP_ALIVE_S = 300.0
FOREVER_S = 292.0 * 365 * 86_400
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def keep_alive_s(value: Any) -> float:
    """Seconds in a keep_alive: a number, or a Go duration with one unit. Raises ValueError as Ollama's 400 says."""
    if value is None:
        return KEEP_ALIVE_S
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        seconds = _duration_s(str(value))
    return FOREVER_S if seconds < 0 else min(seconds, FOREVER_S)


def _duration_s(text: str) -> float:
    if text in {"0", "-0"}:
        return 0.0
    number = text.rstrip("hms")
    try:
        return float(number) * _SECONDS[text[len(number) :]]
    except (ValueError, KeyError):
        raise ValueError(f'time: missing unit in duration "{text}"') from None


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, as Go writes it."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
