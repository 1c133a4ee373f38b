"""The client of the admin API: what it sends, when it asks once more, how it words what goes wrong."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.admin import Admin, actor, connect, path_of
from gateway.cli.main import main
from gateway.cli.refused import Refused
from gateway.settings import Settings, SettingsError

LAST = "last"
SECRET = "a secret for this test"


class Server(ThreadingHTTPServer):
    """Answers as `answers` says, in turn: (status, body, headers), or None to hang up without a word, or "last" to do
    that and be gone. Keeps what was asked."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        answer = self.server.answers.pop(0)
        if answer in (None, LAST):
            if answer == LAST:
                self.server.socket.close()
            self.close_connection = True
            return
        data = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
        self.send_response(answer[0])
        self.send_header("content-length", str(len(data)))
        for name, value in (answer[2] if len(answer) > 2 else {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with many() as begin:
        yield begin


@contextmanager
def many() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(*answers: Any) -> Server:
        servers.append(Server(list(answers)))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_says_who_it_is_and_what_it_wants(serve: Callable[..., Server]) -> None:
    server = serve((200, {"id": "x"}))
    answer = Admin(f"{server.url}/", "a secret", "sam").ask("GET", "/api-keys", query={"label": "a b", "tier": None})
    assert (answer.status, answer.said) == (200, {"id": "x"})
    method, path, headers, body = server.asked[0]
    assert (method, path, body) == ("GET", "/admin/api-keys?label=a+b", b"")
    assert (headers["x-admin-secret"], headers["x-admin-actor"]) == ("a secret", "sam")
    assert "idempotency-key" not in headers


def test_a_lost_answer_is_asked_for_once_more_under_the_same_idempotency_key(serve: Callable[..., Server]) -> None:
    server = serve(None, (201, {"id": "x"}), (201, {"id": "y"}))
    admin = Admin(server.url, "a secret")
    assert admin.ask("POST", "/api-keys", body={"label": "a"}).said == {"id": "x"}
    first, second = server.asked
    assert first[2]["idempotency-key"] == second[2]["idempotency-key"]
    assert json.loads(first[3]) == json.loads(second[3]) == {"label": "a"}
    admin.ask("POST", "/api-keys", body={"label": "a"})
    assert server.asked[2][2]["idempotency-key"] != first[2]["idempotency-key"]


@pytest.mark.parametrize(("method", "words"), [("GET", "was lost"), ("POST", "whether it was done is unknown")])
def test_it_gives_up_after_the_second_loss(serve: Callable[..., Server], method: str, words: str) -> None:
    server = serve(None, None, (200, {}))
    with pytest.raises(Refused, match=words):
        Admin(server.url, "a secret").ask(method, "/api-keys")
    assert len(server.asked) == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nowhere", "http://[", "ftp://127.0.0.1"])
def test_no_gateway_is_said_to_be_none(url: str) -> None:
    with pytest.raises(Refused, match="no gateway answers at"):
        Admin(url, "a secret").ask("GET", "/api-keys")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error": {"message": "Wrong.", "code": "invalid_admin_secret"}}, r"^Wrong. \(invalid_admin_secret\)$"),
        (404, {"error": {"message": "No.", "code": "route_not_found"}}, "ADMIN_PORT"),
        (500, {"error": "odd"}, "^odd$"),
        (500, ["odd"], "odd"),
        (200, b"<html>", "not this gateway"),
    ],
)
def test_errors_are_worded(serve: Callable[..., Server], status: int, body: Any, words: str) -> None:
    server = serve((status, body))
    with pytest.raises(Refused, match=words):
        Admin(server.url, "a secret").ask("GET", "/api-keys")


