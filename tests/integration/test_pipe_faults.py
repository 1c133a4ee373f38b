"""Our own connection to Redis, where the other side does what no real one does: at the worst moment, each time."""

import asyncio
import os
import random
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop

from gateway.dev.valkey import EmbeddedValkey
from gateway.errors import LimitsUnavailable
from gateway.state import pipe as pipes
from gateway.state import unsent
from gateway.state.pipe import Pipe
from gateway.state.unsent import WAITING_COMMANDS_MAX
from tests.scripted_redis import Peer, ScriptedRedis

TIMEOUT_MS = 250
PATIENT_MS = 10_000
BACK_WITHIN_S = 10.0
SECRET = "correct-horse-battery"
SHUT = "redis://127.0.0.1:1"


def echo(peer: Peer, command: list[bytes]) -> None:
    peer.echo(command)


def mute(peer: Peer, command: list[bytes]) -> None:
    """Never answers."""


@asynccontextmanager
async def piped(url: str, timeout_ms: int = PATIENT_MS) -> AsyncIterator[Pipe]:
    pipe = Pipe(url, timeout_ms)
    pipe.start()
    try:
        yield pipe
    finally:
        await pipe.close()


async def outcome(asked: Awaitable[Any]) -> Any:
    """The reply; the error for one that failed as it may."""
    try:
        return await asked
    except LimitsUnavailable as error:
        return error


def lost(outcomes: list[Any]) -> int:
    return sum(isinstance(one, LimitsUnavailable) for one in outcomes)


async def test_replies_that_come_byte_by_byte(seed: str) -> None:
    async def slowly(peer: Peer, command: list[bytes]) -> None:
        for byte in b"$%d\r\n%b\r\n" % (len(command[1]), command[1]):
            peer.say(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)

    values = [random.Random(seed).randbytes(number) for number in range(1, 12)]
    async with ScriptedRedis(slowly) as server, piped(server.url) as pipe:
        assert await asyncio.gather(*(pipe.call("ECHO", value) for value in values)) == values


Leave = Callable[[Peer], None]


def in_a_reply(peer: Peer) -> None:
    peer.say(b"$1000\r\nthe beginning")
    peer.close()


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset, in_a_reply])
async def test_a_server_that_leaves_in_a_batch_is_asked_once_more(leave: Leave) -> None:
    def answer(peer: Peer, command: list[bytes]) -> None:
        if peer.number == 0 and len(peer.heard) == 3:
            leave(peer)
        elif peer.number or len(peer.heard) < 3:
            peer.echo(command)

    values = [b"%d" % number for number in range(5)]
    async with ScriptedRedis(answer) as server, piped(server.url) as pipe:
        first = [asyncio.ensure_future(pipe.call("ECHO", value)) for value in values]
        while not server.peers or not server.peers[0].heard:
            await asyncio.sleep(0)
        later = [asyncio.ensure_future(pipe.call("ECHO", value)) for value in values]
        first[0].cancel()
        assert await asyncio.gather(*first[1:], *later) == values[1:] + values
        assert len(server.peers) == 2
        assert [command[1] for command in server.peers[1].heard] == values[1:] + values


async def test_what_two_servers_left_alone_is_not_asked_a_third_time() -> None:
    def answer(peer: Peer, command: list[bytes]) -> None:
        if peer.number < 2:
            peer.close()
        else:
            peer.echo(command)

    async with ScriptedRedis(answer) as server, piped(server.url) as pipe:
        with pytest.raises(LimitsUnavailable):
            await pipe.call("ECHO", "twice")
        assert await pipe.call("ECHO", "new") == b"new"
        assert [[command[1] for command in peer.heard] for peer in server.peers] == [[b"twice"], [b"twice"], [b"new"]]


async def test_a_server_that_leaves_between_two_calls_costs_none() -> None:
    def answer(peer: Peer, command: list[bytes]) -> None:
        peer.echo(command)
        peer.close()

    async with ScriptedRedis(answer) as server, piped(server.url) as pipe:
        for number in range(20):
            assert await pipe.call("ECHO", number) == b"%d" % number
        assert len(server.peers) <= 2 * 20


async def test_garbage_fails_what_is_on_the_way_and_is_not_asked_again() -> None:
    def answer(peer: Peer, command: list[bytes]) -> None:
        if peer.number:
            peer.echo(command)
        elif len(peer.heard) == 2:
            peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with ScriptedRedis(answer) as server, piped(server.url) as pipe:
        outcomes = await asyncio.gather(*(outcome(pipe.call("ECHO", one)) for one in range(5)))
        assert lost(outcomes) == 5
        assert await pipe.call("ECHO", "new") == b"new"
        assert [command[1] for command in server.peers[1].heard] == [b"new"]


