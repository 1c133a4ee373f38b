"""Ports of this machine, and where it reaches what listens on them."""

import socket

from gateway.dev.problems import CannotStart

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  compared with, not bound to


def url_of(host: str, port: int) -> str:
    """Where this machine reaches a server that listens on `host`, which may be all addresses."""
    host = _ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(host: str, port: int) -> int:
    """`port` if nothing listens there, or any free one for 0. Raises `CannotStart` with what to do."""
    try:
        infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with socket.socket(infos[0][0], socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(infos[0][4])
            return int(sock.getsockname()[1])
    except OSError as error:
        raise CannotStart(f"cannot listen on HOST {host}, PORT {port} ({error.strerror}): set another PORT") from None
