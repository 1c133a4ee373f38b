"""Redis' access list: the system runs on it without one refusal, and its users may do nothing else."""

import asyncio
import io
import re
import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from gateway.core.charges import Owner
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.state import keyspace
from gateway.state.cluster import pipe_to
from gateway.state.functions import FLEET_SHARED, FLEET_VERBS, SHARED, VERBS, Functions
from gateway.state.ledger import RedisLedger
from gateway.state.libraries import Libraries
from gateway.state.limiter import RedisLimiter
from gateway.telemetry.logs import Log
from tests.acceptance.operators import Operator
from tests.integration.usage_events import event, fields
from tests.made_secrets import DEPLOY
from tests.redis_users import Guarded, guarded
from tests.world import POLL_S, World, bearer, chat, running
from workers.reaper import Reaper
from workers.turn import Turn

LUA = Path(__file__).parents[2] / "gateway" / "state" / "lua"
OF_ALL = {"ping", "hello", "auth", "select", "quit", "time", "info", "client", "cluster|slots", "fcall"}
SENT = {
    "gateway": OF_ALL | {"exists", "hget", "hmget", "xlen", "xrange", "xrevrange", "subscribe", "unsubscribe"},
    "worker": OF_ALL
    | {"function|load", "function|list", "function|delete", "command", "multi", "exec"}
    | {"exists", "get", "set", "rename", "persist", "hget", "hmget", "zrange", "memory|usage", "xlen", "xrange"}
    | {
        "xack",
        "xdel",
        "xautoclaim",
        "xpending",
        "xreadgroup",
        "xgroup|create",
        "xgroup|delconsumer",
        "xinfo|consumers",
    },
}
"""what they send themselves, by redis-py or by a pipe; COMMAND is of redis-py's client of clusters"""
OF_WORKERS = {"bury", "reap"}
OF_BOTH = {"publish", "reprice", "fleet/register"}
SHARED_PARTS = {*SHARED, *FLEET_SHARED}
ALL_PARTS = SHARED_PARTS | {*VERBS} | {f"fleet/{verb}" for verb in FLEET_VERBS}
CALLED = {"gateway": ALL_PARTS - OF_WORKERS, "worker": SHARED_PARTS | OF_WORKERS | OF_BOTH}
WITH_SUBCOMMANDS = {"MEMORY"}
FORBIDDEN = (
    ("EVAL", "return 1", 0),
    ("EVALSHA", "0" * 40, 0),
    ("SCRIPT", "LOAD", "return 1"),
    ("FUNCTION", "FLUSH"),
    ("FUNCTION", "RESTORE", "x"),
    ("FUNCTION", "DUMP"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", 0, 1),
    ("ACL", "SETUSER", "me", "on", "nopass", "+@all"),
    ("ACL", "LIST"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "PAUSE", 1),
    ("DEBUG", "SLEEP", 0),
    ("MODULE", "LIST"),
    ("MONITOR",),
    ("REPLICAOF", "NO", "ONE"),
    ("SAVE",),
    ("BGREWRITEAOF",),
    ("SHUTDOWN", "NOSAVE"),
    ("XTRIM", "{s00}:usage", "MAXLEN", 0),
    ("XGROUP", "DESTROY", "{s00}:usage", "workers"),
    ("DUMP", "{s00}:ready"),
    ("MIGRATE", "127.0.0.1", 1, "{s00}:ready", 0, 1),
    ("GET", "somebody:else"),
    ("HSET", "session:1", "a", "b"),
    ("PUBLISH", "news", "x"),
    ("SUBSCRIBE", "news"),
    ("PSUBSCRIBE", "*"),
)
"""to replicas and workers alike"""
TO_THE_GATEWAY = (
    ("FUNCTION", "LOAD", "REPLACE", "#!lua name=mine\nredis.register_function('mine', function() return 1 end)"),
    ("FUNCTION", "LIST"),
    ("RENAME", "{s00}:hydrating:x", "{s00}:ready"),
    ("XREADGROUP", "GROUP", "workers", "me", "STREAMS", "{s00}:usage", ">"),
    ("XACK", "{s00}:usage", "workers", "0-1"),
)
TO_THE_OPERATOR = (
    ("EVAL", "return 1", 0),
    ("FCALL", "mine", 0),
    ("FUNCTION", "LOAD", "#!lua name=mine\nredis.register_function('mine', function() return 1 end)"),
    ("SET", "{s00}:ready", "1"),
    ("HSET", "{s00}:key:x", "enabled", "1"),
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("CONFIG", "SET", "appendonly", "no"),
    ("ACL", "SETUSER", "me", "on", "nopass", "+@all"),
    ("DEBUG", "SLEEP", 0),
)
OF_OPERATORS: tuple[tuple[Any, ...], ...] = (
    ("PING",),
    ("INFO",),
    ("ACL", "LIST"),
    ("ACL", "LOG"),
    ("ACL", "LOAD"),
    ("CONFIG", "GET", "dir"),
    ("CLIENT", "LIST"),
    ("SLOWLOG", "GET"),
    ("LATENCY", "LATEST"),
    ("MEMORY", "USAGE", "{s00}:ready"),
    ("BGREWRITEAOF",),
    ("LASTSAVE",),
    ("SCAN", 0),
    ("XLEN", "{s00}:usage"),
    ("ZCARD", "{s00}:leases"),
    ("EXISTS", "{s00}:ready"),
    ("UNLINK", "{s00}:nothing"),
    ("XDEL", "{s00}:usage:dead", "1-0"),
    ("FUNCTION", "LIST"),
)
"""what operators send, and deploy/restore beside what a test finds in it"""
TOLD_IN = ("runbook.md", "backup", "restore")
TOLD = r"\bredis ([A-Z]{3,}[^`#|)>\n\"]*)"
"""a command to Redis in a text"""
OPENAI = {"model": "llama3.2:3b"}
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", chat()),
    ("/v1/chat/completions", chat(stream=True)),
    ("/v1/completions", OPENAI | {"prompt": "Why?"}),
    ("/v1/embeddings", {"model": "nomic-embed-text", "input": "x"}),
    ("/v1/responses", OPENAI | {"input": "Why?"}),
    ("/v1/messages", chat(max_tokens=20)),
    ("/v1/generate", {"prompt": "Why?"}),
    ("/api/chat", chat()),
    ("/api/generate", OPENAI | {"prompt": "Why?"}),
    ("/api/embed", {"model": "nomic-embed-text", "input": ["x", "y"]}),
)
WAITING = 12
AGAIN_S = 30.0


