"""Usage events for tests, and the stream entries that settle.lua would make of them."""

from typing import Any
from uuid import UUID

import msgspec

from gateway.core.usage import Detail, UsageEvent, detail_json

AT_MS = 1_795_292_735_107  # 2026-11-21
MONTH = "202611"
DETAIL = Detail(model="llama3.2:latest", endpoint="/v1/chat/completions", backend="node", response_time_ms=12)


def event(number: int, **changes: Any) -> UsageEvent:
    """The same event for the same number."""
    return msgspec.structs.replace(
        UsageEvent(
            id=str(UUID(int=(0x019A << 112) | (7 << 76) | (2 << 62) | number)),
            key_id="abcDEF1234",
            at_ms=AT_MS + number,
            month=MONTH,
            prompt_tokens=11,
            completion_tokens=22,
            credits_micro=1_000_000,
            estimated=False,
            detail=DETAIL,
        ),
        **changes,
    )


def fields(one: UsageEvent, **changes: bytes) -> dict[Any, Any]:
    """As XADD takes them."""
    written = {
        "v": b"1",
        "id": one.id,
        "key": one.key_id,
        "at": one.at_ms,
        "month": one.month,
        "prompt": one.prompt_tokens,
        "completion": one.completion_tokens,
        "credits": one.credits_micro,
        "estimated": int(one.estimated),
        "team": one.team_id,
        "team_credits": one.team_credits_micro,
        "detail": detail_json(one.detail),
    }
    return written | changes
