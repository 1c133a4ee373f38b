"""Clients whose replica dies: requests on raw connections, for a test has to know what was sent and what came back."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import urlsplit

READ_BYTES_MAX = 65_536
WAIT_S = 15.0
DONE = b"data: [DONE]"
TOKEN = b'"content":"'
USAGE = re.compile(rb'"prompt_tokens":(\d+),"completion_tokens":(\d+)')
CALL_ID = re.compile(rb"x-request-id: (\S+)", re.IGNORECASE)


class Stream:
    """One request and all that came back of its answer, until the connection ended."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = False
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def ask(self, url: str, key: str, body: dict[str, Any]) -> None:
        """Send it; returns when the kernel has all of it."""
        place = urlsplit(url)
        reader, self._writer = await asyncio.open_connection(place.hostname, place.port)
        content = json.dumps(body).encode()
        lines = ["POST /v1/chat/completions HTTP/1.1", f"Host: {place.netloc}", f"Authorization: Bearer {key}"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
        self._writer.write("\r\n".join(lines).encode() + content)
        await self._writer.drain()
        self._reading = asyncio.create_task(self._read(reader))

    @property
    def tokens(self) -> int:
        """How many pieces of the answer have come."""
        return self.received.count(TOKEN)

    @property
    def whole(self) -> bool:
        return DONE in self.received

    @property
    def call_id(self) -> str:
        """As the head of the answer says it; "" before that."""
        found = CALL_ID.search(self.received)
        return found[1].decode() if found else ""

    @property
    def usage(self) -> tuple[int, int]:
        """Prompt and completion tokens, as a whole answer says them."""
        found = USAGE.search(self.received)
        assert found
        return int(found[1]), int(found[2])

    async def until_tokens(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.tokens < count:
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        """Read to the end of the connection, which the other side has closed, or is closed now."""
        if self._writer:
            self._writer.close()
        if self._reading:
            await asyncio.wait([self._reading], timeout=WAIT_S)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(READ_BYTES_MAX):
                self.received += data
                self._changed.set()
        except ConnectionError:
            pass
        self.ended = True
        self._changed.set()
