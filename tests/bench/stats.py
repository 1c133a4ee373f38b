"""What nodes have counted."""

import asyncio

import msgspec
from msgspec import Struct

from tests.bench import request
from tests.bench.load import Address

IDLE_S = 20.0
POLL_S = 0.02
ANSWER_BYTES_MAX = 1 << 20


class Told(Struct):
    """As `stub.Counts`."""

    requests: int
    chunks: int
    connections: int
    open: int
    aborted: int
    last_abort_s: float


async def told(node: Address) -> Told:
    """What the stub has counted. Asking is a connection of its own, which it counts too."""
    return msgspec.json.decode(await get(node, "/stats"), type=Told)


async def idle(node: Address) -> None:
    """Wait until no answer is under way."""
    async with asyncio.timeout(IDLE_S):
        while (await told(node)).open:
            await asyncio.sleep(POLL_S)


async def get(address: Address, path: str) -> bytes:
    """The body of an answer that says its length."""
    reader, writer = await asyncio.open_connection(*address, limit=ANSWER_BYTES_MAX)
    try:
        writer.write(request.get(path))
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-len"))
        return await reader.readexactly(length)
    finally:
        writer.close()
