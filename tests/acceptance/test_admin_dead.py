"""Dead events over HTTP and from the command line: listed page by page, put back, rows in the end."""

import json
import subprocess
from typing import Any

import pytest

from gateway.state import keyspace
from gateway.web.admin.dead import IDS_MAX
from tests.acceptance.operators import Operator
from tests.acceptance.test_cli_commands import Run, run
from tests.integration.usage_events import event, fields
from tests.world import World

__all__ = ["run"]
DEAD = keyspace.usage_dead(0)
MANY = 25


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


async def bury(world: World, *numbers: int) -> None:
    """Events that a worker could have set aside for a constraint that is gone."""
    for number in numbers:
        died = {"dead_reason": "postgres 23514 gone", "dead_entry": f"{number}-0"}
        await world.redis.xadd(DEAD, fields(event(number)) | died)


async def test_they_are_listed_put_back_and_become_rows(world: World, operator: Operator) -> None:
    await bury(world, *range(MANY))
    listed = await operator.walk("/usage/dead", 7)
    assert [one["fields"]["id"] for one in listed] == [event(number).id for number in range(MANY)]
    assert {one["reason"] for one in listed} == {"postgres 23514 gone"}
    assert all("dead_reason" not in one["fields"] and one["others"] == 0 for one in listed)
    assert await operator.walk("/usage/dead", 500) == listed

    chosen = [one["id"] for one in listed[3:5]]
    said = await operator.ask("POST", "/usage/replay", {"ids": chosen}, idempotency_key="k")
    assert (said.status_code, said.json()) == (200, {"replayed": 2, "left": MANY - 2})
    again = await operator.ask("POST", "/usage/replay", {"ids": chosen}, idempotency_key="k")
    assert (again.status_code, again.json()) == (200, said.json())
    anew = await operator.ask("POST", "/usage/replay", {"ids": chosen})
    assert anew.json() == {"replayed": 0, "left": MANY - 2}
    rows = await world.rows(2)
    assert [str(row["id"]) for row in rows] == [event(number).id for number in (3, 4)]

    said = await operator.ask("POST", "/usage/replay", {"all": True}, x_admin_actor="ann")
    assert said.json() == {"replayed": MANY - 2, "left": 0}
    await world.rows(MANY)
    assert (await operator.get("/usage/dead")) == {"data": [], "next": None}
    newest, *others = await operator.audit(object="usage:dead")
    assert (newest["actor"], newest["action"], newest["after"]["asked"]) == ("ann", "replay", "all")
    assert [one["after"]["replayed"] for one in others] == [0, 2]


SENSELESS: list[dict[str, Any]] = [
    {},
    {"ids": []},
    {"all": False},
    {"ids": ["0:1-0"], "all": True},
    {"ids": ["1:1-0"]},
    {"ids": ["nothing"]},
    {"ids": [""]},
    {"ids": ["0:1-0"] * (IDS_MAX + 1)},
    {"ids": "0:1-0"},
    {"everything": True},
    {"all": 1},
]
FALSE = ("after=x", "after=MCAxOjEtMA", "limit=0", "limit=501", "shard=0")
"""the second is of another shard"""


async def test_what_makes_no_sense_is_refused(world: World, operator: Operator) -> None:
    await bury(world, 1)
    for body in SENSELESS:
        await operator.refused(400, "invalid_request", "POST", "/usage/replay", body)
    assert await world.redis.xlen(DEAD) == 1
    assert await operator.audit(object="usage:dead") == []
    for query in FALSE:
        await operator.refused(400, "invalid_request", "GET", f"/usage/dead?{query}")


def done(ended: subprocess.CompletedProcess[str]) -> str:
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


async def test_the_command_line_lists_them_and_puts_them_back(world: World, run: Run) -> None:
    assert done(await run("usage", "dead")) == "no event is dead\n"
    await bury(world, 1, 2, 3)
    head, *lines = done(await run("usage", "dead")).splitlines()
    assert head.split()[0] == "ID" and len(lines) == 3
    assert "postgres 23514 gone" in lines[0] and event(1).id in lines[0] and "abcDEF1234" in lines[0]
    assert json.loads(done(await run("usage", "dead", "--json")))["data"][0]["fields"]["prompt"] == "11"
    first = lines[0].split()[0]
    assert "put back: 1, dead still: 2;" in done(await run("usage", "replay", first))
    assert done(await run("usage", "replay", "--all")) == "put back: 2, dead still: 0\n"
    await world.rows(3)
    for argv in ((), (first, "--all"), ("",)):
        assert (await run("usage", "replay", *argv)).returncode == 2, argv
    assert (await run("usage", "replay", "nothing")).returncode == 1
