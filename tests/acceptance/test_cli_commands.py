"""Every command of the admin against a running gateway, as a person and as a script use it."""

import asyncio
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import COMMANDS, _parser
from tests.project.test_readme import README, table
from tests.world import ADMIN_SECRET, World, bearer, chat
from tests.zygote import run_command

ROOT = Path(__file__).parents[2]
RUN_S = 60.0

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Awaitable[Done]]
Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
def run(world: World, tmp_path: Path) -> Run:
    """Runs `llm-gateway` with some arguments, in a directory and an environment of its own."""
    env = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ} | {
        "PYTHONPATH": str(ROOT),
        "LOGNAME": "sam",
        "DATA_DIR": str(tmp_path / "data"),
        "HOST": "127.0.0.1",
        "PORT": world.url.rpartition(":")[2],
        "ADMIN_SECRET": ADMIN_SECRET,
    }

    async def run(*argv: str, **more: str) -> Done:
        return await asyncio.to_thread(run_command, *argv, env=env | more, cwd=tmp_path)

    return run


@pytest.fixture
def ask(run: Run) -> Ask:
    """The same for commands that succeed and answer in JSON."""

    async def ask(*argv: str) -> Any:
        done = await run(*argv, "--json")
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout)

    return ask


async def text(run: Run, *argv: str) -> str:
    done = await run(*argv)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


async def test_the_life_of_a_key(run: Run, ask: Ask, world: World) -> None:
    made = await ask("keys", "create", "--label", "billing", "--tier", "basic", "--credits", "10", "--concurrency", "2")
    assert (made["tier"], made["concurrency"], made["credits"]["granted"]) == ("basic", 2, 10)
    assert (
        await world.http.post(f"{world.url}/v1/chat/completions", json=chat(), headers=bearer(made["key"]))
    ).is_success

    listed = await text(run, "keys", "list", "--label", "billing", "--enabled")
    assert re.search(rf"^{made['id']} +billing +- +basic +- +works +…{made['key'][-4:]} +20 ", listed, re.MULTILINE)
    assert made["key"] not in listed
    assert (await ask("keys", "list", "--tier", "premium"))["data"] == []

    changes = (
        "--rate-limit-per-min",
        "60",
        "--monthly-token-limit",
        "unlimited",
        "--expires",
        "90d",
        "--models",
        "llama*",
    )
    changed = await ask("keys", "update", made["id"], *changes, "--model-limit", "*:tokens_per_min=9000", "--shadow")
    assert (changed["rate_limit_per_min"], changed["monthly_token_limit"], changed["shadow"]) == (60, None, True)
    assert (changed["models"], changed["concurrency"]) == (["llama*"], 2)
    assert changed["model_limits"] == {"*": {"tokens_per_min": 9000}}
    back = await ask(
        "keys", "update", made["id"], "--rate-limit-per-min", "inherit", "--tier", "none", "--models", "any"
    )
    assert (back["rate_limit_per_min"], back["tier"], back["models"]) == ("inherit", None, [])
    assert back["effective"]["rate_limit_per_min"] == 20

    shown = await text(run, "keys", "show", made["id"])
    assert re.search(r"^credits +8 of 10 left$", shown, re.MULTILINE)
    assert re.search(r"^secrets +….{4} of .* UTC, used ", shown, re.MULTILINE)
    assert re.search(r"^expires +.* UTC \(in (89|90) d\)$", shown, re.MULTILINE)
    usage = await text(run, "keys", "usage", made["id"])
    assert re.search(r"^credits +10 +2 +0 +8 ", usage, re.MULTILINE)
    assert (await ask("keys", "usage", made["id"]))["credits"]["charged"] == 2

    assert (await ask("keys", "update", made["id"], "--no-enabled"))["enabled"] is False
    assert (await world.http.get(f"{world.url}/v1/usage", headers=bearer(made["key"]))).status_code == 401
    listed = await text(run, "keys", "list", "--no-enabled")
    assert re.search(rf"^{made['id']} +billing +- +- +- +off ", listed, re.MULTILINE)
    assert (await ask("keys", "update", made["id"], "--enabled", "--no-shadow"))["enabled"] is True

    rotated = await text(run, "keys", "rotate", made["id"], "--overlap", "1h")
    second = rotated.split("\n")[0]
    for key in (made["key"], second):
        assert (await world.usage(key))["key_id"] == made["id"]
    revoked = await run("keys", "revoke", made["id"])
    assert (revoked.returncode, revoked.stdout) == (0, f"revoked {made['id']}, label billing\n")
    assert (await world.http.get(f"{world.url}/v1/usage", headers=bearer(second))).status_code == 401
    assert "revoked" in await text(run, "keys", "show", made["id"])


