"""`llm-gateway health`: whether the replica or worker of this container is well, for a HEALTHCHECK.

It runs every few seconds beside the replica, so it imports as little as it can, and `main` reads the settings for it
only where the environment does not say all it needs.
"""

import argparse
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from gateway.settings import Settings

Place: TypeAlias = tuple[str, int, str]
"""host, port and path to ask"""
HELP = "ask this container's own port how it is, for health checks"
WAIT_S = 3.0
ANSWER_BYTES_MAX = 65_536
WELL = 200


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Ask the replica on HOST and PORT whether it is ready, or the worker on WORKER_PORT whether it lives, and "
        "print its answer. The exit code is 0 when it says yes, else 1. Example: llm-gateway health --worker"
    )
    parser.add_argument("--worker", action="store_true", help="ask the worker on WORKER_PORT")


def run(options: argparse.Namespace, settings: "Settings") -> int:
    if options.worker and not settings.worker_port:
        print("WORKER_PORT is 0: a worker without a port cannot be asked")
        return 1
    return tell(settings.host, settings.worker_port if options.worker else settings.port, _path(options))


def place_in(options: argparse.Namespace, env: Mapping[str, str]) -> Place | None:
    """What to ask, as far as the environment says it; None: it does not."""
    host, port = env.get("HOST", ""), env.get("WORKER_PORT" if options.worker else "PORT", "")
    return (host, int(port), _path(options)) if host and port.isdecimal() and int(port) else None


def _path(options: argparse.Namespace) -> str:
    return "/healthz" if options.worker else "/ready"


def tell(host: str, port: int, path: str) -> int:
    """Ask, print one line, and give the exit code."""
    try:
        status, said = ask(host, port, path)
    except (OSError, OverflowError, ValueError) as error:
        print(f"no answer: {error}")
        return 1
    print(f"{status} {said}")
    return 0 if status == WELL else 1


def ask(host: str, port: int, path: str) -> tuple[int, str]:
    """Status and body. Raises `OSError`, or `ValueError` for what is no answer. An address for all is this machine."""
    with socket.create_connection((host, port), WAIT_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(answer) < ANSWER_BYTES_MAX and (piece := connection.recv(ANSWER_BYTES_MAX)):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[1].isdigit():
        raise ValueError("it speaks no HTTP")
    return int(words[1]), " ".join(body.decode(errors="replace").split())
