"""compose.yaml, brought up from a clean clone under a name of its own, and what is asked of it while it runs."""

import json
import os
import random
import signal
import socket
import ssl
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.deploy.engine import docker
from tests.deploy.shell import CommandFailed, Said, run

UP_WAIT_S = 120.0
ASK_WAIT_S = 60.0
DOWN_WAIT_S = 120.0
READY_WAIT_S = 120.0
STORED_WAIT_S = 60.0
POLL_S = 0.25
ROOT_CERTIFICATE = "/data/caddy/pki/authorities/local/root.crt"
UNLIMITED = (
    "--rate-limit-per-min",
    "unlimited",
    "--tokens-per-min",
    "unlimited",
    "--concurrency",
    "unlimited",
    "--monthly-token-limit",
    "unlimited",
)
MODEL = "llama3.2:3b"
REPLICAS = 3
PORTS = (20_000, 30_000)
PORT_MAX = 65_535
READY_PATHS = {"gateway": ":8000/ready", "worker": ":8002/healthz"}
READY_ANSWER_S = 2.0


class NotInTime(AssertionError):
    """The stack did not get where a test waited for it to get."""


class Stack:
    """One compose project in `tree`. Its ports are free ones of this machine, its volumes its own."""

    def __init__(self, tree: Path, image: str, name: str) -> None:
        self.tree = tree
        self.name = name
        self.http_port, self.https_port = _free_ports(2)
        self.up_s = 0.0
        """when `up` was called, by the monotonic clock"""
        self.ports_before: set[int] = set()
        """of this machine, that were open before"""
        self.alone = False
        """nobody else opens any meanwhile"""
        self._authority = ""
        self.env = {
            "COMPOSE_PROJECT_NAME": name,
            "COMPOSE_PROFILES": "demo",
            "COMPOSE": " ".join(compose_command()),
            "GATEWAY_IMAGE": image,
            "HTTP_PORT": str(self.http_port),
            "HTTPS_PORT": str(self.https_port),
            "OLLAMA_BASE_URL": "http://demo-1:11434,http://demo-2:11434",
            "OLLAMA_SLOTS": "64",
            "HEALTHY_S": "120",
            "REDIS_TIMEOUT_MS": "2000",  # two cores carry all of it here, and the clients too
        }

    @property
    def url(self) -> str:
        return f"https://localhost:{self.https_port}"

    def make_secrets(self) -> None:
        run("make", "secrets", cwd=self.tree, wait_s=ASK_WAIT_S)

    def up(self, replicas: int = REPLICAS) -> None:
        self.up_s = time.monotonic()
        try:
            self.compose("up", "--detach", "--no-build", "--scale", f"gateway={replicas}", wait_s=UP_WAIT_S)
        except CommandFailed as error:
            raise CommandFailed(f"{error}\n{self.troubles()}") from None

    def down(self) -> None:
        """With its volumes, and with what an interrupted command of compose has left."""
        self._authority = ""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", wait_s=DOWN_WAIT_S, check=False)
        if left := self._listed("--all"):
            docker("rm", "--force", "--volumes", *left, check=False)

    def compose(self, *argv: str, wait_s: float = ASK_WAIT_S, check: bool = True, **env: str) -> Said:
        return run(*compose_command(), *argv, cwd=self.tree, env={**self.env, **env}, wait_s=wait_s, check=check)

    def script(self, name: str, *argv: str, wait_s: float) -> Said:
        """One of deploy/, as an operator calls it."""
        return run(f"deploy/{name}", *argv, cwd=self.tree, env=self.env, wait_s=wait_s)

    def containers(self, service: str = "", *, running: bool = True) -> list[dict[str, Any]]:
        """As `docker inspect` shows them."""
        ids = self._listed(*([] if running else ["--all"]), service=service)
        return list(json.loads(docker("inspect", *ids))) if ids else []

    def _listed(self, *argv: str, service: str = "") -> list[str]:
        labels = [f"label=com.docker.compose.project={self.name}", "label=com.docker.compose.oneoff=False"]
        labels += [f"label=com.docker.compose.service={service}"] if service else []
        filters = [word for label in labels for word in ("--filter", label)]
        return docker("ps", "--quiet", "--no-trunc", *argv, *filters).split()

    def exec(self, service: str, *argv: str, check: bool = True, wait_s: float = ASK_WAIT_S) -> Said:
        return docker("exec", self.containers(service)[0]["Id"], *argv, check=check, wait_s=wait_s)

    def gateway(self, *argv: str, check: bool = True, wait_s: float = ASK_WAIT_S) -> Said:
        """A command of `llm-gateway` in a replica, where the admin API is."""
        return self.exec("gateway", "llm-gateway", *argv, check=check, wait_s=wait_s)

    def new_key(self, label: str, *limits: str) -> dict[str, Any]:
        return dict(json.loads(self.gateway("keys", "create", "--json", "--label", label, *(limits or UNLIMITED))))

    def sql(self, query: str) -> list[str]:
        """The rows of a query, columns separated by `|`."""
        flags = ["--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
        argv = ["psql", "--username", "postgres", "--dbname", "gateway", *flags, "--command", query]
        return self.exec("postgres", *argv).split("\n")

    def trust(self) -> ssl.SSLContext:
        """Caddy's own authority and nobody else."""
        self._authority = self._authority or str(self.exec("caddy", "cat", ROOT_CERTIFICATE))
        return ssl.create_default_context(cadata=self._authority)

    def fake(self, path: str, body: dict[str, Any], node: str = "demo-1") -> None:
        """Tell a demo node how to behave: no port of it is published, so from within."""
        method = path.partition(" ")[0]
        code = (
            "import sys, urllib.request as u; "
            "u.urlopen(u.Request('http://127.0.0.1:11434' + sys.argv[2], sys.argv[3].encode(), method=sys.argv[1]))"
        )
        self.exec(node, "python3", "-c", code, method, path.partition(" ")[2], json.dumps(body))

    def until_well(self, service: str, count: int) -> None:
        """So many containers of a service run and no others, and all of them are ready."""

        def well() -> bool:
            there = self.containers(service)
            return len(there) == count and all(map(_is_ready, there))

        self._until(well, READY_WAIT_S, lambda: f"{service}: {self.health(service)}")

    def health(self, service: str) -> list[str]:
        """As the engine knows it, which asks every few seconds."""
        return [one["State"].get("Health", {}).get("Status", "none") for one in self.containers(service)]

    def until_restarted(self, killed: dict[str, Any]) -> None:
        """The engine has started a container again whose process was killed."""

        def again() -> bool:
            state = json.loads(docker("inspect", killed["Id"]))[0]["State"]
            return bool(state["Running"] and state["StartedAt"] != killed["State"]["StartedAt"])

        self._until(again, READY_WAIT_S, lambda: f"{killed['Name']} does not run again")

    def until_stored(self) -> None:
        """Every event has become a row, and no call is open."""
        self._until(lambda: self._waiting() == {"0"}, STORED_WAIT_S, lambda: f"events and leases: {self._waiting()}")

    def _waiting(self) -> set[str]:
        secret = (self.tree / "secrets/redis_operator_password").read_text("ascii")
        container = self.containers("redis")[0]["Id"]
        commands = "XLEN {s00}:usage\nZCARD {s00}:leases\n"
        code = "IFS= read -r REDISCLI_AUTH; export REDISCLI_AUTH; exec redis-cli --user operator"
        said = docker("exec", "--interactive", container, "sh", "-c", code, stdin=f"{secret}\n{commands}")
        return set(said.split("\n"))

    def kill(self, container: dict[str, Any]) -> None:
        """kill -9 of its process, so that the engine takes it for a crash."""
        os.kill(container["State"]["Pid"], signal.SIGKILL)

    def troubles(self) -> str:
        """The last words of every container that is not well."""
        ill = [one for one in self.containers(running=False) if not _is_well(one["State"])]
        said = [(one, docker("logs", "--tail", "15", one["Id"], check=False)) for one in ill]
        return "\n".join(f"{one['Name']} {one['State']}:\n{words}\n{words.errors}" for one, words in said)

    def _until(self, done: Any, wait_s: float, told: Any) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                if done():
                    return
            except CommandFailed:  # a container has gone between two questions
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise NotInTime(f"not within {wait_s:g} s: {told()}")
            time.sleep(POLL_S)


def compose_command() -> list[str]:
    """Of the second generation where it is there."""
    if run("docker", "compose", "version", wait_s=ASK_WAIT_S, check=False).status == 0:
        return ["docker", "compose"]
    return ["docker-compose"]


def _is_ready(container: dict[str, Any]) -> bool:
    """Whether it says so itself, where it can be asked from here; a check by the engine may be seconds old."""
    if container["State"].get("Health", {}).get("Status") == "healthy":
        return True
    path = READY_PATHS.get(container["Config"]["Labels"]["com.docker.compose.service"], "")
    addresses = [network["IPAddress"] for network in container["NetworkSettings"]["Networks"].values()]
    return bool(path) and any(_answers(f"http://{address}{path}") for address in addresses if address)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=READY_ANSWER_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def open_ports() -> set[int]:
    """All TCP ports that this machine answers on."""
    found = set()
    for port in range(1, PORT_MAX + 1):
        with socket.socket() as probe:
            connected = probe.connect_ex(("127.0.0.1", port)) == 0
            if connected and probe.getsockname() != probe.getpeername():  # a socket may by chance reach itself
                found.add(port)
    return found


def _is_well(state: dict[str, Any]) -> bool:
    if state["Status"] == "exited":
        return bool(state["ExitCode"] == 0)
    return bool(state["Running"]) and state.get("Health", {}).get("Status", "healthy") == "healthy"


def _free_ports(count: int) -> list[int]:
    """Below those that outgoing connections take meanwhile."""
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            found.add(port)
    return list(found)