def test_pages_are_put_together_up_to_a_bound(serve: Callable[..., Server]) -> None:
    pages = [
        (200, {"data": [1, 2], "next": "c1"}),
        (200, {"data": [3, 4], "next": "c2"}),
        (200, {"data": [5], "next": None}),
    ]
    server = serve(*pages)
    assert Admin(server.url, "a secret").pages("/audit", {}).said == {"data": [1, 2, 3, 4, 5], "next": None}
    assert [path for _, path, _, _ in server.asked] == [
        "/admin/audit?limit=500",
        "/admin/audit?after=c1&limit=500",
        "/admin/audit?after=c2&limit=500",
    ]
    server = serve(*pages)
    assert Admin(server.url, "a secret").pages("/audit", {}, 3).said["data"] == [1, 2, 3, 4]
    assert [path.rpartition("=")[2] for _, path, _, _ in server.asked] == ["3", "1"]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command against a server; its exit code and what it has printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADMIN_SECRET", SECRET)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))

    def run(server: Server | None, *argv: str) -> tuple[int, str, str]:
        code = main([*argv, "--url", server.url if server else "http://127.0.0.1:1"])
        return code, *capsys.readouterr()

    return run


Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("argv", [("create", "--label", "x"), ("rotate", "abc")])
def test_a_key_whose_secret_was_lost_on_its_way_is_said_to_be(
    serve: Callable[..., Server], command: Command, argv: tuple[str, ...]
) -> None:
    server = serve(None, (201, {"id": "abc", "label": "x", "key": None, "message": "It was shown then."}))
    code, out, _ = command(server, "keys", *argv)
    assert code == 1
    assert "`llm-gateway keys rotate abc` puts another in its place" in out
    assert "A secret that was never used is replaced; the one that is in use works on." in out


@pytest.mark.parametrize("answers", [(None, None), ((500, {"error": {"message": "Odd.", "code": "internal"}}),)])
def test_a_rotation_that_may_be_lost_may_be_repeated(
    serve: Callable[..., Server], command: Command, answers: tuple[Any, ...]
) -> None:
    code, _, err = command(serve(*answers), "keys", "rotate", "abc")
    assert code == 1
    assert "It can be rotated again: a secret that was never used is replaced" in err
    refused = serve((409, {"error": {"message": "Not now.", "code": "conflict"}}))
    assert command(refused, "keys", "rotate", "abc") == (1, "", "Not now. (conflict)\n")


GRANT = ("credits", "grant", "--key", "abc", "--credits", "1")


@pytest.mark.parametrize(
    "answers",
    [
        (None, None),
        (LAST,),
        ((503, {"error": {"message": "Redis is away.", "code": "limits_unavailable"}}),),
        ((502, b"<html>"),),
    ],
)
def test_a_grant_that_may_be_lost_can_be_sent_again(
    serve: Callable[..., Server], command: Command, answers: tuple[Any, ...]
) -> None:
    server = serve(*answers)
    code, _, err = command(server, *GRANT)
    ids = {json.loads(body)["id"] for _, _, _, body in server.asked}
    assert (code, len(ids)) == (1, 1)
    assert f"the grant's id is {ids.pop()}: with --id it can be sent again" in err


def test_a_grant_that_was_not_made_is_not_said_to_be_lost(serve: Callable[..., Server], command: Command) -> None:
    for server in (None, serve((409, {"error": {"message": "Spent.", "code": "conflict"}}))):
        code, _, err = command(server, *GRANT)
        assert (code, "--id" in err) == (1, False), err


def test_it_says_how_long_to_wait(serve: Callable[..., Server], command: Command) -> None:
    limited = {"error": {"message": "Try again after the seconds in Retry-After.", "code": "rate_limit_exceeded"}}
    server = serve((429, limited, {"retry-after": "61"}))
    words = "Try again after the seconds in Retry-After. Retry-After: 61 s. (rate_limit_exceeded)\n"
    assert command(server, "keys", "list") == (1, "", words)


def test_a_wrong_secret_is_said_to_come_from_where_it_did(
    serve: Callable[..., Server], command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = (401, {"error": {"message": "Wrong.", "code": "invalid_admin_secret"}})
    server = serve(wrong, wrong)
    _, _, err = command(server, "keys", "list")
    assert err == "Wrong. The one that was sent is ADMIN_SECRET, from the environment or .env. (invalid_admin_secret)\n"
    file = tmp_path / "data" / "admin-secret"
    file.parent.mkdir()
    file.write_text("another one for it\n")
    monkeypatch.delenv("ADMIN_SECRET")
    _, _, err = command(server, "keys", "list")
    assert f"The one that was sent is that of {file}." in err and "another" not in err
    assert [headers["x-admin-secret"] for _, _, headers, _ in server.asked] == [SECRET, "another one for it"]


@pytest.mark.parametrize("content", [b"\xff\xfe", "sécret".encode(), b"two\nlines", b""])
def test_a_file_without_a_secret_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "admin-secret").write_bytes(content)
    with pytest.raises(SettingsError, match=str(tmp_path)):
        connect(None, Settings(data_dir=str(tmp_path)))


