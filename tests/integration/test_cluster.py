"""The same functions, and the gateway's own client, on a Redis Cluster of three nodes with sixteen shards."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.core.books import Owner
from gateway.core.call import Admission, Bill
from gateway.core.limits import Estimate
from gateway.core.pricing import MICRO
from gateway.core.usage import Detail
from gateway.errors import (
    KeyRevoked,
    KeysNotLoaded,
    LimitsUnavailable,
    MeteringBacklog,
    Unauthorized,
)
from gateway.state import keyspace, limiter
from gateway.state.cluster import ClusterPipe
from gateway.state.dead import FIRST, DeadEvents
from gateway.state.functions import Functions
from gateway.state.libraries import Libraries
from gateway.state.limiter import RedisLimiter
from gateway.state.server import problems
from gateway.state.slots import node_url, node_urls
from tests.clusters import NODES, EmbeddedCluster
from tests.conftest import lend
from tests.fakes import MODEL, SOURCE, refused
from tests.members import SHARDS, TIMEOUT_MS, Gateway, Member
from tests.monitored import monitored, words_of

BACK_WITHIN_S = 10.0
BILL = Bill(prompt_tokens=10, completion_tokens=5, paid=True, estimated=False, whole=True, detail=Detail())


@pytest.fixture(scope="module")
def cluster_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster(tmp_path_factory.mktemp("cluster"))
    for _ in lend(cluster):
        yield cluster


@pytest.fixture
def cluster(cluster_server: EmbeddedCluster) -> EmbeddedCluster:
    cluster_server.empty()
    return cluster_server


@pytest.fixture
async def gateway(cluster: EmbeddedCluster) -> AsyncIterator[Gateway]:
    one = Gateway(cluster.url)
    one.pipe.start()
    yield one
    await one.pipe.close()


@pytest.fixture
def members(seed: str) -> list[Member]:
    """In every shard a key alone, and a key in a team."""
    chance = random.Random(seed)
    return [Member(shard, chance, with_team=with_team) for shard in range(SHARDS) for with_team in (False, True)]


async def test_shards_lie_on_every_node(cluster: EmbeddedCluster) -> None:
    assert {cluster.node_of(keyspace.ready(shard)) for shard in range(SHARDS)} == set(range(NODES))


async def test_every_function_does_its_work_in_every_shard(
    gateway: Gateway, members: list[Member], cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeysNotLoaded):
        await gateway.limiter.admit(members[0].call(), "", b"{}")
    await gateway.publish(members)
    await asyncio.gather(*(_life(gateway, member) for member in members))
    monkeypatch.setattr(limiter, "LEASE_MS", 1)
    await asyncio.gather(*(_death(gateway, member) for member in members))
    for shard in range(SHARDS):
        events = cluster.nodes[cluster.node_of(keyspace.usage(shard))].xrange(keyspace.usage(shard))
        alone, in_team = members[2 * shard : 2 * shard + 2]
        assert sorted((fields["key"], fields["team"]) for _, fields in events) == sorted(
            [(alone.credential.key_id, "")] * 2 + [(in_team.credential.key_id, in_team.team_id)] * 2
        )
        assert cluster.nodes[cluster.node_of(keyspace.leases(shard))].zcard(keyspace.leases(shard)) == 0


async def _life(gateway: Gateway, member: Member) -> None:
    """Admit, renew, settle; void; explain, inspect; refusals; the books."""
    one, undone = member.call(), member.call()
    admission = await gateway.limiter.admit(one, "", b"{}")
    assert admission.levels.requests
    assert admission.levels.requests.left == 8
    assert await gateway.limiter.renew(one, 10, 3) is None
    await gateway.limiter.admit(undone, "", b"{}")
    await gateway.limiter.void(undone)
    assert await gateway.limiter.settle(one, BILL)
    assert not await gateway.limiter.settle(one, BILL)

    told = await gateway.inspector.inspect(member.credential, SOURCE)
    accounts = [told.key, told.team] if member.team_id else [told.key]
    for account in accounts:
        assert account
        assert (account.tokens_spent, account.tokens_held, account.running) == (15, 0, 0)
        assert (account.charged_micro, account.credit_held_micro) == (MICRO, 0)
    assert (told.team_id, told.team is None) == (member.team_id, not member.team_id)
    explained = await gateway.inspector.explain(member.credential.key_id, MODEL, Estimate(20, 10, 100))
    assert explained.reason == ""
    assert {limit.whose for limit in explained.limits} == ({"key", "team"} if member.team_id else {"key"})

    key = Owner("key", member.credential.key_id)
    balance = (await gateway.ledger.balances([key], told.month))[key]
    assert (balance.granted_micro, balance.charged_micro, balance.tokens) == (9 * MICRO, MICRO, 15)


async def _death(gateway: Gateway, member: Member) -> None:
    """A call whose lease has run out is settled by the reaper, and its key is revoked."""
    one, late = member.call(), member.call()
    await gateway.limiter.admit(one, "", b"{}")
    async with asyncio.timeout(BACK_WITHIN_S):
        while not await gateway.limiter.reap(member.shard, member.credential.key_id, one.id, 0):
            pass
    await gateway.limiter.admit(late, "", b"{}")
    await member.publish(gateway.directory, version=2, enabled=False)
    assert await gateway.limiter.renew(late, 10, 3) is KeyRevoked
    await gateway.limiter.void(late)
    assert isinstance(await refused(gateway.limiter.admit(member.call(), "", b"{}")), Unauthorized)


async def test_each_shard_has_its_part_of_the_budget_of_bytes_and_its_dead_events(
    gateway: Gateway, members: list[Member]
) -> None:
    """Beyond it the shard lets nobody in; its dead events are found, weighed with the others and put back."""
    await gateway.publish(members)
    tight = RedisLimiter(Functions(gateway.pipe), SHARDS, stream_bytes_max=SHARDS)
    await asyncio.gather(*(tight.admit(one.call(), "", b"{}") for one in members))
    for shard in range(SHARDS):
        await gateway.pipe.call("XADD", keyspace.usage_dead(shard), "*", "v", "1", "dead_reason", "why")
    answers = [await refused(tight.admit(one.call(), "", b"{}")) for one in members]
    assert {type(one) for one in answers} == {MeteringBacklog}
    assert all([await gateway.pipe.call("MEMORY", "USAGE", keyspace.usage_dead(one)) for one in range(SHARDS)])
    dead = DeadEvents(gateway.pipe, Functions(gateway.pipe), SHARDS)
    assert [one.place[0] for one in await dead.page(FIRST, SHARDS + 1)] == list(range(SHARDS))
    assert (await dead.replay_all(), await dead.count()) == (SHARDS, 0)
    assert {type(await refused(tight.admit(one.call(), "", b"{}"))) for one in members} == {MeteringBacklog}


async def test_a_team_in_another_node_than_none_is_one_budget(gateway: Gateway, members: list[Member]) -> None:
    """Of a team with four credits exactly four calls come in, in whichever shard and over two replicas."""
    await gateway.publish(members)

    async def tries(member: Member) -> list[Any]:
        return await asyncio.gather(
            *(gateway.limiter.admit(member.call(), "", b"{}") for _ in range(12)), return_exceptions=True
        )

    for member, answers in zip(members, await asyncio.gather(*map(tries, members)), strict=True):
        admitted = sum(isinstance(one, Admission) for one in answers)
        assert admitted == (4 if member.team_id else 5)  # credits; concurrency
        assert not any(isinstance(one, LimitsUnavailable) for one in answers)


async def test_failures_of_an_address_are_counted_in_its_shard(gateway: Gateway) -> None:
    for number in range(40):
        address = f"{0xFFFF_0A00_0000 + number:032x}"  # IPv4, each one for itself
        answers = [await gateway.failures.failed(address, Unauthorized()) for _ in range(3)]
        assert [one.status for one in answers] == [401, 401, 429]


async def test_all_is_in_the_keys_that_are_declared(
    gateway: Gateway, members: list[Member], cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a function touches beyond them would be there on one server, and elsewhere in a cluster."""
    with monitored(cluster) as watched:
        await gateway.publish(members)
        await asyncio.gather(*(_life(gateway, member) for member in members))
        await gateway.failures.failed(SOURCE, Unauthorized())
        monkeypatch.setattr(limiter, "LEASE_MS", 1)
        await asyncio.gather(*(_death(gateway, member) for member in members))
        lines = [line for server in watched for line in server.lines()]
    declared: set[str] = set()
    verbs, touched = set(), 0
    for client, words in map(words_of, lines):
        if words[0] == "FCALL":
            verbs.add(words[1].split("_", 2)[2])
            declared = set(words[3 : 3 + int(words[2])])
        elif client == "lua" and words[0] != "TIME":
            touched += 1
            assert words[1] in declared, words[:2]
    assert touched > 1_000
    assert verbs == {"publish", "reprice", "admit", "renew", "settle", "void", "reap", "explain", "inspect", "blame"}