async def test_a_reply_that_never_comes_shifts_nobody_elses() -> None:
    def answer(peer: Peer, command: list[bytes]) -> None:
        if command[1] != b"swallowed":
            peer.echo(command)

    async with ScriptedRedis(answer) as server, piped(server.url) as pipe:
        first = [asyncio.ensure_future(outcome(pipe.call("ECHO", one))) for one in ("a", "swallowed", "b")]
        while not server.peers or len(server.peers[0].heard) < 3:
            await asyncio.sleep(0)
        later = [asyncio.ensure_future(outcome(pipe.call("ECHO", one))) for one in ("c", "d")]
        assert lost(await asyncio.gather(*first, *later)) == 5
        assert await pipe.call("ECHO", "new") == b"new"


async def test_a_silent_server_is_given_up_and_asked_nothing_again() -> None:
    answer: list[Callable[[Peer, list[bytes]], None]] = [mute]
    async with (
        ScriptedRedis(lambda peer, command: answer[0](peer, command)) as server,
        piped(server.url, TIMEOUT_MS) as pipe,
    ):
        assert lost(await asyncio.gather(*(outcome(pipe.call("ECHO", one)) for one in range(50)))) == 50
        answer[0] = echo
        assert await pipe.call("ECHO", "new") == b"new"
        assert [len(peer.heard) for peer in server.peers] == [50, 1]


async def test_a_slow_server_that_is_not_silent_keeps_its_connection_and_late_replies_reach_nobody() -> None:
    """It takes half a patience for each reply: who is overdue is told so, who comes later still gets its own."""

    async def slowly(peer: Peer, command: list[bytes]) -> None:
        if command[1].startswith(b"slow"):
            await asyncio.sleep(TIMEOUT_MS / 2_000)
        peer.echo(command)

    async with ScriptedRedis(slowly) as server, piped(server.url, TIMEOUT_MS) as pipe:
        outcomes = await asyncio.gather(*(outcome(pipe.call("ECHO", f"slow {one}")) for one in range(4)))
        assert lost(outcomes) == 4
        while not isinstance(await outcome(pipe.call("ECHO", "mine")), bytes):
            pass
        assert await pipe.call("ECHO", "again") == b"again"
        assert len(server.peers) == 1


async def test_callers_that_leave_while_their_replies_are_on_the_way() -> None:
    gate = asyncio.Event()

    async def gated(peer: Peer, command: list[bytes]) -> None:
        await gate.wait()
        peer.echo(command)

    async with ScriptedRedis(gated) as server, piped(server.url) as pipe:
        calls = [asyncio.ensure_future(pipe.call("ECHO", one)) for one in range(100)]
        while not server.peers or not server.peers[0].heard:
            await asyncio.sleep(0)
        for leaving in calls[::2]:
            leaving.cancel()
        gate.set()
        assert await asyncio.gather(*calls[1::2]) == [b"%d" % one for one in range(1, 100, 2)]
        assert await pipe.call("ECHO", "after") == b"after"


