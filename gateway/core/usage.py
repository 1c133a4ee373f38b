"""Usage events: what one call cost, on its way from `settle` through the Redis stream into `usage_logs`.

The numbers that money depends on (id, key, time, month, tokens, credits) are fields of the stream entry, written by
the settle function from values it has checked itself. What only describes the call travels as one JSON text, `detail`.
"""

import re
from collections.abc import Mapping
from uuid import UUID

import msgspec
from msgspec import Struct

VERSION = b"1"
TOKENS_MAX = 2**31 - 1
CREDITS_MICRO_MAX = 2**53
AT_MS_MIN = 1_577_836_800_000  # 2020: an earlier event is an error, and would get a partition of its own
AT_MS_END = 2**42
"""the year 2109: a later one is an error"""
DURATION_MS_MAX = 2**31 - 1
STREAM_BYTES_MAX = 256 * 2**20
"""of the events of all shards, where the settings say nothing else; beyond it no new call is let in"""
OK = "ok"
"""the status of a call that went well"""
ATTEMPTS_MAX = 32
"""failed tries that a row tells of"""
_KEY_ID = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)
_MONTH = re.compile(r"20[0-9]{2}(0[1-9]|1[0-2])", re.ASCII)


class Tried(Struct, frozen=True, array_like=True):
    """A try that failed before the answer began, so that another one followed. Milliseconds."""

    backend: str
    status: str
    """the error's code"""
    queue_ms: int
    response_time_ms: int
    """from the slot to the failure"""


class Detail(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What describes a call but decides nothing. Durations in milliseconds; 0 where unknown."""

    model: str = ""
    endpoint: str = ""
    backend: str = ""
    status: str = OK
    """ok, client_gone, or the `code` of the error that ended the call"""
    http_status: int = 200
    streamed: bool = False
    finish_reason: str = ""
    response_time_ms: int = 0
    first_token_ms: int = 0
    queue_ms: int = 0
    """waited for slots of backends"""
    load_ms: int = 0
    prompt_ms: int = 0
    eval_ms: int = 0
    end_user: str = ""
    dialect: str = ""
    """whose API was spoken: openai, anthropic, ollama, plain"""
    address_hash: str = ""
    """of the client's address, as `core.addresses.hashed`"""
    attempts: tuple[Tried, ...] = ()


class UsageEvent(Struct, frozen=True, kw_only=True):
    """One settled call. `at_ms` is its admission on Redis' clock; `month` is UTC, as YYYYMM."""

    id: str
    key_id: str
    at_ms: int
    month: str
    prompt_tokens: int
    completion_tokens: int
    credits_micro: int
    """charged to the key"""
    estimated: bool
    detail: Detail
    team_id: str = ""
    """the team it was in when the call was admitted; "" for none"""
    team_credits_micro: int = 0
    """charged to the team"""


class BadEvent(ValueError):
    """A stream entry that no usage row can be made of."""


_detail = msgspec.json.Decoder(Detail)


def detail_json(detail: Detail) -> bytes:
    """The `detail` field of a stream entry."""
    return msgspec.json.encode(detail)


def decode(fields: Mapping[bytes, bytes]) -> UsageEvent:
    """The event in a stream entry's fields. Raises `BadEvent` with the reason, which never repeats a value."""
    if fields.get(b"v") != VERSION:
        raise BadEvent("version is not 1")
    try:
        event = UsageEvent(
            id=str(UUID(fields[b"id"].decode())),
            key_id=fields[b"key"].decode("ascii"),
            at_ms=int(fields[b"at"]),
            month=fields[b"month"].decode("ascii"),
            prompt_tokens=int(fields[b"prompt"]),
            completion_tokens=int(fields[b"completion"]),
            credits_micro=int(fields[b"credits"]),
            estimated=fields[b"estimated"] == b"1",
            detail=_detail.decode(fields[b"detail"]),
            team_id=fields.get(b"team", b"").decode("ascii"),
            team_credits_micro=int(fields.get(b"team_credits", b"0")),
        )
    except KeyError as error:
        raise BadEvent(f"field {error.args[0].decode()} is missing") from None
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise BadEvent(type(error).__name__) from None
    _check(event)
    return event


def _check(event: UsageEvent) -> None:
    if not 0 <= event.prompt_tokens <= TOKENS_MAX or not 0 <= event.completion_tokens <= TOKENS_MAX:
        raise BadEvent("tokens out of range")
    if not 0 <= event.credits_micro <= CREDITS_MICRO_MAX or not 0 <= event.team_credits_micro <= CREDITS_MICRO_MAX:
        raise BadEvent("credits out of range")
    if not _MONTH.fullmatch(event.month) or not AT_MS_MIN <= event.at_ms < AT_MS_END:
        raise BadEvent("time out of range")
    if not _KEY_ID.fullmatch(event.key_id):
        raise BadEvent("key is no key id")
    if event.team_id and not _KEY_ID.fullmatch(event.team_id):
        raise BadEvent("team is no team id")
    if len(event.detail.attempts) > ATTEMPTS_MAX:
        raise BadEvent("too many attempts")
    told = (value for one in (event.detail, *event.detail.attempts) for value in msgspec.structs.astuple(one))
    for value in told:
        if isinstance(value, str) and "\0" in value:
            raise BadEvent("NUL in text")  # Postgres text cannot hold it
        if isinstance(value, int) and not 0 <= value <= DURATION_MS_MAX:
            raise BadEvent("detail out of range")
