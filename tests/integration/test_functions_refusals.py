"""A refusal: for the right reason, told alike however often, and nothing in Redis has changed by it."""

from typing import Any

import pytest

from gateway.state.limiter import REFUSALS, TEAM_WORDS
from tests.fakes import AT_US, Bench, call, refused
from tests.integration.refusals import REFUSED, Refused

MANY = 100_000
BATCH = 1_000


def test_every_reason_to_refuse_is_tried_here() -> None:
    assert {way.reason for way in REFUSED.values()} == set(REFUSALS)


@pytest.mark.parametrize("way", REFUSED.values(), ids=REFUSED)
async def test_a_refusal_leaves_every_key_as_it_was(bench: Bench, way: Refused) -> None:
    await way.prepare(bench)
    state = bench.everything()
    for _ in range(3):
        error = await refused(bench.limiter.admit(call(1, **way.call), way.objection, b"{}"))
        assert type(error) is REFUSALS[way.reason]
        assert (TEAM_WORDS in error.message) == (way.whose == "team")
    assert bench.everything() == state


@pytest.mark.timeout(300)
async def test_a_hundred_thousand_refusals_leave_every_key_byte_identical(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every reason there is, as the command leaves a replica, again and again."""
    sent: list[tuple[Any, ...]] = []
    pass_on = bench.call

    async def listen(*command: Any) -> Any:
        sent.append(command)
        return await pass_on(*command)

    monkeypatch.setattr(bench, "call", listen)
    each = -(-MANY // len(REFUSED))
    for name, way in REFUSED.items():
        bench.redis.flushdb()
        bench.set_clock(AT_US)
        await way.prepare(bench)
        await refused(bench.limiter.admit(call(1, **way.call), way.objection, b"{}"))
        state = bench.everything()
        for start in range(0, each, BATCH):
            pipeline = bench.redis.pipeline(transaction=False)
            for _ in range(min(BATCH, each - start)):
                pipeline.execute_command(*sent[-1])
            replies = pipeline.execute()
            assert {(reply[0], reply[1].decode(), reply[2].decode()) for reply in replies} == {
                (0, way.reason, way.whose)
            }, name
        assert bench.everything() == state, name
