"""A fake Ollama that answers like the recorded one, keeps a ledger, and fails in every way a node can.

    fake = FakeOllama()
    await fake.start()                                   # fake.url
    fake.behaviour = Behaviour(drop_after_chunks=3)      # or POST the same as JSON to /_fake/behaviour
    await fake.ledger.until(lambda ledger: ledger.left)  # no sleeping in tests
    await fake.stop()

On its own: `python -m gateway.dev.fake_ollama --port 11434`. Control, beside Ollama's own routes:

    POST  /_fake/behaviour  set what it does (fields of Behaviour; those not named get their defaults)
    PATCH /_fake/behaviour  change some of it
    PATCH /_fake/hardware   change how fast and how big the node is (fields of Hardware)
    POST  /_fake/replay     {"path", "response": {"status", "headers", "body", "chunks"}}: the next answer there
    GET   /_fake/ledger     what came and what became of it
    GET   /_fake/counts     its sums alone
    POST  /_fake/reset      behaviour, replays, ledger and loaded models as at the start
"""

import argparse
import asyncio
import contextlib
import signal
import socket

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_hardware import Hardware
from gateway.dev.fake_http import Malformed, Reader, Request, Wire, read_request
from gateway.dev.fake_ledger import Exchange
from gateway.dev.fake_models import MODELS, Model
from gateway.dev.fake_node import CONTROL, Node
from gateway.dev.fake_sender import Dropped, Sender
from gateway.dev.fake_turn import Turn

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
        hardware: Hardware | None = None,
    ) -> None:
        super().__init__(models, hardware)
        self._where = (host, port)
        self._sock = sock
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The one it listens on, or did before it was stopped."""
        assert self._server is not None
        return self._where[1]

    @property
    def url(self) -> str:
        return f"http://{self._where[0]}:{self.port}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._sock is not None:
            self._server = await loop.create_server(self._protocol, sock=self._sock)
        else:
            self._server = await loop.create_server(self._protocol, *self._where, backlog=CONNECTIONS_WAITING_MAX)
        port = int(self._server.sockets[0].getsockname()[1])
        self._where = (self._where[0], port)  # the same when started again

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
            if self.down:
                self._reset(Wire(writer))
                return
            task = asyncio.ensure_future(self._serve(reader, writer))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

        return asyncio.StreamReaderProtocol(reader, connected)

    def _reset(self, wire: Wire) -> None:
        self.ledger.reset()
        wire.reset()

    async def _serve(self, reader: Reader, writer: asyncio.StreamWriter) -> None:
        """All requests of one connection, one after the other."""
        self.ledger.connected(+1)
        try:
            while request := await read_request(reader):
                wire = Wire(writer)
                if self.down:
                    self._reset(wire)
                    break
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
        exchange = self.ledger.begin(request, lambda: wire.left)
        answering = asyncio.ensure_future(self._answer(request, exchange, wire))
        leaving = asyncio.ensure_future(reader.left.wait())

        def left() -> None:
            if not exchange.completed and not wire.was_reset:
                self.ledger.left_by_client(exchange, wire.backed_up)

        def last() -> None:
            exchange.completed = True
            self.ledger.end(exchange)

        reader.on_left, wire.on_last = left, last
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
            self.ledger.left_by_client(exchange, wire.backed_up)
        except asyncio.CancelledError:  # the fake stops
            exchange.dropped = True
            raise
        finally:
            reader.on_left = None
            answering.cancel()
            leaving.cancel()
            self.ledger.end(exchange)
        return False

    async def _answer(self, request: Request, exchange: Exchange, wire: Wire) -> None:
        behaviour, answer = self.decide(request)
        exchange.body = answer.body
        sender = Sender(wire, behaviour, lambda tokens: self.ledger.sent(exchange, tokens))
        turn = Turn(self.memory, self.ledger, exchange, behaviour, sender)
        await turn.take(answer, headers_only=request.method == "HEAD")


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