async def test_a_dry_run_tells_what_a_call_would_meet(run: Run, ask: Ask) -> None:
    key_id = (await ask("keys", "create", "--label", "x", "--credits", "1"))["id"]
    call = ("keys", "dry-run", key_id, "--model", "llama3.2:3b", "--prompt-bytes", "100", "--max-tokens", "50")
    said = await text(run, *call)
    assert said.startswith("admitted: its answer may take 50 tokens, and it costs 1 credit at most\n")
    assert re.search(r"^key +credits +1 +1 +1 +0 +-$", said, re.MULTILINE)
    await ask("credits", "grant", "--key", key_id, "--credits", "-1")
    refused = await run(*call)
    assert refused.returncode == 1
    assert re.match(r"refused: .*\(insufficient_quota\)\n", refused.stdout)
    await ask("keys", "update", key_id, "--network", "10.0.0.0/8")
    elsewhere = await run(*call, "--address", "192.0.2.1", "--json")
    assert (elsewhere.returncode, json.loads(elsewhere.stdout)["would_admit"]) == (1, False)
    await ask("credits", "grant", "--key", key_id, "--credits", "1")
    assert (await text(run, *call, "--address", "10.1.2.3")).startswith("admitted: ")
    unknown = await run("keys", "dry-run", key_id, "--model", "nothing:1b", "--prompt-tokens", "1", "--json")
    assert (unknown.returncode, json.loads(unknown.stdout)["reason"]) == (1, "model_not_found")


async def test_what_was_used_as_a_table_and_as_a_sheet(run: Run, ask: Ask, world: World) -> None:
    label = '=HYPERLINK("http://example.org")'
    key = await ask("keys", "create", "--label", label)
    for model in ("llama3.2:3b", "llama3.2:3b", "qwen3:8b"):
        body = chat(model=model)
        assert (
            await world.http.post(f"{world.url}/v1/chat/completions", json=body, headers=bearer(key["key"]))
        ).is_success
    rows = await world.rows(3)
    day = rows[0]["created_at"].astimezone(UTC).date().isoformat()
    said = await ask("usage", "show", "--by", "model", "--key", key["id"], "--from", day)
    assert sum(one["calls"] for one in said["data"]) == 3
    shown = await text(run, "usage", "show", "--by", "key,model", "--from", day)
    head, *lines = shown.splitlines()
    assert re.split(r"  +", head)[:6] == ["KEY ID", "KEY LABEL", "MODEL", "CALLS", "FAILED", "ESTIMATED"]
    tokens = {one["model"]: f"{one['total_tokens']:,}" for one in said["data"]}
    assert {(line.split()[0], line.split()[2]) for line in lines} == {(key["id"], model) for model in tokens}
    assert all(f" {tokens[line.split()[2]]} " in line for line in lines)
    sheet = await text(run, "usage", "show", "--by", "key,day", "--status", "ok", "--csv")
    (row,) = csv.DictReader(io.StringIO(sheet, newline=""))
    assert (row["key_label"], row["day"], row["calls"]) == (f"'{label}", day, "3")
    assert (await ask("usage", "show", "--model", "nothing:1b"))["data"] == []
    cut = await run("usage", "show", "--by", "model", "--limit", "1")
    assert (cut.returncode, cut.stderr) == (0, "only the first 1 groups are shown\n")
    wrong = await run("usage", "show", "--by", "colour")
    assert (wrong.returncode, "group_by" in wrong.stderr or "Group by" in wrong.stderr) == (1, True)
    both = await run("usage", "show", "--csv", "--json")
    assert both.returncode == 2


