"""Reports on usage through HTTP: a key's own, and the operator's by whatever is named, as JSON and as CSV."""

import csv
import io
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.operators import Operator
from tests.acceptance.test_outages import own_servers
from tests.world import World, bearer

FORMULA = '=HYPERLINK("http://example.org","click")'
SUMMED = ("calls", "prompt_tokens", "completion_tokens", "total_tokens")


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


async def called(operator: Operator, key: dict[str, Any], *models: str) -> None:
    for model in models:
        assert (await operator.call(key["key"], model=model)).status_code == 200


def summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "calls": len(rows),
        **{name: sum(row[name] for row in rows) for name in SUMMED[1:]},
        "credits": sum(row["credits_micro"] for row in rows) / 10**6,
        "gpu_seconds": pytest.approx(sum(row["gpu_ms"] for row in rows) / 1000),
    }


async def test_a_key_is_told_its_own_use_and_never_anothers(operator: Operator) -> None:
    world = operator.world
    mine, theirs, idle = [await operator.make("/api-keys", label=label) for label in ("mine", "theirs", "idle")]
    await called(operator, mine, "llama3.2:3b", "llama3.2:3b", "qwen3:8b")
    await called(operator, theirs, "llama3.2:3b")
    rows = await world.rows(4)
    for key in (mine, theirs, idle):
        own = [row for row in rows if row["api_key_id"] == key["id"]]
        told = await world.usage_told(key["key"])
        days = sorted({row["created_at"].astimezone(UTC).date().isoformat() for row in own})
        assert [one["day"] for one in told["by_day"]] == days
        assert sum(one["calls"] for one in told["by_day"]) == len(own)
        if len(days) == 1:
            assert told["by_day"] == [{"day": days[0], **summed(own)}]
        models = {row["model"] for row in own}
        assert {one["model"]: one for one in told["by_model"]} == {
            model: {"model": model, **summed([row for row in own if row["model"] == model])} for model in models
        }
        tokens = [one["total_tokens"] for one in told["by_model"]]
        assert tokens == sorted(tokens, reverse=True)
        operators = await operator.get(f"/api-keys/{key['id']}/usage")
        assert (operators["by_day"], operators["by_model"]) == (told["by_day"], told["by_model"])