EVERY_ACTION = [
    ("keys", "create", "--label", "x"),
    ("keys", "list"),
    ("keys", "show", "a"),
    ("keys", "update", "a", "--no-enabled"),
    ("keys", "rotate", "a"),
    ("keys", "revoke", "a"),
    ("keys", "usage", "a"),
    ("keys", "dry-run", "a", "--model", "m", "--prompt-tokens", "1"),
    ("teams", "create", "--label", "x"),
    ("teams", "list"),
    ("teams", "show", "a"),
    ("teams", "update", "a", "--label", "b"),
    ("teams", "usage", "a"),
    ("tiers", "create", "a"),
    ("tiers", "list"),
    ("tiers", "show", "a"),
    ("prices", "add", "m", "--per-request", "1"),
    ("prices", "list"),
    ("credits", "list"),
    ("reconcile",),
    ("audit",),
]


@pytest.mark.parametrize("argv", EVERY_ACTION, ids=" ".join)
@pytest.mark.parametrize("said", [{}, {"data": [{}]}, {"data": 1}, {"data": [1]}, [], None, 7])
def test_an_answer_of_another_shape_is_said_to_be_one(
    serve: Callable[..., Server], command: Command, argv: tuple[str, ...], said: Any
) -> None:
    server = serve((200, said))
    code, out, err = command(server, *argv)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert server.url in err
    assert len(server.asked) == 1


@pytest.mark.parametrize("empty", ["", " ", ".", ".."])
def test_what_names_nothing_is_not_sent(serve: Callable[..., Server], command: Command, empty: str) -> None:
    server = serve()
    for argv in (
        ("keys", "show", empty),
        ("keys", "update", empty, "--shadow"),
        ("keys", "rotate", empty),
        ("keys", "revoke", empty),
        ("keys", "usage", empty),
        ("keys", "dry-run", empty, "--model", "m", "--prompt-tokens", "1"),
        ("keys", "dry-run", "a", "--model", empty, "--prompt-tokens", "1"),
        ("keys", "create", "--label", "x", "--team", empty),
        ("keys", "list", "--tier", empty),
        ("teams", "show", empty),
        ("teams", "update", empty, "--shadow"),
        ("teams", "remove", empty),
        ("teams", "usage", empty),
        ("tiers", "create", empty),
        ("tiers", "show", empty),
        ("tiers", "update", empty, "--multiplier", "1"),
        ("tiers", "remove", empty),
        ("prices", "add", empty, "--per-request", "1"),
        ("prices", "list", "--model", empty),
        ("credits", "grant", "--key", empty, "--credits", "1"),
        ("credits", "grant", "--team", empty, "--credits", "1"),
        ("credits", "grant", "--key", "a", "--credits", "1", "--id", empty),
        ("credits", "list", "--team", empty),
        ("audit", "--object", empty),
    ):
        code, out, err = command(server, *argv)
        assert (code, out, err.count("\n")) == (2, "", 1), argv
        assert f"{empty!r} names nothing" in err
    assert server.asked == []


def test_what_is_not_utf_8_is_not_sent(serve: Callable[..., Server], command: Command) -> None:
    server = serve()
    for argv in (
        ("keys", "show", "a\udcff"),
        ("keys", "create", "--label", "\udcff"),
        ("keys", "create", "--label", "x", "--models", "\udcff"),
        ("keys", "create", "--label", "x", "--model-limit", "\udcff:tokens_per_min=1"),
    ):
        code, out, err = command(server, *argv)
        assert (code, out, err.count("\n")) == (2, "", 1), argv
        assert "is not in UTF-8" in err
    assert server.asked == []


def test_ids_are_no_paths() -> None:
    assert path_of("../x", "a?b") == "/..%2Fx/a%3Fb"


def test_the_actor_is_who_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "sam\n\N{SNOWMAN}" + "x" * 100)
    assert actor() == "sam" + "x" * 61

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert actor() == ""
