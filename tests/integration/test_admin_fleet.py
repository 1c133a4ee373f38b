"""Nodes and aliases: what goes in comes out, each change is a new version and an entry, no secret is in one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.admin import aliases as aliases_module
from gateway.admin import backends as backends_module
from gateway.admin.author import Made
from gateway.core.fleet import Alias, Node
from gateway.errors import AliasNotFound, BackendNotFound, BadRequest, Conflict, IdempotencyMismatch
from tests.integration.admin_objects import BY, Stores, by, opened

NODE = Node(name="gpu-1", url="http://10.0.0.1:11434")
WHOLE = Node(
    name="[::1]:11434",
    url="https://[::1]:11434/ollama",
    slots=7,
    weight=3,
    draining=True,
    tags=("a100", "küche"),
    bearer="bearer-of-the-node",
    ca_pem="certificates-of-the-node",
)
ALIAS = Alias(
    name="fast:latest", targets=("llama3.2:3b", "hf.co/x/y:q4"), options={"stop": ["a"]}, context_tokens=8_192
)


@pytest.fixture
async def stores(migrated_url: str) -> AsyncIterator[Stores]:
    async for one in opened(migrated_url):
        yield one


async def test_nodes_and_aliases_come_out_as_they_went_in(stores: Stores) -> None:
    empty = await stores.backends.registry()
    assert (empty.nodes, empty.aliases) == ((), ())
    for node in (NODE, WHOLE):
        assert await stores.backends.add(BY, node) == Made(node, False)
    assert await stores.aliases.add(BY, ALIAS) == Made(ALIAS, False)
    plain = Alias(name="a/b:1", targets=("m:latest",))
    await stores.aliases.add(BY, plain)
    assert await stores.backends.all() == [WHOLE, NODE]
    assert await stores.aliases.all() == [plain, ALIAS]
    assert await stores.aliases.get(ALIAS.name) == ALIAS
    registry = await stores.backends.registry()
    assert (registry.nodes, registry.aliases) == ((WHOLE, NODE), (plain, ALIAS))


async def test_every_change_makes_a_new_version_and_none_makes_none(stores: Stores) -> None:
    seen = [(await stores.backends.registry()).version]

    async def grown() -> bool:
        seen.append((await stores.backends.registry()).version)
        return seen[-1] > seen[-2]

    await stores.backends.add(BY, NODE)
    assert await grown()
    await stores.backends.change(BY, NODE.name, lambda node: replace(node, slots=9), None)
    assert await grown()
    await stores.backends.change(BY, NODE.name, lambda node: node, None)
    assert not await grown()
    await stores.aliases.add(BY, ALIAS)
    assert await grown()
    await stores.aliases.change(BY, ALIAS.name, lambda alias: replace(alias, context_tokens=None))
    assert await grown()
    await stores.aliases.change(BY, ALIAS.name, lambda alias: alias)
    assert not await grown()
    await stores.aliases.remove(BY, ALIAS.name)
    assert await grown()
    await stores.backends.remove(BY, NODE.name)
    assert await grown()


async def test_a_name_and_a_url_are_there_once(stores: Stores) -> None:
    await stores.backends.add(BY, NODE)
    for other in (replace(NODE, url="http://other"), replace(NODE, name="other")):
        with pytest.raises(Conflict, match="name or URL"):
            await stores.backends.add(BY, other)
    for other in (replace(WHOLE, url="http://other"), replace(WHOLE, name="other")):
        with pytest.raises(Conflict, match="OLLAMA_BASE_URL"):
            await stores.backends.add(BY, other, [WHOLE])
    await stores.aliases.add(BY, ALIAS)
    with pytest.raises(Conflict, match="alias"):
        await stores.aliases.add(BY, replace(ALIAS, options={}))
    with pytest.raises(BadRequest, match="backends_url_form"):
        await stores.backends.add(BY, replace(NODE, name="x", url="http://me:secret@host"))


async def test_of_a_hundred_at_once_one_adds_a_node(stores: Stores) -> None:
    added = (stores.backends.add(BY, NODE) for _ in range(20))
    outcomes = await asyncio.gather(*added, return_exceptions=True)
    assert sum(isinstance(one, Made) for one in outcomes) == 1
    assert sum(isinstance(one, Conflict) for one in outcomes) == 19


async def test_a_repeated_request_adds_nothing_twice(stores: Stores) -> None:
    for _ in range(2):
        made = await stores.backends.add(by("b"), NODE)
        alias = await stores.aliases.add(by("a"), ALIAS)
    assert (made, alias) == (Made(NODE, True), Made(ALIAS, True))
    with pytest.raises(IdempotencyMismatch):
        await stores.backends.add(by("b", "another body"), WHOLE)
    assert len(await stores.entries()) == 2


async def test_there_are_bounds(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends_module, "NODES_MAX", 1)
    monkeypatch.setattr(aliases_module, "ALIASES_MAX", 1)
    await stores.backends.add(BY, NODE)
    await stores.aliases.add(BY, ALIAS)
    with pytest.raises(Conflict, match="no more than 1 backends"):
        await stores.backends.add(BY, WHOLE)
    with pytest.raises(Conflict, match="no more than 1 aliases"):
        await stores.aliases.add(BY, replace(ALIAS, name="b:latest"))


async def test_a_node_of_the_settings_gets_a_row_with_its_first_change(stores: Stores) -> None:
    unwritten = replace(NODE, slots=2)
    changed = await stores.backends.change(
        BY, NODE.name, lambda node: replace(node, draining=True, url="http://elsewhere", name="other"), unwritten
    )
    assert changed == replace(unwritten, draining=True)
    assert await stores.backends.all() == [changed]
    again = await stores.backends.change(BY, NODE.name, lambda node: replace(node, weight=5), unwritten)
    assert again == replace(changed, weight=5), "the row counts, not what the settings say"
    (first, second) = await stores.entries("backend:gpu-1")
    assert first.before and first.after and second.before and second.after
    assert (first.before["draining"], first.after["draining"]) == (False, True)
    assert (second.before["weight"], second.after["weight"]) == (100, 5)


async def test_what_is_not_there_is_said_not_to_be(stores: Stores) -> None:
    for name in ("nobody", "", "a\0", "½"):
        with pytest.raises((BackendNotFound, BadRequest)):
            await stores.backends.change(BY, name, lambda node: node, None)
        with pytest.raises((BackendNotFound, BadRequest)):
            await stores.backends.remove(BY, name)
        with pytest.raises(AliasNotFound):
            await stores.aliases.get(name)
        with pytest.raises((AliasNotFound, BadRequest)):
            await stores.aliases.change(BY, name, lambda alias: alias)
        with pytest.raises((AliasNotFound, BadRequest)):
            await stores.aliases.remove(BY, name)
    assert await stores.entries() == []


async def test_the_log_has_every_change_and_no_secret(stores: Stores) -> None:
    await stores.backends.add(BY, WHOLE)
    await stores.backends.change(BY, WHOLE.name, lambda node: replace(node, bearer="another-bearer"), None)
    await stores.backends.change(BY, WHOLE.name, lambda node: replace(node, bearer="", ca_pem=""), None)
    await stores.backends.remove(BY, WHOLE.name)
    await stores.aliases.add(BY, ALIAS)
    await stores.aliases.change(BY, ALIAS.name, lambda alias: replace(alias, targets=("m:latest",)))
    await stores.aliases.remove(BY, ALIAS.name)
    entries = await stores.entries(f"backend:{WHOLE.name}")
    assert [entry.action for entry in entries] == ["create", "update", "update", "remove"]

    def has(shown: dict[str, Any] | None) -> Any:
        return shown and (shown["has_bearer"], shown["has_ca"], shown.get("replaced"))

    assert [(has(entry.before), has(entry.after)) for entry in entries] == [
        (None, (True, True, None)),
        ((True, True, None), (True, True, ["bearer"])),
        ((True, True, None), (False, False, ["bearer", "ca_pem"])),
        ((False, False, None), None),
    ]
    told = await stores.entries(f"alias:{ALIAS.name}")
    assert [entry.action for entry in told] == ["create", "update", "remove"]
    assert told[0].after and told[0].after["options"] == {"stop": ["a"]}
    text = await stores.value("SELECT string_agg(a::text, '') FROM audit_log AS a")
    assert WHOLE.name in text
    for secret in (WHOLE.bearer, "another-bearer", WHOLE.ca_pem):
        assert secret not in text
