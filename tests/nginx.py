"""The real nginx in front of replicas: the files of deploy/nginx with other ports and places, and one other wait."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from gateway.dev.process import POLL_S, Child

PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
FILES = Path(__file__).parents[1] / "deploy" / "nginx"
START_WAIT_S = 20.0
NAME = "localhost"
IDLE_MS = 400
"""how long it keeps connections to replicas: shorter than their BALANCER_SECONDS, which are few in tests"""
OPERATOR = "127.0.0.7"
"""the one address for which /admin and /metrics are there; in the file it is nobody"""
_USER = "www-data"
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """One nginx in a directory of its own, on free ports of loopback, with a certificate of its own making."""

    def __init__(self, directory: Path, replica_urls: list[str]) -> None:
        self._directory = directory
        self._replicas = [urlsplit(url).netloc for url in replica_urls]
        self._held = [_held_port(), _held_port()]
        self.http_port, self.https_port = (int(held.getsockname()[1]) for held in self._held)
        self.certificate = directory / "live" / NAME / "fullchain.pem"
        self.log = directory / "error.log"
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.https_port}"

    def trust(self) -> ssl.SSLContext:
        """What a client needs to believe this nginx, and nobody else."""
        return ssl.create_default_context(cafile=str(self.certificate))

    async def start(self) -> None:
        """It answers when this returns."""
        (self._directory / "sites-enabled").mkdir(parents=True)
        self._certify()
        main, site = self.render("nginx.conf"), self.render("llm-gateway.conf")
        (self._directory / "sites-enabled" / "llm-gateway.conf").write_text(site)
        config = self._directory / "nginx.conf"
        config.write_text(main)
        argv = [str(PROGRAM), "-p", str(self._directory), "-c", str(config), "-g", "daemon off;"]
        self._child = Child("nginx", argv, log=self._directory / "output.log")
        self._child.spawn()
        async with asyncio.timeout(START_WAIT_S):
            while not await self._listens():
                assert self._child.running, self._child.tail()
                await asyncio.sleep(POLL_S)

    def reload(self) -> None:
        """As certbot has it done when it has got a new certificate."""
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGHUP)

    async def stop(self) -> None:
        if self._child:
            await self._child.stop()
        for held in self._held:
            held.close()

    def render(self, name: str) -> str:
        """One of the files with other ports and places. Each of them has to stand in it, or this fails."""
        text = (FILES / name).read_text()
        for former, new in self._changes(name).items():
            assert former in text, f"{name} no longer has {former!r}"
            text = text.replace(former, new)
        return text

    def _changes(self, name: str) -> dict[str, str]:
        if name == "llm-gateway.conf":
            servers = "\n    ".join(f"server {one} max_fails=0;" for one in self._replicas)
            return {
                "    listen [::]:443 ssl http2;\n": "",  # not every machine has IPv6
                "    listen [::]:443 ssl http2 default_server;\n": "",
                "listen 443 ": f"listen 127.0.0.1:{self.https_port} ",
                "/etc/letsencrypt": str(self._directory),
                "gateway.example.com": NAME,
                "server 127.0.0.1:8000 max_fails=0;": servers,
                "    server 127.0.0.1:8001 max_fails=0;\n": "",
                "default 0;\n    # 10.8.0.0/24 1;": f"default 0;\n    {OPERATOR} 1;",
                "keepalive_timeout 4s": f"keepalive_timeout {IDLE_MS}ms",
            }
        temporary = "".join(f"    {kind}_temp_path {self._directory}/{kind};\n" for kind in _TEMPORARY)
        return {
            "user www-data;": f"user {_USER};" if _has_user() else "",
            "    listen [::]:80 default_server;\n": "",
            "listen 80 ": f"listen 127.0.0.1:{self.http_port} ",
            "/run/nginx.pid": str(self._directory / "nginx.pid"),
            "/var/log/nginx/error.log": str(self.log),
            "/var/www/certbot": str(self._directory / "certbot"),
            "/etc/nginx/sites-enabled": str(self._directory / "sites-enabled"),
            "http {\n": f"http {{\n{temporary}",
        }

    def _certify(self) -> None:
        self.certificate.parent.mkdir(parents=True)
        # fmt: off
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
             "-out", str(self.certificate), "-keyout", str(self.certificate.with_name("privkey.pem"))],
            check=True, capture_output=True, timeout=START_WAIT_S,
        )
        # fmt: on

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.https_port)
        except OSError:
            return False
        writer.close()
        return True


def _held_port() -> socket.socket:
    """A free port that nobody else is given: it is bound, and can be bound once more by who listens on it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def _has_user() -> bool:
    """Whether nginx can change to Debian's user for it; only root can."""
    return os.geteuid() == 0 and any(entry.pw_name == _USER for entry in pwd.getpwall())
