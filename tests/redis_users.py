"""A Valkey with the very settings and the very users of `deploy/redis`, for tests of what these may do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis

from gateway.dev.valkey import EmbeddedValkey
from tests.made_secrets import DEPLOY, made

CONF = DEPLOY / "redis" / "redis.conf"
TESTER = "tester"
"""a user more, who may do everything"""


class Guarded:
    """Who is nobody gets in nowhere, as when it is deployed."""

    def __init__(self, server: EmbeddedValkey, secrets: dict[str, str]) -> None:
        self._server = server
        self._passwords = {user: secrets[f"redis_{user}_password"] for user in ("gateway", "worker", "operator")}

    def url(self, user: str = TESTER) -> str:
        return f"unix://{user}:{self._passwords.get(user, '-')}@{self._server.socket}"

    def client(self, user: str = TESTER) -> "redis.Redis":
        return redis.Redis.from_url(self.url(user), decode_responses=True)

    def stranger(self) -> "redis.Redis":
        return redis.Redis.from_url(self._server.url)

    def denied(self) -> set[tuple[str, str, str]]:
        """What anybody was refused: user, why (command, key, channel, auth), what."""
        log: Any = self.client().acl_log(count=1_000)
        return {(one["username"], one["reason"], one["object"]) for one in log}


@asynccontextmanager
async def guarded(directory: Path) -> AsyncIterator[Guarded]:
    secrets = made(directory / "secrets")
    users, conf = directory / "users.acl", directory / "redis.conf"
    users.write_text("user default on nopass ~* &* +@all\n")  # until it is up: whether it is, it is asked
    places = {"dir /data": f"dir {directory}", "port 6379": "port 0", "aclfile ": f"aclfile {users}\n# "}
    text = CONF.read_text()
    for ours, theirs in places.items():
        assert text.count(f"\n{ours}") == 1
        text = text.replace(f"\n{ours}", f"\n{theirs}")
    conf.write_text(text)
    server = EmbeddedValkey(directory, more={"include": str(conf)})
    await server.start()
    try:
        users.write_text(secrets["redis_users.acl"] + f"user {TESTER} on nopass ~* &* +@all\n")
        with redis.Redis.from_url(server.url) as first:
            first.acl_load()
        yield Guarded(server, secrets)
    finally:
        await server.stop()