@pytest.fixture
async def server(short_dir: Path) -> AsyncIterator[Guarded]:
    async with guarded(short_dir) as one:
        yield one


def template(user: str) -> set[str]:
    """The commands that a user is given."""
    text = (DEPLOY / "redis" / "users.acl").read_text()
    rules = re.split(r"^user ", text, flags=re.M)
    mine = next(rule for rule in rules if rule.startswith(f"{user} "))
    return {
        word[1:] for line in mine.splitlines() if not line.startswith("#") for word in line.split() if word[0] == "+"
    }


def of_lua(parts: set[str]) -> set[str]:
    """The commands in some source files, as an access list names them."""
    text = "".join((LUA / f"{part}.lua").read_text() for part in parts)
    named = re.findall(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?", text)
    assert len(named) == len(re.findall(r"redis\.p?call", text)), "a command that this test cannot read"
    return {f"{name}|{second}".lower() if name in WITH_SUBCOMMANDS else name.lower() for name, second in named}


@pytest.mark.parametrize("user", ["gateway", "worker"])
def test_a_user_has_what_its_functions_and_its_code_send_and_no_more(user: str) -> None:
    assert template(user) == SENT[user] | of_lua(CALLED[user])


def refused(client: "redis.Redis", command: Sequence[Any]) -> bool:
    try:
        client.execute_command(*command)
    except redis.exceptions.NoPermissionError:
        return True
    except redis.exceptions.ResponseError as error:
        return "command not allowed" in str(error)  # by the settings, to nobody
    return False


async def test_what_would_harm_is_refused_to_all_users(server: Guarded) -> None:
    for user, commands in {
        "gateway": (*FORBIDDEN, *TO_THE_GATEWAY),
        "worker": FORBIDDEN,
        "operator": TO_THE_OPERATOR,
    }.items():
        with server.client(user) as client:
            assert [command for command in commands if not refused(client, command)] == [], user
    for command in (("PING",), ("INFO",), ("GET", "{s00}:ready")):
        with server.stranger() as stranger, pytest.raises(redis.exceptions.AuthenticationError):
            stranger.execute_command(*command)


async def test_an_operator_may_do_what_the_runbook_and_the_scripts_say(server: Guarded) -> None:
    told = [shlex.split(one) for name in TOLD_IN for one in re.findall(TOLD, (DEPLOY / name).read_text())]
    assert {"BGREWRITEAOF", "INFO", "ZCARD", "SLOWLOG"} <= {command[0] for command in told}
    with server.client("operator") as client:
        assert [command for command in (*OF_OPERATORS, *told) if refused(client, command)] == []
    assert server.denied() == set()


async def test_the_whole_system_runs_without_a_refusal(
    server: Guarded, database_url: str, fake: FakeOllama, short_dir: Path
) -> None:
    await load(server)
    world = World(server.url(), database_url, [fake.url], short_dir, REDIS_URL=server.url("gateway"), OLLAMA_SLOTS="2")
    async with running(world, 0, 0):
        world.add_worker(REDIS_URL=server.url("worker"))
        await world.add_replica()
        await world.ready()
        operator = Operator(world)
        key = await administered(operator)
        rows = await called(world, key)
        await world.rows(rows)
        rows += await buried_and_replayed(world, operator)
        await world.rows(rows)
        await reaped(world, server, fake, key)
        await world.rows(rows + 1)
        assert (await operator.get("/reconcile"))["differing"] == 0
        assert server.denied() == set()

        await emptied(world, operator, server)
        for log in ("replica-0", "worker-0"):
            assert "NOPERM" not in world.log(log)
    assert server.denied() <= {("gateway", "command", "function|load")}  # it tries; the worker does it


async def load(server: Guarded) -> None:
    """As `llm-gateway migrate` does."""
    pipe = pipe_to(server.url("worker"), 5_000)
    pipe.start()
    await Libraries(pipe).load()
    await Libraries(pipe).prune()
    await pipe.close()


async def administered(operator: Operator) -> str:
    """Everything that operators change, and a key with all limits."""
    node = {"name": "gone", "url": "http://127.0.0.1:9", "slots": 2}
    await operator.make("/tiers", name="batch", multiplier=0.5)
    await operator.make("/prices", model="*", per_1k_prompt_tokens=0.1)
    team = (await operator.make("/teams", label="team", tokens_per_min=10**8, credits=1000))["id"]
    limits = {"rate_limit_per_min": 1_000_000, "tokens_per_min": 10**8, "concurrency": 1_000, "credits": 1_000}
    made = await operator.make("/api-keys", label="key", team_id=team, tier="batch", **limits)
    await operator.make("/backends", **node)
    await operator.change("/backends/gone", slots=3)
    await operator.remove("/backends/gone")
    await operator.make("/aliases", name="fast", targets=["llama3.2:3b"])
    await operator.change(f"/api-keys/{made['id']}", model_limits={"llama*": {"tokens_per_min": 10**8}})
    await operator.make("/credits", key_id=made["id"], credits=5, id="grant-1")
    return str(made["key"])


async def called(world: World, key: str) -> int:
    """All kinds of calls, some that wait, some that are refused, and looks at them. How many became rows."""
    for path, body in CALLS:
        reply = await world.http.post(world.url + path, headers=bearer(key), json=body)
        assert reply.status_code == 200, (path, reply.text)
    crowd = [world.http.post(world.url + CALLS[0][0], headers=bearer(key), json=CALLS[0][1]) for _ in range(WAITING)]
    assert {reply.status_code for reply in await asyncio.gather(*crowd)} == {200}
    assert (await world.http.get(f"{world.url}/v1/models", headers=bearer(key))).status_code == 200
    assert (await world.usage(key))["credits"]["granted"] == 1_005
    wrong = await world.http.post(world.url + CALLS[0][0], headers=bearer(key[:-1] + "x"), json=CALLS[0][1])
    assert wrong.status_code == 401
    operator = Operator(world)
    key_id = (await operator.get("/api-keys?label=key"))["data"][0]["id"]
    for path, asked in (
        ("/limits/dry-run", {"key_id": key_id, "model": "llama3.2:3b", "prompt_tokens": 5}),
        ("/explain", {"key_id": key_id, "body": chat()}),
    ):
        reply = await operator.ask("POST", path, asked)
        assert reply.status_code == 200, reply.text
    for path in (f"/api-keys/{key_id}/usage", "/backends"):
        await operator.get(path)
    other = await operator.make("/api-keys", label="other")
    await operator.remove(f"/api-keys/{other['id']}")
    assert (await operator.call(str(other["key"]))).status_code == 401
    return len(CALLS) + WAITING


async def buried_and_replayed(world: World, operator: Operator) -> int:
    """One event that no row can be made of, and one that is put back. How many became rows."""
    await world.redis.xadd(keyspace.usage(0), fields(event(1), prompt=b"-7"))
    async with asyncio.timeout(AGAIN_S):
        while not (await operator.get("/usage/dead"))["data"]:
            await asyncio.sleep(POLL_S)
    died = {"dead_reason": "postgres 23514 gone", "dead_entry": "1-0"}
    good = await world.redis.xadd(keyspace.usage_dead(0), fields(event(2)) | died)
    said = await operator.ask("POST", "/usage/replay", {"ids": [f"0:{good}"]})
    assert said.json() == {"replayed": 1, "left": 1}
    await world.redis.delete(keyspace.usage_dead(0))
    return 1


async def reaped(world: World, server: Guarded, fake: FakeOllama, key: str) -> None:
    """A replica dies with a call, which a reaper settles; and what workers send but seldom."""
    fake.behaviour = Behaviour(tokens=100_000, tokens_per_s=200)
    url = await world.add_replica()
    await world.ready()
    body = chat(stream=True)
    async with world.http.stream("POST", f"{url}/v1/chat/completions", headers=bearer(key), json=body) as reply:
        lines = reply.aiter_lines()
        await anext(lines)
        await world.replicas[-1][0].kill()
        with pytest.raises(httpx.RemoteProtocolError):
            [line async for line in lines]
    world.replicas.pop()
    fake.behaviour = Behaviour()
    pipe = pipe_to(server.url("worker"), 5_000)
    pipe.start()
    leases = dict.fromkeys(await world.redis.zrange(keyspace.leases(0), 0, -1), 1)
    await world.redis.zadd(keyspace.leases(0), leases)  # as if its time were over
    reaper = Reaper(pipe, RedisLimiter(Functions(pipe), 1), 1, Log(lambda: 0.0, io.StringIO()), patience_ms=0)
    assert await reaper.run_once() == len(leases) == 1
    await seldom(RedisLedger(pipe, 1), Turn(pipe, "worker", 1_000), server)
    await pipe.close()


async def seldom(ledger: RedisLedger, turn: Turn, server: Guarded) -> None:
    """What a worker sends once an hour."""
    await ledger.check_ready()
    await ledger.backlog()
    await ledger.balances([Owner("key", "nobody"), Owner("team", "nobody")], "202611")
    assert await turn.take()
    await turn.give_up(1)
    with server.client("worker") as client:
        client.xinfo_consumers(keyspace.usage(0), keyspace.USAGE_GROUP)
        client.xgroup_delconsumer(keyspace.usage(0), keyspace.USAGE_GROUP, "somebody")


async def emptied(world: World, operator: Operator, server: Guarded) -> None:
    """Redis loses everything, functions too; a worker makes it whole again, then its functions alone."""
    fresh = str((await operator.make("/api-keys", label="fresh"))["key"])
    await operator.until(fresh, 200)
    with server.client() as client:
        client.flushall()
        client.function_flush()
        async with asyncio.timeout(AGAIN_S):
            await operator.until(fresh, 503)
            await operator.until(fresh, 200)
            client.function_flush()
            await operator.until(fresh, 200)