async def test_teams(run: Run, ask: Ask) -> None:
    team = await ask("teams", "create", "--label", "research", "--tokens-per-min", "5000", "--credits", "3")
    key = await ask("keys", "create", "--label", "one", "--team", team["id"])
    assert key["team_id"] == team["id"]
    assert [one["id"] for one in (await ask("keys", "list", "--team", team["id"]))["data"]] == [key["id"]]
    assert re.search(
        rf"^{team['id']} +research +unlimited +unlimited +3 of 3 left ", await text(run, "teams", "list"), re.M
    )
    changed = await ask("teams", "update", team["id"], "--label", "lab", "--tokens-per-min", "inherit", "--burst", "4")
    assert (changed["label"], changed["tokens_per_min"], changed["burst"]) == ("lab", None, 4)
    assert "burst 4" in await text(run, "teams", "show", team["id"])
    assert re.search(r"^credits +3 +0 +0 +3 ", await text(run, "teams", "usage", team["id"]), re.MULTILINE)
    assert f"team {team['id']}" in await text(run, "keys", "usage", key["id"])
    refused = await run("teams", "remove", team["id"])
    assert refused.returncode == 1 and "(conflict)" in refused.stderr
    await ask("keys", "update", key["id"], "--team", "none")
    assert await text(run, "teams", "remove", team["id"]) == f"removed {team['id']}\n"
    assert (await ask("teams", "list"))["data"] == []


async def test_tiers_and_prices(run: Run, ask: Ask) -> None:
    made = await ask("tiers", "create", "batch", "--multiplier", "0.5", "--rate-limit-per-min", "600")
    assert (made["name"], made["multiplier"], made["rate_limit_per_min"], made["burst"]) == (
        "batch",
        0.5,
        600,
        "inherit",
    )
    assert re.search(r"^batch +0.5 +1 +rate_limit_per_min 600 +\d{4}-", await text(run, "tiers", "list"), re.MULTILINE)
    update = ("tiers", "update", "batch", "--multiplier", "1.5", "--rate-limit-per-min", "inherit", "--weight", "3")
    changed = await ask(*update)
    assert (changed["multiplier"], changed["rate_limit_per_min"], changed["weight"]) == (1.5, "inherit", 3)
    assert re.search(r"^price times +1.5$", await text(run, "tiers", "show", "batch"), re.MULTILINE)
    assert await text(run, "tiers", "remove", "batch") == "removed batch\n"
    gone = await run("tiers", "show", "batch")
    assert (gone.returncode, gone.stdout) == (1, "") and "(tier_not_found)" in gone.stderr

    now = await ask("prices", "add", "Llama3.2:3B", "--per-request", "0.5")
    assert (now["model"], now["per_request"], now["per_1k_prompt_tokens"]) == ("llama3.2:3b", 0.5, 0)
    later = await ask("prices", "add", "*", "--valid-from", "2099-01-01", "--per-1k-completion-tokens", "0.4")
    assert later["valid_from"].startswith("2099-01-01T00:00:00")
    shown = await text(run, "prices", "list")
    assert re.search(r"^\d+ +\* +2099-01-01 00:00 +0 +0 +0.4$", shown, re.MULTILINE)
    assert len((await ask("prices", "list", "--model", "llama3.2:3b"))["data"]) == 1
    assert (await run("prices", "remove", str(now["id"]))).returncode == 1
    assert await text(run, "prices", "remove", str(later["id"])) == f"removed {later['id']}\n"


async def test_nodes_are_added_drained_and_removed(run: Run, ask: Ask, world: World, tmp_path: Path) -> None:
    (first,) = (await ask("backends"))["data"]
    assert first["source"] == "settings"
    (tmp_path / "bearer").write_text("the-bearer-of-the-node\n")
    add = ("backends", "add", "http://127.0.0.1:9/", "--name", "gpu-1", "--slots", "3", "--tag", "a", "--tag", "b")
    made = await ask(*add, "--bearer-file", "bearer", "--draining")
    assert (made["name"], made["url"], made["slots"], made["tags"]) == ("gpu-1", "http://127.0.0.1:9", 3, ["a", "b"])
    assert (made["has_bearer"], made["draining"], made["source"]) == (True, True, "admin")
    for listed in (await text(run, "backends"), await text(run, "backends", "list")):
        assert re.search(r"^gpu-1 +(new|down) +0/3 +100 ", listed, re.MULTILINE)
    shown = await text(run, "backends", "show", "gpu-1")
    assert re.search(r"^bearer +set$", shown, re.MULTILINE) and "the-bearer" not in shown
    assert (await ask("backends", "undrain", "gpu-1"))["draining"] is False
    assert (await ask("backends", "drain", first["name"]))["state"] == "draining"
    changed = await ask("backends", "set", "gpu-1", "--weight", "7", "--no-bearer", "--no-tags")
    assert (changed["weight"], changed["has_bearer"], changed["tags"], changed["slots"]) == (7, False, [], 3)
    assert await text(run, "backends", "remove", "gpu-1") == "removed gpu-1\n"
    assert await text(run, "backends", "remove", first["name"]) == f"removed {first['name']}\n"
    fixed = await run("backends", "remove", first["name"])
    assert fixed.returncode == 1 and "OLLAMA_BASE_URL" in fixed.stderr


