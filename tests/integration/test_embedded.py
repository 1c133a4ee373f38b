"""The embedded servers: ready when started, the same data after stop and kill -9, nothing left when the parent dies."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import asyncpg
import pytest
import redis

from gateway.dev.places import SOCKET_PATH_BYTES_MAX, PlaceUnusable, socket_dir
from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.process import Child, ChildFailed
from gateway.dev.valkey import EmbeddedValkey

GONE_WAIT_S = 15.0


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that its new parent has yet to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_gone(*pids: int) -> None:
    deadline = time.monotonic() + GONE_WAIT_S
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, [pid for pid in pids if alive(pid)]
        await asyncio.sleep(0.02)


async def test_valkey_keeps_its_data_over_stop_and_kill(short_dir: Path) -> None:
    valkey = EmbeddedValkey(short_dir / "v")
    await valkey.start()
    with redis.Redis.from_url(valkey.url) as client:
        client.set("a", "1")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        client.execute_command("WAITAOF", 1, 0, 2000)
        url, pid = valkey.url, valkey.pid
        await valkey.kill()
        assert not alive(pid)
        await valkey.start()
        assert valkey.url == url
        assert client.get("a") == b"1"
        await valkey.stop()
        await valkey.start()
        assert client.get("a") == b"1"
    assert valkey.socket.stat().st_mode & 0o777 == 0o700
    assert (short_dir / "v").stat().st_mode & 0o777 == 0o700
    await valkey.stop()
    assert not alive(valkey.pid)


async def test_postgres_keeps_its_data_over_stop_and_kill(short_dir: Path) -> None:
    postgres = EmbeddedPostgres(short_dir / "p")
    await postgres.start()
    url = postgres.url
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
    await postgres.kill()
    await postgres.start()
    await until_reads(url, 1)
    await postgres.stop()
    await postgres.start()
    assert postgres.url == url
    await until_reads(url, 1)
    assert (short_dir / "p").stat().st_mode & 0o777 == 0o700
    await postgres.stop()
    assert not alive(postgres.pid)


async def until_reads(url: str, value: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT n FROM kept") == value
    finally:
        await connection.close()


async def test_a_process_id_that_is_somebody_elses_now_does_not_block_postgres(short_dir: Path) -> None:
    postgres = EmbeddedPostgres(short_dir / "p", fsync=False)
    await postgres.start()
    await postgres.kill()
    pid_file = short_dir / "p" / "data" / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    await postgres.start()
    await postgres.stop()


async def test_a_torn_first_start_is_repeated(short_dir: Path) -> None:
    torn = short_dir / "p" / "data.unfinished"
    torn.mkdir(parents=True)
    (torn / "PG_VERSION").write_text("18\n")
    postgres = EmbeddedPostgres(short_dir / "p", fsync=False)
    await postgres.start()
    await postgres.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_kill_minus_nine_of_the_parent_leaves_no_process(short_dir: Path) -> None:
    program = textwrap.dedent("""
        import asyncio, sys, time
        from pathlib import Path
        from gateway.dev.postgres import EmbeddedPostgres
        from gateway.dev.valkey import EmbeddedValkey
        async def main():
            servers = EmbeddedValkey(Path(sys.argv[1]) / "v"), EmbeddedPostgres(Path(sys.argv[1]) / "p", fsync=False)
            for server in servers:
                await server.start()
            print(*(server.pid for server in servers), flush=True)
            time.sleep(60)
        asyncio.run(main())
    """)
    parent = subprocess.Popen([sys.executable, "-c", program, str(short_dir)], stdout=subprocess.PIPE)
    assert parent.stdout
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(alive, pids))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await until_gone(*pids)
    for server in EmbeddedValkey(short_dir / "v"), EmbeddedPostgres(short_dir / "p", fsync=False):
        await server.start()
        await server.stop()


async def test_a_path_too_long_for_a_socket_gets_a_short_one(short_dir: Path) -> None:
    deep = short_dir / ("d" * 60) / ("e" * 60)
    valkey, postgres = EmbeddedValkey(deep / "v"), EmbeddedPostgres(deep / "p", fsync=False)
    for server in valkey, postgres:
        await server.start()
        await server.stop()
    for place in valkey.socket.parent, postgres.socket_dir:
        assert len(str(place)) < SOCKET_PATH_BYTES_MAX
        assert place.stat().st_mode & 0o777 == 0o700
        for left in place.iterdir():
            left.unlink()
        place.rmdir()


def test_a_short_socket_directory_of_somebody_else_is_refused(short_dir: Path) -> None:
    deep = short_dir / ("d" * 100)
    place = socket_dir(deep, "s")
    place.rmdir()
    place.symlink_to(short_dir)
    try:
        with pytest.raises(PlaceUnusable, match="belongs to somebody else"):
            socket_dir(deep, "s")
    finally:
        place.unlink()


async def test_a_child_that_will_not_stop_is_killed(short_dir: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    child = Child("stubborn", [sys.executable, "-c", program], log=short_dir / "log")
    child.spawn()
    while "up" not in child.tail():
        await asyncio.sleep(0.01)
    assert await child.stop(wait_s=0.1) == -signal.SIGKILL


async def test_a_child_that_cannot_run_says_so(short_dir: Path) -> None:
    with pytest.raises(ChildFailed, match="nothing cannot be started"):
        Child("nothing", [str(short_dir / "nothing")]).spawn()
    child = Child("short", [sys.executable, "-c", "print('the reason')"], log=short_dir / "log")
    child.spawn()
    assert await child.exited(10)
    assert "the reason" in str(child.failure("ended"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that root alone may enter")
async def test_as_root_below_a_closed_directory_postgres_runs_as_nobody(short_dir: Path) -> None:
    closed = short_dir / "closed"
    closed.mkdir(mode=0o700)
    postgres = EmbeddedPostgres(closed / "p", fsync=False)
    await postgres.start()
    status = Path(f"/proc/{postgres.pid}/status").read_text()
    assert "Uid:\t0\t" not in status
    connection = await asyncpg.connect(postgres.url)
    await connection.close()
    await postgres.stop()
    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == 0


async def test_fixtures_give_empty_servers(redis_url: str, database_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "over")
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.execute("CREATE TABLE left_over ()")
    await connection.close()


async def test_fixtures_give_empty_servers_again(redis_url: str, database_url: str) -> None:
    await test_fixtures_give_empty_servers(redis_url, database_url)