async def test_a_server_that_takes_nothing_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads no more after the first command; what cannot be sent is bounded by bytes."""
    monkeypatch.setattr(unsent, "WAITING_BYTES_MAX", 2_000_000)
    gate = asyncio.Event()

    async def deaf(peer: Peer, command: list[bytes]) -> None:
        await gate.wait()
        peer.echo(command)

    async with ScriptedRedis(deaf) as server, piped(server.url) as pipe:
        calls: list[asyncio.Future[Any]] = []
        refused = 0
        while not refused:
            calls.append(asyncio.ensure_future(outcome(pipe.call("ECHO", bytes(500_000)))))
            for _ in range(5):
                await asyncio.sleep(0)
            refused = sum(call.done() for call in calls)
        taken = len(calls) * 500_000
        print(f"{taken} bytes taken by buffers until the first was refused")
        assert taken < 30_000_000
        gate.set()
        outcomes = await asyncio.gather(*calls)
        assert lost(outcomes) == refused
        assert [one for one in outcomes if one == bytes(500_000)] == outcomes[:-refused]


async def test_twenty_thousand_wait_and_no_more(short_dir: Path) -> None:
    valkey = EmbeddedValkey(short_dir)
    await valkey.start()
    async with piped(valkey.url, TIMEOUT_MS) as pipe:
        await pipe.call("ECHO", "warm")
        os.kill(valkey.pid, signal.SIGSTOP)
        asked = [asyncio.ensure_future(pipe.call("ECHO", one)) for one in range(WAITING_COMMANDS_MAX + 100)]
        assert [one.done() for one in asked] == [False] * WAITING_COMMANDS_MAX + [True] * 100, "those are too many"
        assert lost([await outcome(one) for one in asked]) == len(asked)
        os.kill(valkey.pid, signal.SIGCONT)
        while isinstance(await outcome(pipe.call("ECHO", "mine")), LimitsUnavailable):
            pass
        calls = [outcome(pipe.call("ECHO", one)) for one in range(10_000)]
        replies = [one for one in await asyncio.gather(*calls) if not isinstance(one, LimitsUnavailable)]
        assert set(replies) <= {b"%d" % one for one in range(10_000)}
    await valkey.stop()


async def test_attempts_to_connect_are_made_one_at_a_time_with_a_rest_between(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0
    opened = pipes.Dial.open

    async def counted(dial: pipes.Dial, new: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return await opened(dial, new)

    monkeypatch.setattr(pipes.Dial, "open", counted)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with piped(SHUT, TIMEOUT_MS) as pipe:
        for _ in range(5):
            outcomes = await asyncio.gather(*(outcome(pipe.call("ECHO", one)) for one in range(200)))
            assert lost(outcomes) == 200
    assert 5 <= attempts <= 1 + (loop.time() - began_s) / pipes.DIAL_REST_S


async def test_a_server_that_hangs_while_it_is_connected_to(short_dir: Path) -> None:
    valkey = EmbeddedValkey(short_dir)
    await valkey.start()
    os.kill(valkey.pid, signal.SIGSTOP)
    async with piped(valkey.url, TIMEOUT_MS) as pipe:
        assert lost([await outcome(pipe.call("ECHO", one)) for one in range(3)]) == 3
        os.kill(valkey.pid, signal.SIGCONT)
        while isinstance(await outcome(pipe.call("ECHO", "mine")), LimitsUnavailable):
            pass
        async with asyncio.timeout(BACK_WITHIN_S):
            while len((await pipe.call("CLIENT", "LIST")).splitlines()) > 1:  # those that were given up are closed
                pass
    await valkey.stop()


@pytest.fixture
async def locked(short_dir: Path) -> AsyncIterator[Path]:
    """The socket of a server that wants a password."""
    server = EmbeddedValkey(short_dir)
    await server.start()
    with redis.Redis.from_url(server.url) as first:
        first.config_set("requirepass", SECRET)
    yield server.socket
    await server.stop()


async def test_users_passwords_and_databases_are_those_of_the_address(locked: Path) -> None:
    async with piped(f"unix://:{SECRET}@{locked}?db=3&client_name=ours") as pipe:
        assert await pipe.call("SET", "x", "1")
        assert b"db=3" in await pipe.call("CLIENT", "INFO")
        assert await pipe.call("CLIENT", "GETNAME") == b"ours"
        await pipe.call("ACL", "SETUSER", "some@one", "on", f">{SECRET}", "~*", "+@all")
    async with piped(f"unix://some%40one:{SECRET}@{locked}?db=3") as pipe:
        assert await pipe.call("GET", "x") == b"1"
        assert await pipe.call("ACL", "WHOAMI") == b"some@one"


@pytest.mark.parametrize("place", ["unix://:{wrong}@{socket}", "unix://{socket}", "unix://:{right}@{socket}?db=99"])
async def test_who_is_not_let_in_hears_nothing_of_why(
    locked: Path, place: str, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = SECRET[::-1]
    async with piped(place.format(wrong=wrong, right=SECRET, socket=locked)) as pipe:
        error = await outcome(pipe.call("GET", "x"))
    assert isinstance(error, LimitsUnavailable)
    told = repr(error) + str(error.__cause__) + str(error.__context__) + "".join(capfd.readouterr())
    assert SECRET not in told
    assert wrong not in told


def test_on_the_loop_that_replicas_use() -> None:
    """Its transports are its own; TCP, TLS aside."""

    async def run() -> None:
        def answer(peer: Peer, command: list[bytes]) -> None:
            if peer.number == 0 and command[1] == b"50":
                peer.close()
            else:
                peer.echo(command)

        async with ScriptedRedis(answer) as server, piped(server.url) as pipe:
            for start in range(0, 100, 10):
                values = [b"%d" % number for number in range(start, start + 10)]
                assert await asyncio.gather(*(pipe.call("ECHO", value) for value in values)) == values
            assert len(server.peers) == 2
        async with ScriptedRedis(mute) as server, piped(server.url, TIMEOUT_MS) as pipe:
            assert lost([await outcome(pipe.call("ECHO", one)) for one in range(2)]) == 2

    uvloop.run(run())


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl here")
async def test_over_tls_only_who_can_prove_its_name_is_spoken_to(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-out", str(certificate), "-keyout", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with ScriptedRedis(echo, tls=tls) as server:
        address = server.url.replace("redis://", "rediss://")
        async with piped(f"{address}?ssl_ca_certs={certificate}") as pipe:
            assert await pipe.call("ECHO", "a") == b"a"
        async with piped(f"{address}?ssl_cert_reqs=none") as pipe:
            assert await pipe.call("ECHO", "b") == b"b"
        heard = sum(len(peer.heard) for peer in server.peers)
        async with piped(address) as pipe:
            assert lost([await outcome(pipe.call("ECHO", "c"))]) == 1
        assert sum(len(peer.heard) for peer in server.peers) == heard