async def test_aliases_are_set_and_replaced(run: Run, ask: Ask) -> None:
    set_fast = ("aliases", "set", "Fast", "llama3.2:3b", "qwen3:4b")
    made = await ask(*set_fast, "--option", "temperature=0.5", "--option", "stop=END", "--context", "4096")
    assert (made["name"], made["targets"]) == ("fast:latest", ["llama3.2:3b", "qwen3:4b"])
    assert (made["options"], made["context_tokens"]) == ({"temperature": 0.5, "stop": ["END"]}, 4096)
    again = await ask(*set_fast[:4])
    assert (again["targets"], again["options"], again["context_tokens"]) == (["llama3.2:3b"], {}, None)
    assert re.search(r"^fast:latest +llama3.2:3b +llama3.2:3b +- +-$", await text(run, "aliases", "list"), re.MULTILINE)
    assert await text(run, "aliases", "remove", "fast") == "removed fast\n"
    assert (await ask("aliases", "list"))["data"] == []


async def test_grants_are_made_once_and_listed(run: Run, ask: Ask) -> None:
    key_id = (await ask("keys", "create", "--label", "x"))["id"]
    grant = ("credits", "grant", "--key", key_id, "--credits", "12.5", "--id", "invoice-1", "--note", "for May")
    assert await text(run, *grant) == f"granted 12.5 credits to key {key_id}, id invoice-1\n"
    assert await text(run, *grant) == "grant invoice-1 was made before: nothing has changed\n"
    other = await run(*grant[:5], "13", *grant[6:])
    assert other.returncode == 1 and "(conflict)" in other.stderr and "--id" not in other.stderr
    listed = await text(run, "credits", "list", "--key", key_id)
    assert re.search(rf"^invoice-1 +key {key_id} +12.5 +sam +for May +\d", listed, re.MULTILINE)
    made = await ask("credits", "grant", "--key", key_id, "--credits", "-2")
    assert made["id"].startswith("cli-")
    assert sum(one["credits"] for one in (await ask("credits", "list"))["data"]) == 10.5


async def test_reconcile_proves_it_and_finds_what_is_wrong(run: Run, ask: Ask, world: World) -> None:
    key = await ask("keys", "create", "--label", "x", "--credits", "10")
    for _ in range(3):
        reply = await world.http.post(f"{world.url}/v1/chat/completions", json=chat(), headers=bearer(key["key"]))
        reply.raise_for_status()
    agrees = r"^20\d\d-\d\d: all agree \(keys: 1, teams: 0, events not stored yet: [\d,]+\)\n$"
    assert re.fullmatch(agrees, await text(run, "reconcile"))
    await world.rows(3)
    said = await ask("reconcile")
    assert (said["events"], said["dead"], said["rows"], said["differing"]) == (0, 0, "kept", 0)
    account = f"{{s00}}:account:{key['id']}"
    await world.redis.hincrby(account, "charged", -1)
    wrong = await run("reconcile", "--month", said["month"])
    assert wrong.returncode == 1
    assert wrong.stdout.startswith(f"{said['month']}: differences: 1 (keys: 1, ")
    assert re.search(rf"^key {key['id']} +charged +credits +- +3 +2.999999$", wrong.stdout, re.MULTILINE)
    await world.redis.hincrby(account, "charged", 1)
    assert (await run("reconcile")).returncode == 0


