"""Moments: Postgres' timestamps and our milliseconds since 1970. Pure."""

from datetime import UTC, datetime, timedelta

from gateway.errors import BadRequest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)
US_MAX = (END - EPOCH) // timedelta(microseconds=1)


def at_us(us: int) -> datetime:
    """Raises `BadRequest` for what no row can hold."""
    if not 0 <= us <= US_MAX:
        raise BadRequest("This gateway keeps times between the years 1970 and 9999.")
    return EPOCH + timedelta(microseconds=us)


def at_ms(ms: int) -> datetime:
    """Raises `BadRequest` for what no row can hold."""
    return at_us(ms * 1000)


def maybe_at_ms(ms: int | None) -> datetime | None:
    return None if ms is None else at_ms(ms)


def us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def ms(at: datetime) -> int:
    return us(at) // 1000


def maybe_ms(at: datetime | None) -> int | None:
    return None if at is None else ms(at)


def month(us: int) -> str:
    """The UTC month as YYYYMM, as usage rows name it. Raises `BadRequest` for what no row can hold."""
    return at_us(us).strftime("%Y%m")