async def test_keys_that_move_to_another_node_are_followed(
    gateway: Gateway, members: list[Member], cluster: EmbeddedCluster
) -> None:
    await gateway.publish(members)
    for member in members[:6:2]:
        source = cluster.node_of(keyspace.ready(member.shard))
        running = member.call()
        await gateway.limiter.admit(running, "", b"{}")
        cluster.move(keyspace.ready(member.shard), (source + 1) % NODES)
        assert await gateway.limiter.settle(running, BILL)
        await gateway.limiter.admit(member.call(), "", b"{}")
        assert cluster.node_of(keyspace.ready(member.shard)) == (source + 1) % NODES
        told = await gateway.inspector.inspect(member.credential, SOURCE)
        assert (told.key.tokens_spent, told.key.running) == (15, 1)


async def test_keys_that_are_just_being_moved_are_no_verdict(
    gateway: Gateway, members: list[Member], cluster: EmbeddedCluster
) -> None:
    """Some of a shard's keys are here and some there: nobody is told anything until they are together again."""
    member = members[0]
    await gateway.publish(members)
    names = keyspace.KeyNames(member.credential.key_id, SHARDS)
    source = cluster.node_of(names.key)
    target = (source + 1) % NODES
    ids = [node.execute_command("CLUSTER", "MYID") for node in cluster.nodes]
    slot = cluster.nodes[0].cluster("KEYSLOT", names.key)
    cluster.nodes[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    cluster.nodes[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    cluster.nodes[source].execute_command("MIGRATE", "127.0.0.1", cluster.ports[target], names.account, 0, 5_000)
    assert isinstance(await refused(gateway.limiter.admit(member.call(), "", b"{}")), LimitsUnavailable)
    for node in cluster.nodes:
        node.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
    cluster.nodes[target].execute_command("ASKING")
    cluster.move(names.key, target)


async def test_a_node_that_is_away_takes_only_its_own_keys_with_it(
    cluster: EmbeddedCluster, members: list[Member]
) -> None:
    gateway = Gateway(cluster.url, timeout_ms=250)
    gateway.pipe.start()
    async with asyncio.timeout(BACK_WITHIN_S):
        await gateway.publish(members)
    gone = 2
    await cluster.servers[gone].kill()
    answers = [await _admitted(gateway, member) for member in members]
    assert answers == [cluster.node_of(keyspace.ready(member.shard)) != gone for member in members]
    await Functions(gateway.pipe).load()
    await cluster.servers[gone].start()
    async with asyncio.timeout(BACK_WITHIN_S):
        while not all([await _admitted(gateway, member) for member in members]):
            pass
    await gateway.pipe.close()


async def _admitted(gateway: Gateway, member: Member) -> bool:
    try:
        await gateway.limiter.admit(one := member.call(), "", b"{}")
    except LimitsUnavailable:
        return False
    await gateway.limiter.void(one)
    return True


async def test_all_nodes_are_asked_who_they_are(gateway: Gateway, cluster: EmbeddedCluster) -> None:
    told = await gateway.directory.incarnation()
    assert set(told.split()) == {node.info("server")["run_id"] for node in cluster.nodes}


async def test_a_node_that_has_lost_its_functions_gets_them_again(cluster: EmbeddedCluster) -> None:
    pipe = ClusterPipe(cluster.url, TIMEOUT_MS)
    pipe.start()
    libraries = Libraries(pipe)
    names = await libraries.load()
    assert await libraries.restore() == 0
    cluster.nodes[1].function_flush()
    assert await libraries.restore() == len(names) == 2
    for node in cluster.nodes:
        assert all(node.function_list(library=name) for name in names)
    assert await libraries.restore() == 0
    await pipe.close()


async def test_no_node_that_answers_is_no_verdict() -> None:
    pipe = ClusterPipe("redis+cluster://127.0.0.1:1", 250)
    pipe.start()
    for _ in range(3):
        with pytest.raises(LimitsUnavailable):
            await pipe.call("GET", "x")
    await pipe.close()


async def test_an_address_of_the_wrong_kind_stops_the_start(cluster: EmbeddedCluster, redis_url: str) -> None:
    assert await problems(cluster.url, TIMEOUT_MS) == []
    assert await problems(redis_url, TIMEOUT_MS) == []
    (line,) = await problems(f"redis://127.0.0.1:{cluster.ports[0]}", TIMEOUT_MS)
    assert line == "REDIS_URL: this Redis is part of a cluster; write it as redis+cluster://."
    cluster.nodes[1].config_set("maxmemory-policy", "allkeys-lru")
    try:
        (line,) = await problems(cluster.url, TIMEOUT_MS)
        assert "noeviction" in line
    finally:
        cluster.nodes[1].config_set("maxmemory-policy", "noeviction")


def test_a_clusters_address_names_nodes_that_share_their_credentials() -> None:
    url = "rediss+cluster://user:a%40b@one:7000,[::1]:7001"
    assert node_urls(url) == ["rediss://user:a%40b@one:7000", "rediss://user:a%40b@[::1]:7001"]
    assert node_url(url, ("10.0.0.9", 6379)) == "rediss://user:a%40b@10.0.0.9:6379"
    assert node_url(url, ("::2", 6379)) == "rediss://user:a%40b@[::2]:6379"
    assert node_urls("rediss+cluster://one:7000?ssl_ca_certs=x") == ["rediss://one:7000?ssl_ca_certs=x"]
