"""What a server runs, command by command: MONITOR, which also tells what functions do inside."""

import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters import EmbeddedCluster

WAIT_S = 10.0


class Watched:
    """MONITOR on one node: every command as it runs, also those of functions."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(WAIT_S)
        self._socket.connect(str(path))
        self._socket.sendall(b"MONITOR\r\n")
        self._file = self._socket.makefile("rb")
        assert self._file.readline() == b"+OK\r\n"

    def lines(self) -> list[str]:
        """All until now, which the node is told to mark."""
        end, found = f"end {random.random()}", []
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(self._socket.getpeername())
            other.sendall(f'ECHO "{end}"\r\n'.encode())
            other.recv(100)
        while end not in (line := self._file.readline().decode("utf-8", "replace")):
            found.append(line)
        return found

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@contextmanager
def monitored(cluster: EmbeddedCluster) -> Iterator[list[Watched]]:
    watched = [Watched(server.socket) for server in cluster.servers]
    try:
        yield watched
    finally:
        for one in watched:
            one.close()


def words_of(line: str) -> tuple[str, list[str]]:
    """Who ran a command, and its words: +1795.1 [0 lua] "HGET" "key" "field"."""
    client = re.search(r"\[\d+ ([^\]]*)\]", line)
    assert client
    return client[1], [word.replace('\\"', '"') for word in re.findall(r'"((?:[^"\\]|\\.)*)"', line[client.end() :])]
