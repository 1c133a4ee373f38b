"""Where embedded servers are: private directories, socket paths short enough for the kernel, binaries, ports."""

import hashlib
import importlib.util
import os
import socket
import stat
import tempfile
from pathlib import Path

SOCKET_PATH_BYTES_MAX = 100  # the kernel takes 107 on Linux, 103 on macOS
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  compared with, not bound to


class CannotStart(Exception):
    """Something did not start, or ended when it should not. The message says what, and what to do."""


class PlaceUnusable(CannotStart):
    """A directory or a program that an embedded server needs cannot be used; the message says what to do."""


def private_dir(path: Path, owner: int | None = None) -> Path:
    """`path` as a directory only its owner may enter. `owner` (uid and gid) applies when this process is root."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    if owner is not None and path.stat().st_uid != owner:
        os.chown(path, owner, owner)
    return path


def socket_dir(wanted: Path, name: str, owner: int | None = None) -> Path:
    """A private directory for a socket called `name`: `wanted`, or a short one under /tmp where that is too long.

    The short one is derived from `wanted`, so that it is the same after a restart.
    """
    if len(os.fsencode(wanted / name)) <= SOCKET_PATH_BYTES_MAX:
        return private_dir(wanted, owner)
    digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"llm-gateway-{os.geteuid()}-{digest}"
    if len(os.fsencode(short / name)) > SOCKET_PATH_BYTES_MAX:  # TMPDIR is long too (macOS)
        short = Path("/tmp") / short.name  # noqa: S108  made private below, and refused when somebody else's
    private_dir_of_mine(short, owner)
    return short


def private_dir_of_mine(path: Path, owner: int | None = None) -> None:
    """Like `private_dir`, where others may write: refuses a directory or link that somebody else has put there."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        info = path.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (os.geteuid(), owner):
            raise PlaceUnusable(f"{path} belongs to somebody else: set DATA_DIR to a shorter path") from None
    private_dir(path, owner)


def package_file(package: str, *parts: str) -> Path:
    """A file inside an installed package, without importing it. Raises `PlaceUnusable` when there is none."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder).joinpath(*parts)
        if path.exists():
            return path
    raise PlaceUnusable(f"the package {package} has no {'/'.join(parts)} for this platform")


def url_of(host: str, port: int) -> str:
    """Where this machine reaches a server that listens on `host`, which may be all addresses."""
    host = _ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(host: str, port: int, setting: str = "PORT") -> int:
    """`port` if nothing listens there, or any free one for 0. Raises `CannotStart` with the `setting` to change."""
    with bound(host, port, setting) as sock:
        return int(sock.getsockname()[1])


def bound(host: str, port: int, setting: str) -> socket.socket:
    """A socket that has the port but does not listen yet. Raises `CannotStart` with the `setting` to change."""
    try:
        infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sock = socket.socket(infos[0][0], socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(infos[0][4])
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        where = f"HOST {host}, {setting} {port}"
        raise CannotStart(f"cannot listen on {where} ({error.strerror}): set another {setting}") from None
    return sock
