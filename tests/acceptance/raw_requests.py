"""Requests as bytes on a connection, for paths that no client would send as they are."""

import asyncio
from urllib.parse import urlsplit

STATUS_AT = 1
SEND_S = 10.0
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Raw:
    """One connection after another to a gateway; each is kept for as long as the gateway keeps it."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer to exactly this request line."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        data = "\r\n".join([*lines, "", ""]).encode() + body
        async with asyncio.timeout(SEND_S):
            try:
                return await self._exchange(data)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.close()  # it was closed after the answer before
                return await self._exchange(data)

    async def _exchange(self, data: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            host, _, port = self.host.rpartition(":")
            self._streams = await asyncio.open_connection(host, int(port))
        reader, writer = self._streams
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split()[STATUS_AT])
        if status == 204:
            return status, b""
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), None)
        body = await (reader.readuntil(LAST_CHUNK) if length is None else reader.readexactly(length))
        if b"connection: close" in head:
            self.close()
        return status, body

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None
