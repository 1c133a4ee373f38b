"""What `up` asks of the gateway it has started: over HTTP, like anybody."""

import asyncio
from collections.abc import Callable

from gateway.dev.home import DEMO_KEY, Home
from gateway.dev.places import CannotStart

READY_WAIT_S = 60.0
KEY_WAIT_S = 20.0
ASK_WAIT_S = 5.0
POLL_S = 0.05
ACTOR = "up"
"""who made the demo key, in the audit log"""


class Visitor:
    """An HTTP client of the gateway at `url`, which knows the admin secret. Use with `async with`."""

    def __init__(self, url: str, admin_url: str, admin_secret: str) -> None:
        import httpx

        self._unreachable = httpx.HTTPError
        self._client = httpx.AsyncClient(base_url=url, timeout=ASK_WAIT_S, trust_env=False)
        self._keys = f"{admin_url}/admin/api-keys"
        self._admin = {"X-Admin-Secret": admin_secret, "X-Admin-Actor": ACTOR}

    async def __aenter__(self) -> "Visitor":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def until_ready(self, check: Callable[[], None]) -> None:
        """Wait for GET /ready to say 200. `check` is called meanwhile and raises when waiting is in vain."""
        said = "nothing"
        deadline = asyncio.get_running_loop().time() + READY_WAIT_S
        while asyncio.get_running_loop().time() < deadline:
            check()
            try:
                answer = await self._client.get("/ready")
                if answer.status_code == 200:
                    return
                said = answer.text
            except self._unreachable as error:
                said = type(error).__name__
            await asyncio.sleep(POLL_S)
        raise CannotStart(f"the gateway was not ready after {READY_WAIT_S:.0f} s; GET /ready said {said}")

    async def demo_key(self, home: Home) -> str:
        """The saved demo key if this gateway knows it (the database may be another one now), else a new one, saved."""
        saved = home.secret(DEMO_KEY)
        if saved and await self._works(saved):
            return saved
        answer = await self._client.post(self._keys, json={"label": "demo"}, headers=self._admin)
        if answer.is_error:
            raise CannotStart(f"the gateway made no demo key: HTTP {answer.status_code} {answer.text}")
        key = str(answer.json()["key"])
        home.keep_secret(DEMO_KEY, key)
        return key

    async def _works(self, key: str) -> bool:
        deadline = asyncio.get_running_loop().time() + KEY_WAIT_S
        while True:
            answer = await self._client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
            if answer.status_code < 500 or asyncio.get_running_loop().time() > deadline:
                return answer.status_code not in {401, 403}
            await asyncio.sleep(POLL_S)
