"""The last moments of a listening socket: who has begun to connect is let in before it closes.

Where it just closes, the kernel resets connections that are established but not accepted yet, and a request that was
sent on one is lost: a balancer may repeat what it could not dial, not what it has sent.
"""

import asyncio
import select
import socket
from collections.abc import Sequence
from contextlib import suppress

HANDSHAKES_S = 0.1
"""for connections of which the first packet has come and the last one not"""
POLL_S = 0.01
POLLS_MAX = 200
SO_BINDTOIFINDEX = 62
"""of Linux; Python's socket module does not name it"""
NO_DEVICE = 2**31 - 1


async def emptied(sockets: Sequence[socket.socket]) -> None:
    """Wait until everybody who had dialled is accepted, by the event loop as ever. Who dials from now on is refused."""
    with suppress(
        OSError
    ):  # another system than Linux: the few who dial between the last accept and the close are lost
        for one in sockets:
            _refuse(one)
    await asyncio.sleep(HANDSHAKES_S)
    for _ in range(POLLS_MAX):
        if not _anybody(sockets):
            return
        await asyncio.sleep(POLL_S)


def _refuse(listening: socket.socket) -> None:
    """Bound to a device that there is not, it hears of no new connection: the kernel refuses, as if nobody listened.

    What has begun goes on. It takes no privilege, and can be done once.
    """
    listening.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, NO_DEVICE)


def _anybody(sockets: Sequence[socket.socket]) -> bool:
    """Whether connections wait to be accepted."""
    waiting = select.poll()
    for one in sockets:
        waiting.register(one.fileno(), select.POLLIN)
    return bool(waiting.poll(0))
