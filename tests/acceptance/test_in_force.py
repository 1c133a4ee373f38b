"""What an operator changes is in force on every replica within a second, while fifty clients call."""

import asyncio
import json
import time

from gateway.core import keys
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.crowd import PATH, Crowd
from tests.world import World, bearer, chat

REPLICAS = 3
CLIENTS = 50
THINK_S = 0.2
WARM_CALLS = 150
IN_FORCE_S = 1.0
WATCHED_S = 1.5
"""how long the clients go on after the change, to see whether an old decision still comes"""
STREAMS = 20
CUT_S = 10.0
MANY = 1_000_000


async def _warm(crowd: Crowd) -> None:
    """Until every replica has decided about this key, often."""
    crowd.start()
    await crowd.until(lambda one: one.statuses()[200] >= WARM_CALLS and len({told.replica for told in one.told}) > 2)


async def _last_old_decision_s(crowd: Crowd, changed_s: float, what: str) -> float:
    """Seconds from the operator's request to the start of the last call that was still admitted. Ends the crowd."""
    await crowd.until(lambda one: one.told[-1].began_s > changed_s + WATCHED_S)
    await crowd.stop()
    late = [told.began_s - changed_s for told in crowd.since(changed_s) if told.status == 200]
    after = max(late, default=0.0)
    print(f"{what}: last old decision {after * 1_000:.0f} ms after the request; since then {crowd.statuses(changed_s)}")
    return after


async def test_a_revoked_key_is_refused_by_every_replica(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=REPLICAS) as world:
        key = await world.create_key(rate_limit_per_min=MANY, monthly_token_limit=None)
        crowd = Crowd(world, key, CLIENTS, think_s=THINK_S)
        await _warm(crowd)
        changed_s = time.monotonic()
        await world.admin("DELETE", _path(key))
        assert await _last_old_decision_s(crowd, changed_s, "revoke") < IN_FORCE_S
        assert crowd.statuses(changed_s + IN_FORCE_S).keys() == {401}
        assert {told.replica for told in crowd.since(changed_s) if told.status == 401} == set(range(REPLICAS))
        await world.rows(crowd.statuses()[200])


async def test_a_rotated_key_without_overlap_works_nowhere_and_the_new_one_everywhere(
    start: Start, fake: FakeOllama
) -> None:
    async with start([fake.url], replicas=REPLICAS) as world:
        key = await world.create_key(rate_limit_per_min=MANY, monthly_token_limit=None)
        crowd = Crowd(world, key, CLIENTS, think_s=THINK_S)
        await _warm(crowd)
        changed_s = time.monotonic()
        new = (await world.admin("POST", f"{_path(key)}/rotate", json={"overlap_seconds": 0})).json()["key"]
        for _, url in world.replicas:
            assert (await world.http.post(url + PATH, headers=bearer(new), json=chat())).status_code == 200
        assert await _last_old_decision_s(crowd, changed_s, "rotate") < IN_FORCE_S
        assert crowd.statuses(changed_s + IN_FORCE_S).keys() == {401}
        await world.rows(crowd.statuses()[200] + REPLICAS)


async def test_both_secrets_work_everywhere_while_they_overlap(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=REPLICAS) as world:
        old = await world.create_key(credits=100)
        new = (await world.admin("POST", f"{_path(old)}/rotate", json={"overlap_seconds": 3_600})).json()["key"]
        assert keys.id_of(new) == keys.id_of(old)
        for _, url in world.replicas:
            for key in (old, new):
                assert (await world.http.post(url + PATH, headers=bearer(key), json=chat())).status_code == 200
        assert (await world.usage(new))["credits"]["balance"] == 100 - 2 * REPLICAS
        secrets = (await world.admin("GET", _path(old))).json()["secrets"]
        assert [one["last_four"] for one in secrets] == [new[-4:], old[-4:]]
        assert all(one["last_used_at"] for one in secrets)
        await world.rows(2 * REPLICAS)


async def test_a_lowered_limit_holds_over_all_replicas(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=REPLICAS) as world:
        key = await world.create_key(rate_limit_per_min=MANY, monthly_token_limit=None)
        crowd = Crowd(world, key, CLIENTS, think_s=THINK_S)
        await _warm(crowd)
        changed_s = time.monotonic()
        await world.admin("PATCH", _path(key), json={"rate_limit_per_min": 1})
        assert await _last_old_decision_s(crowd, changed_s, "lower") < IN_FORCE_S
        late = crowd.statuses(changed_s + IN_FORCE_S)
        assert late[200] <= 1, "the one that the lowered limit allows"
        refused = [told for told in crowd.since(changed_s + IN_FORCE_S) if told.status != 200]
        assert {told.status for told in refused} == {429}
        assert {told.replica for told in refused} == set(range(REPLICAS))
        assert {told.reply.headers["x-ratelimit-limit-requests"] for told in refused} == {"1"}
        await world.rows(crowd.statuses()[200])


async def test_revoking_cuts_running_streams_and_charges_what_they_delivered(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=REPLICAS) as world:
        key = await world.create_key(rate_limit_per_min=MANY, monthly_token_limit=None, credits=100)
        fake.behaviour = Behaviour(tokens=100_000, tokens_per_s=20)
        streams = [asyncio.create_task(_stream(world, key, number % REPLICAS)) for number in range(STREAMS)]
        await fake.ledger.until(lambda ledger: sum(one.tokens_sent > 5 for one in ledger.inference) == STREAMS)
        changed_s = time.monotonic()
        await world.admin("DELETE", _path(key))
        ends = await asyncio.gather(*streams)
        print(f"revoke: the last of {STREAMS} streams was cut {max(at for at, _ in ends) - changed_s:.1f} s after")
        assert max(at for at, _ in ends) - changed_s < CUT_S
        assert {frame["error"]["code"] for _, frame in ends} == {"key_revoked"}
        rows = await world.rows(STREAMS)
        assert {row["status"] for row in rows} == {"key_revoked"}
        assert min(row["completion_tokens"] for row in rows) > 5
        assert {row["credits_micro"] for row in rows} == {1_000_000}
        usage = (await world.admin("GET", f"{_path(key)}/usage")).json()
        assert usage["credits"]["balance"] == 100 - STREAMS
        assert usage["credits"]["held"] == usage["monthly_tokens"]["held"] == 0
        assert usage["monthly_tokens"]["spent"] == sum(row["total_tokens"] for row in rows)
        assert await world.leases() == 0


async def _stream(world: World, key: str, replica: int) -> tuple[float, dict[str, dict[str, str]]]:
    """When the stream ended, and its last frame."""
    url = world.replicas[replica][1] + PATH
    reply = await world.http.post(url, headers=bearer(key), json=chat(stream=True, max_tokens=16_000))
    assert reply.status_code == 200
    frames = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: {")]
    last: dict[str, dict[str, str]] = json.loads(frames[-1])
    return time.monotonic(), last


def _path(key: str) -> str:
    return f"/admin/api-keys/{keys.id_of(key)}"
