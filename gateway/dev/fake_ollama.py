"""A fake Ollama that answers like the recorded one, keeps a ledger, and fails in every way a node can.

    fake = FakeOllama()
    await fake.start()                                   # fake.url
    fake.behaviour = Behaviour(drop_after_chunks=3)      # or POST the same as JSON to /_fake/behaviour
    await fake.ledger.until(lambda ledger: ledger.left)  # no sleeping in tests
    await fake.stop()

On its own: `python -m gateway.dev.fake_ollama --port 11434`. Control, beside Ollama's own routes:

    POST  /_fake/behaviour  set what it does (fields of Behaviour; those not named get their defaults)
    PATCH /_fake/behaviour  change some of it
    POST  /_fake/replay     {"path", "response": {"status", "headers", "body", "chunks"}}: the next answer there
    GET   /_fake/ledger     what came and what became of it
    POST  /_fake/reset      behaviour, replays, ledger and loaded models as at the start
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import time

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_generation import Generation
from gateway.dev.fake_http import Malformed, Reader, Request, Wire, read_request
from gateway.dev.fake_ledger import Exchange
from gateway.dev.fake_models import MODELS, Model
from gateway.dev.fake_node import CONTROL, Node
from gateway.dev.fake_sender import Dropped, Sender

CONNECTIONS_WAITING_MAX = 4_096


class FakeOllama(Node):
    """One fake node. `port` 0 takes a free one; `sock` is a listening socket to use instead."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
        models: tuple[Model, ...] = MODELS,
    ) -> None:
        super().__init__(models)
        self._where = (host, port)
        self._sock = sock
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://{self._where[0]}:{self.port}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._sock is not None:
            self._server = await loop.create_server(self._protocol, sock=self._sock)
        else:
            self._server = await loop.create_server(self._protocol, *self._where, backlog=CONNECTIONS_WAITING_MAX)
        self._where = (self._where[0], self.port)  # the same port when started again

    async def stop(self) -> None:
        """At once, as Ollama does: whatever runs is cut."""
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        reader = Reader()

        async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

        return asyncio.StreamReaderProtocol(reader, connected)

    async def _serve(self, reader: Reader, writer: asyncio.StreamWriter) -> None:
        """All requests of one connection, one after the other."""
        self.ledger.connected(+1)
        try:
            while request := await read_request(reader):
                wire = Wire(writer)
                if request.path.startswith(CONTROL):
                    await Sender(wire, Behaviour(), lambda _: None).whole(self.control(request))
                elif not await self._exchange(request, reader, wire):
                    break
                if request.headers.get("connection", "").lower() == "close":
                    break
        except (Malformed, ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            self.ledger.connected(-1)
            writer.transport.abort()

    async def _exchange(self, request: Request, reader: Reader, wire: Wire) -> bool:
        """Answer one request while watching whether its client stays. Whether the connection can be used again."""
        exchange = self.ledger.begin(request)
        answering = asyncio.ensure_future(self._answer(request, exchange, wire))
        leaving = asyncio.ensure_future(reader.left.wait())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
                exchange.completed = True
                return True
            raise ConnectionResetError
        except Dropped:
            exchange.dropped = True
        except ConnectionError:
            exchange.backed_up = wire.backed_up
            exchange.disconnected_at = time.time()
        except asyncio.CancelledError:  # the fake stops
            exchange.dropped = True
            raise
        finally:
            answering.cancel()
            leaving.cancel()
            self.ledger.end(exchange)
        return False

    async def _answer(self, request: Request, exchange: Exchange, wire: Wire) -> None:
        behaviour, exchange.body, said = self.decide(request)

        def sent(tokens: int) -> None:
            exchange.tokens_sent += tokens
            exchange.chunks_sent += 1
            self.ledger.touch()

        sender = Sender(wire, behaviour, sent)
        await sender.before()
        if isinstance(said, Generation):
            exchange.status = 200 if said.streamed or said.error is None else 500
            await sender.generation(said)
        else:
            exchange.status = said.status
            await sender.whole(said, headers_only=request.method == "HEAD")


async def run(fake: FakeOllama) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    stopped = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sig, stopped.set)
    await fake.start()
    print(f"fake Ollama at {fake.url}", flush=True)
    await stopped.wait()
    await fake.stop()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway.dev.fake_ollama", description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=11434, help="port; 0 takes a free one (default %(default)s)")
    parser.add_argument("--fd", type=int, help="file descriptor of a listening socket to use instead")
    options = parser.parse_args(argv)
    sock = socket.socket(fileno=options.fd) if options.fd is not None else None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(FakeOllama(host=options.host, port=options.port, sock=sock)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