async def test_without_postgres_a_key_is_told_its_limits_all_the_same(short_dir: Path, fake: FakeOllama) -> None:
    async with own_servers(short_dir, fake) as (world, _, postgres):
        key = await world.create_key()
        await Operator(world).call(key)
        (row,) = await world.rows(1)
        os.kill(postgres.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            hung = await world.usage(key)
            print(f"told after {time.monotonic() - began:.2f} s while Postgres hangs")
        finally:
            os.kill(postgres.pid, signal.SIGCONT)
        assert (await world.usage_told(key))["by_model"][0]["total_tokens"] == row["total_tokens"]
        await postgres.kill()
        for told in (hung, await world.usage(key)):
            assert (told["by_day"], told["by_model"]) == (None, None)
            assert told["monthly_tokens"]["spent"] == row["total_tokens"]
        reply = await world.http.get(f"{world.url}/v1/usage", headers=bearer(key))
        assert (reply.status_code, "x-ratelimit-limit-requests" in reply.headers) == (200, True)
        await Operator(world).refused(503, "store_unavailable", "GET", "/usage")
        await postgres.start()
        assert (await world.usage_told(key))["by_day"][0]["calls"] == 1


async def test_operators_are_told_by_whatever_they_name(operator: Operator) -> None:
    team = await operator.make("/teams", label="lab")
    one = await operator.make("/api-keys", label="one", team_id=team["id"])
    two = await operator.make("/api-keys", label="two")
    await called(operator, one, "llama3.2:3b", "qwen3:8b")
    await called(operator, two, "llama3.2:3b")
    rows = await operator.world.rows(3)
    whole = await operator.get("/usage?group_by=month")
    months = {row["created_at"].astimezone(UTC).strftime("%Y-%m") for row in rows}
    assert {group["month"] for group in whole["data"]} == months
    assert sum(group["calls"] for group in whole["data"]) == 3
    assert (whole["truncated"], whole["group_by"]) == (False, ["month"])

    told = await operator.get("/usage?group_by=team,key,model,status,backend")
    found = {(group["key_id"], group["model"]): group for group in told["data"]}
    for row in rows:
        group = found.pop((row["api_key_id"], row["model"]))
        expected = summed([row])
        assert {name: group[name] for name in expected} == expected
        mine = row["api_key_id"] == one["id"]
        assert (group["key_label"], group["team_label"]) == (("one", "lab") if mine else ("two", ""))
        assert (group["team_id"], group["status"], group["failed_calls"]) == (team["id"] if mine else "", "ok", 0)
        assert group["backend"] == row["backend"]
        assert group["avg_response_seconds"] == row["response_time_ms"] / 1000
        assert "day" not in group
        assert "hour" not in group
    assert not found

    async def calls(query: str) -> int:
        return sum(group["calls"] for group in (await operator.get(f"/usage?{query}"))["data"])

    assert await calls(f"key_id={one['id']}") == await calls(f"team_id={team['id']}&group_by=hour") == 2
    assert await calls("team_id=") == 1
    assert await calls("status=timeout") == await calls("backend=nowhere") == 0
    model = rows[0]["model"]
    assert await calls(f"model={model}") == sum(row["model"] == model for row in rows)
    assert await calls(f"model={model}&key_id={two['id']}&status=ok") == 1
    first = await operator.get("/usage?group_by=key&limit=1")
    assert (first["truncated"], first["data"][0]["key_id"]) == (True, one["id"])


async def test_the_span_ends_before_its_end(operator: Operator) -> None:
    key = await operator.make("/api-keys", label="x")
    await called(operator, key, "llama3.2:3b")
    (row,) = await operator.world.rows(1)
    hour = row["created_at"].astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    this, after = f"{hour:%Y-%m-%dT%H}", f"{datetime.fromtimestamp(hour.timestamp() + 3600, UTC):%Y-%m-%dT%H:00:00Z}"
    told = await operator.get(f"/usage?group_by=hour&from={this}&to={after}")
    assert [group["hour"] for group in told["data"]] == [told["from"]] == [f"{hour:%Y-%m-%dT%H:00:00Z}"]
    assert told["to"] == after
    earlier, later = (datetime.fromtimestamp(hour.timestamp() + days * 86_400, UTC) for days in (-30, 30))
    assert (await operator.get(f"/usage?from={earlier:%Y-%m-%d}&to={this}&group_by=month"))["data"] == []
    assert (await operator.get(f"/usage?from={after}&to={later:%Y-%m-%d}&group_by=model"))["data"] == []


ASKED_WRONGLY = {
    "group_by=api_key_id": "group_by",
    "group_by=": "group_by",
    "from=yesterday": "from",
    "from=2026-11-01T00:30": "from",
    "to=2020-01-01": "to",
    "from=2001-01-01": "from",
    "format=xml": "format",
    "limit=0": "limit",
    "limit=10001": "limit",
    "limit=x": "limit",
    "since=2026-11-01": "since",
    "key=1": "key",
    "model=a&model=b": "model",
}


async def test_what_is_asked_wrongly_is_refused_by_its_name(operator: Operator) -> None:
    for query, param in ASKED_WRONGLY.items():
        error = await operator.refused(400, "invalid_request", "GET", f"/usage?{query}")
        assert error["param"] == param, query


async def test_a_sheet_is_safe_to_open_and_says_the_same(operator: Operator) -> None:
    key = await operator.make("/api-keys", label=FORMULA)
    await called(operator, key, "llama3.2:3b")
    await operator.world.rows(1)
    (group,) = (await operator.get("/usage?group_by=key,model"))["data"]
    assert group["key_label"] == FORMULA
    for reply in (
        await operator.ask("GET", "/usage?group_by=key,model&format=csv"),
        await operator.ask("GET", "/usage?group_by=key,model", Accept="text/csv"),
        await operator.ask("GET", "/usage?group_by=key,model", Accept="application/json;q=0.5, text/csv"),
    ):
        assert reply.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        assert reply.headers["content-disposition"].startswith('attachment; filename="usage-')
        assert reply.headers["x-truncated"] == "false"
        head, row = list(csv.reader(io.StringIO(reply.text, newline="")))
        assert reply.text.count("\r\n") == reply.text.count("\n") == 2
        assert head == list(group)
        told = dict(zip(head, row, strict=True))
        assert told["key_label"] == "'" + FORMULA
        assert told["model"] == group["model"]
        assert all(float(told[name]) == pytest.approx(group[name], abs=1e-6) for name in list(group)[3:])
    for accept in ("*/*", "application/json", "text/html", "text/csv;q=0.1, application/json"):
        reply = await operator.ask("GET", "/usage", Accept=accept)
        assert reply.headers["content-type"] == "application/json"
    asked_for = await operator.ask("GET", "/usage?format=json", Accept="text/csv")
    assert asked_for.headers["content-type"] == "application/json"
    empty = await operator.ask("GET", "/usage?group_by=key,day&format=csv&key_id=nobody")
    assert empty.text.startswith("key_id,key_label,day,calls,")
    assert empty.text.count("\r\n") == 1