async def test_reconcile_tells_of_dead_events_and_knows_months(run: Run, ask: Ask, world: World) -> None:
    await world.redis.xadd("{s00}:usage:dead", {"v": "9", "dead_reason": "version is not 1"})
    said = await text(run, "reconcile")
    assert "all agree" in said
    assert "Events that are set aside: 1." in said and "llm-gateway usage dead" in said
    past = await ask("reconcile", "--month", "2020-01")
    assert (past["agrees"], past["month"], past["rows"]) == (True, "2020-01", "dropped")
    assert "Its rows are dropped" in await text(run, "reconcile", "--month", "2020-01")
    for month in ("2099-12", "1999-12"):
        secret = {"X-Admin-Secret": ADMIN_SECRET}
        refused = await world.http.get(f"{world.url}/admin/reconcile", params={"month": month}, headers=secret)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "month")
    future = await run("reconcile", "--month", "2099-12")
    assert future.returncode == 1 and "not begun" in future.stderr
    assert (await run("reconcile", "--month", "november")).returncode == 2


async def test_reconcile_takes_no_running_call_for_a_difference(ask: Ask, world: World) -> None:
    key = (await ask("keys", "create", "--label", "x", "--credits", "1000", "--rate-limit-per-min", "1000000"))["key"]
    enough = asyncio.Event()

    async def busy() -> int:
        calls = 0
        while not enough.is_set():
            url = f"{world.url}/v1/chat/completions"
            calls += (await world.http.post(url, json=chat(), headers=bearer(key))).is_success
        return calls

    clients = [asyncio.create_task(busy()) for _ in range(8)]
    reports = [(await world.admin("GET", "/admin/reconcile")).json() for _ in range(10)]
    enough.set()
    calls = sum(await asyncio.gather(*clients))
    print(f"{len(reports)} reconciliations while {calls} calls settled")
    assert calls > 0
    assert [report["differences"] for report in reports] == [[]] * len(reports)
    assert (await ask("reconcile"))["agrees"]


async def test_the_audit_log_tells_who_changed_what(run: Run, ask: Ask) -> None:
    key_id = (await ask("keys", "create", "--label", "old name"))["id"]
    await ask("keys", "update", key_id, "--label", "new name")
    await ask("keys", "revoke", key_id)
    log = await text(run, "audit", "--object", f"key:{key_id}")
    _, *rows = log.splitlines()
    assert [row.split()[3] for row in rows] == ["revoke", "update", "create"]
    assert rows[1].endswith("label old name → new name")
    assert {row.split()[2] for row in rows} == {"sam"}
    assert len((await text(run, "audit", "--last", "2")).splitlines()) == 3
    found = await ask("audit", "--actor", "sam", "--action", "create")
    assert [(entry["object"], entry["before"]) for entry in found["data"]] == [(f"key:{key_id}", None)]


async def test_lists_walk_all_pages(ask: Ask, world: World) -> None:
    labels = [f"n{number}" for number in range(502)]
    for start in range(0, len(labels), 50):
        await asyncio.gather(*(world.create_key(label=label) for label in labels[start : start + 50]))
    listed = await ask("keys", "list")
    assert sorted(one["label"] for one in listed["data"]) == sorted(labels)
    assert listed["next"] is None


async def test_what_goes_wrong_is_said_in_a_line(run: Run, world: World) -> None:
    cases: list[tuple[tuple[str, ...], dict[str, str], int, str]] = [
        (("keys", "list"), {"PORT": "1"}, 1, "no gateway answers at http://127.0.0.1:1 (ConnectError): is it running?"),
        (("keys", "list", "--url", "http://127.0.0.1:1"), {}, 1, "no gateway answers"),
        (("audit",), {"ADMIN_SECRET": "another secret, which is wrong"}, 1, "ADMIN_SECRET, from the environment"),
        (("audit",), {"ADMIN_SECRET": ""}, 2, "ADMIN_SECRET is not set"),
        (("keys", "show", "nobody"), {}, 1, "(key_not_found)"),
        (("keys", "show", ""), {}, 2, "'' names nothing: ID"),
        (("keys", "show", "../../v1/usage"), {}, 1, "(route_not_found)"),
        (("keys", "create", "--label", "x", "--tier", "none-such"), {}, 1, "(tier_not_found)"),
        (("keys", "create", "--label", "x\x1b[31m"), {}, 1, "(invalid_request)"),
        (("tiers", "create", "basic"), {}, 1, "(conflict)"),
        (("keys", "update", "nobody"), {}, 2, "nothing to change"),
        (("prices", "add", "*"), {}, 2, "at least one part"),
        (("backends", "add", "ftp://x"), {}, 1, "(invalid_request)"),
        (("backends", "add", "http://x", "--bearer-file", "none-such"), {}, 2, "none-such cannot be read"),
        (("backends", "set", "x"), {}, 2, "nothing to change"),
        (("backends", "set", "x", "--tag", "a", "--no-tags"), {}, 2, "not both"),
        (("backends", "drain", "x"), {}, 1, "(backend_not_found)"),
        (("aliases", "set", "a b", "m"), {}, 1, "(invalid_request)"),
        (("aliases", "remove", "x"), {}, 1, "(alias_not_found)"),
    ]
    for argv, env, code, words in cases:
        done = await run(*argv, **env)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done
        assert words in done.stderr and ADMIN_SECRET not in done.stderr, done


