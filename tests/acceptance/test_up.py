"""`up` as a person meets it: one command, one screen, a line to paste, Ctrl-C; and the ways it can go wrong."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.dev.home import ADMIN_SECRET, DEMO_KEY

ROOT = Path(__file__).parents[2]
NOBODY_HERE = "http://127.0.0.1:1"
SCREEN_WAIT_S = 60.0
CLONE_WAIT_S = 300.0
STOP_WAIT_S = 45.0
NOBODY = 65534
AS_ORDINARY_USER = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"]
AS_OWNER_BUT_NOT_ROOT = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
OFFLINE = (
    "No matching distribution",
    "Could not find a version",
    "NewConnectionError",
    "Temporary failure",
    "timed out",
)


class Up:
    """A running `up` and what it has written."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: Path, output: Path) -> None:
        self.output = output
        self.began = time.monotonic()
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                argv, env=env, cwd=cwd, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.family: list[psutil.Process] = []

    @property
    def text(self) -> str:
        return self.output.read_text()

    def screen(self, wait_s: float = SCREEN_WAIT_S) -> str:
        """What it shows when all is there."""
        while "Ctrl-C stops everything" not in self.text:
            assert self.process.poll() is None and time.monotonic() - self.began < wait_s, self.text
            time.sleep(0.02)
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return self.text

    def ends(self, wait_s: float = STOP_WAIT_S) -> int:
        """Its exit code, when neither it nor anything it had started is left."""
        code = self.process.wait(wait_s)
        _, left = psutil.wait_procs(self.family, timeout=10)
        running = [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        assert not running, running
        return code

    def stop(self, sig: int = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.ends()

    def child(self, part: str) -> psutil.Process:
        """The one of its processes whose command line ends with `part`."""
        return next(one for one in self.family if one.cmdline() and one.cmdline()[-1] == part)


class Place:
    """A directory to start `up` in: its state, its environment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.env = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")} | {
            "DATA_DIR": str(self.data),
            "PORT": "0",
            "OLLAMA_BASE_URL": NOBODY_HERE,
            "PYTHONPATH": str(ROOT),
        }
        self.started: list[Up] = []

    def up(self, *before: str, **env: str) -> Up:
        argv = [*before, sys.executable, "-m", "gateway", "up"]
        self.started.append(Up(argv, self.env | env, self.path, self.path / f"up{len(self.started)}.out"))
        return self.started[-1]

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Another command of the program, in the same place."""
        command = [sys.executable, "-m", "gateway", *argv]
        return subprocess.run(command, env=self.env | env, cwd=self.path, capture_output=True, text=True, timeout=60)


@pytest.fixture
def place(short_dir: Path) -> Iterator[Place]:
    place = Place(short_dir)
    yield place
    for up in place.started:
        for process in (up.process, *up.family):
            if process.poll() is None if isinstance(process, subprocess.Popen) else process.is_running():
                process.kill()


def paste(screen: str) -> Any:
    """What the line to paste answers."""
    line = re.search(r"^  (curl .*)$", screen, re.MULTILINE)
    assert line
    pasted = subprocess.run(["bash", "-c", line[1]], capture_output=True, text=True, timeout=30, check=True)
    return json.loads(pasted.stdout)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@contextmanager
def printed(pytestconfig: pytest.Config) -> Iterator[None]:
    """Figures for the log of a run, past pytest's capture."""
    with pytestconfig.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        yield


@pytest.mark.skipif(shutil.which("curl") is None, reason="the line to paste needs curl")
def test_first_start_second_start_and_what_is_kept(place: Place, pytestconfig: pytest.Config) -> None:
    first = place.up()
    screen = first.screen()
    first_s = time.monotonic() - first.began
    answer = paste(screen)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"]
    assert "NO OLLAMA ANSWERS" in screen

    secret, key = ((place.data / name).read_text().strip() for name in (ADMIN_SECRET, DEMO_KEY))
    assert secret in screen and key in screen
    assert mode(place.data) == 0o700
    assert mode(place.data / ADMIN_SECRET) == mode(place.data / DEMO_KEY) == 0o600

    again = place.run("up")
    assert again.returncode == 1
    assert "runs already at http://127.0.0.1:" in again.stderr and str(first.process.pid) in again.stderr
    created = json.loads(place.run("keys", "create", "--label", "mine", "--json").stdout)

    assert first.stop() == 0

    second = place.up()
    screen = second.screen()
    second_s = time.monotonic() - second.began
    assert secret in screen and key in screen
    assert paste(screen)["choices"]
    listed = json.loads(place.run("keys", "list", "--json").stdout)["data"]
    assert {one["label"] for one in listed} == {"demo", "mine"}
    assert created["key"] not in json.dumps(listed)
    assert place.run("keys", "revoke", created["id"]).returncode == 0
    assert second.stop(signal.SIGINT) == 0
    with printed(pytestconfig):
        sys.stdout.write(f"\nup: first start {first_s:.1f} s, second start {second_s:.1f} s\n")


def test_the_admin_api_on_a_port_of_its_own(place: Place) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    up = place.up(ADMIN_PORT=port)
    screen = up.screen()
    assert f"Admin API     http://127.0.0.1:{port}/admin" in screen
    created = place.run("keys", "create", "--label", "mine")  # it finds the port by itself
    assert created.returncode == 0, created
    public = re.search(r"URL +(\S+)", screen)
    assert public
    refused = place.run("keys", "list", "--url", public[1])
    assert refused.returncode == 1 and "(route_not_found)" in refused.stderr and "ADMIN_PORT" in refused.stderr
    assert up.stop() == 0


def test_an_interrupt_while_it_starts_leaves_nothing(place: Place) -> None:
    up = place.up()
    while not (place.data / "logs").is_dir():
        assert time.monotonic() - up.began < SCREEN_WAIT_S
        time.sleep(0.01)
    up.family = psutil.Process(up.process.pid).children(recursive=True)
    assert up.stop(signal.SIGINT) == 0


def test_a_second_interrupt_hurries(place: Place) -> None:
    up = place.up(DRAIN_SECONDS="40")
    url = re.search(r"URL +(\S+)", up.screen())
    assert url
    fake = next(one for one in up.family if "gateway.dev.fake_ollama" in one.cmdline())
    port = fake.net_connections("tcp4")[0].laddr.port
    control(port, {"tokens": 100_000, "tokens_per_s": 10})
    key = (place.data / DEMO_KEY).read_text().strip()
    stream = start_stream(url[1], key)
    began = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert up.process.poll() is None  # it drains
    up.process.send_signal(signal.SIGINT)
    assert up.ends() == 0
    assert time.monotonic() - began < 20
    stream.close()


def control(port: int, behaviour: dict[str, Any]) -> None:
    import httpx

    httpx.post(f"http://127.0.0.1:{port}/_fake/behaviour", json=behaviour).raise_for_status()


def start_stream(url: str, key: str) -> socket.socket:
    """A streamed answer of which the first bytes have come."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"model": "llama3.2:3b", "stream": True, "messages": [{"role": "user", "content": "x"}]})
    stream = socket.create_connection((host, int(port)), timeout=10)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    stream.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    assert b"200" in stream.recv(64)
    return stream


def test_a_server_that_dies_stops_everything_and_is_named(place: Place) -> None:
    up = place.up()
    up.screen()
    up.child("serve").kill()
    assert up.ends() == 1
    assert "gateway has ended (code -9)" in up.text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_kill_minus_nine_leaves_nothing_and_the_next_start_works(place: Place) -> None:
    up = place.up()
    up.screen()
    up.process.kill()
    assert up.ends() == -signal.SIGKILL
    again = place.up()
    again.screen()
    assert again.stop() == 0


def test_a_port_in_use_a_bad_setting_a_directory_of_somebody_else(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = place.run("up", PORT=port)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"PORT {port}" in refused.stderr
    refused = place.run("up", PORT="many", REDIS_URL="http://x")
    assert refused.returncode == 2
    assert "PORT" in refused.stderr and "Traceback" not in refused.stderr
    (place.path / "full").mkdir()
    (place.path / "full" / "file").touch()
    before = mode(place.path / "full")
    refused = place.run("up", DATA_DIR=str(place.path / "full"))
    assert (refused.returncode, mode(place.path / "full")) == (1, before)
    assert "holds other things" in refused.stderr


@pytest.fixture
def fake_url() -> Iterator[str]:
    """A node that answers like Ollama, in a process of its own."""
    argv = [sys.executable, "-m", "gateway.dev.fake_ollama", "--port", "0"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().split()[-1]
        process.terminate()


async def test_servers_that_are_given_are_used(
    place: Place, fake_url: str, redis_url: str, empty_database_url: str
) -> None:
    given = {"REDIS_URL": redis_url, "DATABASE_URL": empty_database_url, "ADMIN_SECRET": "a secret for this test"}
    up = place.up(**given, OLLAMA_BASE_URL=f"{NOBODY_HERE},{fake_url}")
    screen = up.screen()
    assert "a secret for this test" in screen and "FAKE" not in screen
    assert f"{fake_url}   0.33.0" in screen
    assert sorted(path.name for path in place.data.iterdir()) == [DEMO_KEY, "lock", "logs"]
    checked = place.run("check", OLLAMA_BASE_URL=f"{NOBODY_HERE},{fake_url}")
    assert checked.returncode == 0 and "llama3.2:3b" in checked.stdout and "cannot be reached" in checked.stdout
    assert place.run("check").returncode == 1
    assert up.stop() == 0
    (place.data / DEMO_KEY).write_text("llm_of-another-database\n")
    again = place.up(**given)
    again.screen()
    assert (place.data / DEMO_KEY).read_text().strip() in again.text
    assert "llm_of-another-database" not in again.text
    assert again.stop() == 0


def test_as_an_ordinary_user(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("this whole run is one as an ordinary user")
    ways = (AS_ORDINARY_USER, AS_OWNER_BUT_NOT_ROOT)
    way = next((way for way in ways if can_run_the_gateway(way, place)), None)
    assert way, "neither setpriv nor unshare can make an ordinary user that may read this tree"
    if way is AS_ORDINARY_USER:
        os.chown(place.path, NOBODY, NOBODY)
    up = place.up(*way, HOME=str(place.path))
    assert "chat.completion" in str(paste(up.screen()))  # Postgres has started, which it never does for root
    if way is AS_ORDINARY_USER:
        assert {one.uids().effective for one in up.family} == {NOBODY}
    assert up.stop() == 0


def can_run_the_gateway(way: list[str], place: Place) -> bool:
    """Whether such a user may run this very Python and read this tree; below a directory of root's alone it may not."""
    probe = [*way, sys.executable, "-c", f"import sys, gateway.app; assert sys.version == {sys.version!r}"]
    return subprocess.run(probe, env=place.env, cwd="/", capture_output=True).returncode == 0


@pytest.mark.timeout(CLONE_WAIT_S * 2)
def test_from_a_clean_clone_to_the_first_answer(place: Place, pytestconfig: pytest.Config) -> None:
    clone = place.path / "clone"
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is no clone")
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    if not (clone / "Makefile").exists():
        pytest.skip("the Makefile is not committed yet")
    env = place.env | {"DATA_DIR": str(clone / ".data")}
    del env["PYTHONPATH"]
    up = Up(["make", "run"], env | pip_settings(), clone, place.path / "make.out")
    place.started.append(up)
    try:
        screen = up.screen(CLONE_WAIT_S)
    except AssertionError as error:
        if not os.environ.get("CI") and any(sign in str(error) for sign in OFFLINE):
            pytest.skip("no package registry can be reached")
        raise
    assert paste(screen)["choices"]
    seconds = time.monotonic() - up.began
    os.killpg(up.process.pid, signal.SIGINT)  # as the terminal does
    up.ends()
    again = Up(["make", "run"], env, clone, place.path / "make-again.out")
    place.started.append(again)
    assert paste(again.screen())["choices"]
    again_s = time.monotonic() - again.began
    os.killpg(again.process.pid, signal.SIGINT)
    again.ends()
    with printed(pytestconfig):
        sys.stdout.write(f"\nmake run: clean clone to first answer {seconds:.1f} s, second time {again_s:.1f} s\n")


def pip_settings() -> dict[str, str]:
    """How this machine reaches its package registry."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