@pytest.mark.parametrize(
    "argv",
    [
        ("keys",),
        ("keys", "create"),
        ("keys", "create", "--label", "x", "--unknown"),
        ("keys", "list", "--lab", "x"),
        ("keys", "create", "--label", "x", "--rate-limit-per-min", "many"),
        ("keys", "create", "--label", "x", "--expires", "soon"),
        ("keys", "create", "--label", "x", "--models", "none"),
        ("keys", "create", "--label", "x", "--model-limit", "llama3:8b"),
        ("keys", "list", "--url", "127.0.0.1:8000"),
        ("keys", "dry-run", "x", "--model", "m"),
        ("credits", "grant", "--credits", "1"),
        ("credits", "grant", "--credits", "1", "--key", "a", "--team", "b"),
        ("prices", "remove", "one"),
        ("backends", "add"),
        ("backends", "add", "http://x", "--bearer", "secret"),
        ("aliases", "set", "fast"),
        ("aliases", "set", "fast", "m", "--option", "temperature"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_anything_is_sent(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        _parser().parse_args(argv)
    assert stopped.value.code == 2
    assert "usage: llm-gateway" in capsys.readouterr().err


def actions_of(command: str) -> dict[str, Any]:
    """The parsers of a command's actions; its own where it has none."""
    commands = next(action for action in _parser()._actions if action.dest == "command")
    parser = commands.choices[command]  # type: ignore[index]
    found = [action.choices for action in parser._actions if action.dest == "action" and action.choices]
    return dict(found[0]) if found else {"": parser}


def test_readme_lists_every_command_and_action() -> None:
    listed: dict[str, list[str]] = {}
    for cell, _ in table("Commands"):
        first, *others = cell.split("`, `")
        _, command, *actions = first.split(" ")
        listed[command] = actions + others
    assert set(listed) == set(COMMANDS)
    assert {name: [action for action in actions_of(name) if action] for name in COMMANDS} == listed


def test_every_action_has_a_help_with_an_example() -> None:
    for command in (
        "keys",
        "teams",
        "tiers",
        "prices",
        "credits",
        "reconcile",
        "usage",
        "backends",
        "aliases",
        "audit",
    ):
        for action, parser in actions_of(command).items():
            start = f"llm-gateway {command} {action}".strip()
            assert f"example:\n  {start}" in parser.format_help()
            example = parser.epilog.partition("\n")[2].strip()
            parsed = _parser().parse_args(example.replace("'", "").split()[1:])
            assert parsed.command == command


async def test_the_walk_through_in_readme(world: World, tmp_path: Path) -> None:
    """Its lines as they stand there, in one shell; `llm-gateway` is on the path, as after `make install`."""
    sections = [README.split(f"\n## {heading}\n")[1].split("\n## ")[0] for heading in ("Administer", "The fleet")]
    script = "\n".join(line[4:] for line in "\n".join(sections).splitlines() if line.startswith("    "))
    assert script.count("llm-gateway ") >= 21
    program = tmp_path / "llm-gateway"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway "$@"\n')
    program.chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DATA_DIR": str(tmp_path / "data"),
        "PORT": world.url.rpartition(":")[2],
        "ADMIN_SECRET": ADMIN_SECRET,
    }
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=RUN_S
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    for words in (
        "\nllm_",
        "admitted: ",
        "granted 50 credits",
        ": all agree (",
        " rotate ",
        "revoked ",
        "removed gpu-7",
    ):
        assert words in done.stdout, done.stdout
