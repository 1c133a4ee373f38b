"""Teams and tiers: what goes in comes out, keys depend on them, nothing is removed from under a key."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from gateway.admin import cursor
from gateway.admin import tiers as tiers_module
from gateway.admin.author import Made
from gateway.core.limits import Limits, ModelLimits
from gateway.core.record import TIER_WEIGHT_MAX, Tier
from gateway.errors import BadRequest, Conflict, TeamNotFound, TierNotFound
from tests.integration.admin_objects import AT_MS, BY, Stores, beside, by, opened, record, team

LIMITS = Limits(rate_limit_per_min=None, burst=7, model_limits={"qwen*": ModelLimits(rate_limit_per_min=1)})


@pytest.fixture
async def stores(migrated_url: str) -> AsyncIterator[Stores]:
    async for one in opened(migrated_url):
        yield one


async def test_a_team_comes_out_as_it_went_in(stores: Stores) -> None:
    for wanted in (team(1), team(2, limits=LIMITS, shadow=True, metered=True, label="Büro")):
        made = (await stores.teams.create(BY, wanted, None)).what
        assert made == replace(wanted, updated_at_ms=made.updated_at_ms) == await stores.teams.get(wanted.id)
    for nobody in ("nobody", "a\0", "", "½"):
        with pytest.raises(TeamNotFound):
            await stores.teams.get(nobody)
        with pytest.raises(TeamNotFound):
            await stores.teams.change(BY, nobody, lambda one: one)
    for bad, reason in (
        (team(1), "teams_pkey"),
        (team(3, label="x" * 501), "teams_label_short"),
        (team(3, id="a b"), "teams_id_form"),
        (team(3, limits=Limits(concurrency=0)), "teams_limits_form"),
    ):
        with pytest.raises(BadRequest, match=reason):
            await stores.teams.create(BY, bad, None)


async def test_a_teams_first_credits_are_its_first_grant(stores: Stores) -> None:
    made = (await stores.teams.create(BY, team(1), 3_000_000)).what
    assert (made.metered, made.granted_micro, made.version) == (True, 3_000_000, 1)
    (grant,) = (await stores.credits.page(None, made.id, None, 10)).items
    assert (grant.id, grant.team_id, grant.amount_micro) == (f"opening-{made.id}", made.id, 3_000_000)


async def test_teams_come_in_pages_and_by_change(stores: Stores) -> None:
    for number in range(5):
        await stores.teams.create(BY, team(number, created_at_ms=AT_MS), None)
    page = await stores.teams.page(None, 2)
    seen = [one.id for one in page.items]
    while page.after:
        page = await stores.teams.page(page.after, 2)
        seen += [one.id for one in page.items]
    assert seen == [team(number).id for number in reversed(range(5))]
    began_us = await stores.keys.now_us()
    await stores.teams.change(BY, team(3).id, lambda one: replace(one, shadow=True))
    (changed,) = (await stores.teams.changed_since(began_us)).items
    assert (changed.id, changed.shadow, changed.version) == (team(3).id, True, 2)


async def test_a_team_is_changed_and_the_log_says_how(stores: Stores) -> None:
    made = (await stores.teams.create(BY, team(1), 1_000_000)).what
    changed = await stores.teams.change(BY, made.id, lambda one: replace(one, limits=LIMITS, granted_micro=5, id="x"))
    assert changed == replace(made, limits=LIMITS, version=2, updated_at_ms=changed.updated_at_ms)
    assert await stores.teams.change(BY, made.id, lambda one: one) == changed
    create, update = await stores.entries(f"team:{made.id}")
    assert (create.action, create.before, create.after and create.after["credits_granted"]) == ("create", None, 1)
    assert update.before and update.after
    assert (update.before["limits"], update.after["limits"]["burst"]) == ({}, 7)


async def test_a_team_with_keys_cannot_be_removed(stores: Stores) -> None:
    made = (await stores.teams.create(BY, team(1), 1_000_000)).what
    (key,) = beside(made)
    await stores.keys.create(BY, replace(key, team_id=made.id), None)
    with pytest.raises(Conflict, match="keys"):
        await stores.teams.remove(BY, made.id)
    await stores.keys.revoke(BY, key.id)
    await stores.keys.change(BY, key.id, lambda one: replace(one, team_id=None))
    await stores.teams.remove(BY, made.id)
    with pytest.raises(TeamNotFound):
        await stores.teams.remove(BY, made.id)
    assert len((await stores.credits.page(None, made.id, None, 10)).items) == 1  # the ledger forgets nothing
    last = (await stores.entries(f"team:{made.id}"))[-1]
    assert (last.action, last.after) == ("remove", None)
    assert last.before and last.before["id"] == made.id


async def test_revoked_keys_do_not_keep_their_team(stores: Stores) -> None:
    made, other = [(await stores.teams.create(BY, team(number), None)).what for number in (1, 2)]
    live, *gone = beside(made, 3)
    for key in (live, *gone):
        await stores.keys.create(BY, replace(key, team_id=made.id), None)
    for key in gone:
        await stores.keys.revoke(BY, key.id)
    with pytest.raises(Conflict, match="not revoked"):
        await stores.teams.remove(BY, made.id)
    assert (await stores.keys.get(gone[0].id)).team_id == made.id
    await stores.keys.revoke(BY, live.id)
    before = await stores.keys.get(live.id)
    await stores.teams.remove(BY, made.id)
    after = await stores.keys.get(live.id)
    assert (after.team_id, after.version) == (None, before.version + 1)
    for key in (live, *gone):
        entry = (await stores.entries(f"key:{key.id}"))[-1]
        assert (entry.action, entry.before, entry.after) == ("update", {"team_id": made.id}, {"team_id": None})
    assert await stores.teams.get(other.id) == other


async def test_a_team_request_sent_again_is_carried_out_once(stores: Stores) -> None:
    made = await asyncio.gather(*(stores.teams.create(by("k"), team(n), 1_000_000) for n in range(8)))
    assert sorted(one.again for one in made) == [False] + [True] * 7
    assert len((await stores.teams.page(None, 100)).items) == 1
    assert len((await stores.credits.page(None, None, None, 100)).items) == 1


async def test_the_tiers_that_come_with_the_schema(stores: Stores) -> None:
    assert [(one.name, one.multiplier_milli, one.limits) for one in await stores.tiers.all()] == [
        ("basic", 2_000, Limits()),
        ("premium", 1_000, Limits()),
    ]


async def test_a_tier_comes_out_as_it_went_in(stores: Stores) -> None:
    made = (await stores.tiers.create(by("k"), Tier(name="lab", multiplier_milli=1_500, limits=LIMITS, weight=9))).what
    assert (made.name, made.multiplier_milli, made.limits, made.weight) == ("lab", 1_500, LIMITS, 9)
    assert await stores.tiers.get("lab") == made
    assert await stores.tiers.create(by("k"), Tier(name="lab")) == Made(made, True)
    with pytest.raises(Conflict, match="that name"):
        await stores.tiers.create(BY, Tier(name="lab"))
    with pytest.raises(BadRequest, match="tiers_name_form"):
        await stores.tiers.create(BY, Tier(name="a b"))
    with pytest.raises(BadRequest, match="tiers_weight_range"):
        await stores.tiers.create(BY, Tier(name="c", weight=TIER_WEIGHT_MAX + 1))
    with pytest.raises(BadRequest, match="tiers_multiplier_range"):
        await stores.tiers.create(BY, Tier(name="c", multiplier_milli=100_001))
    for nobody in ("gold", "\0", "½", ""):
        with pytest.raises(TierNotFound):
            await stores.tiers.get(nobody)
        with pytest.raises(TierNotFound):
            await stores.tiers.change(BY, nobody, lambda one: one)
    await stores.tiers.remove(BY, "lab")
    assert [entry.action for entry in await stores.entries("tier:lab")] == ["create", "remove"]


async def test_tiers_have_a_bound_that_a_race_does_not_break(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers_module, "TIERS_MAX", 5)
    made = await asyncio.gather(
        *(stores.tiers.create(BY, Tier(name=f"t{n}")) for n in range(8)), return_exceptions=True
    )
    assert sum(isinstance(one, Conflict) for one in made) == 5
    assert len(await stores.tiers.all()) == 5


async def test_a_changed_tier_gives_its_keys_a_new_version(stores: Stores) -> None:
    inside = (await stores.keys.create(BY, record(1, tier="basic"), None)).what
    outside = (await stores.keys.create(BY, record(2, tier="premium"), None)).what
    changed = await stores.tiers.change(BY, "basic", lambda one: replace(one, limits=LIMITS, name="x", created_at_ms=1))
    assert (changed.name, changed.limits) == ("basic", LIMITS)
    assert changed.updated_at_ms > changed.created_at_ms > 1
    assert (await stores.keys.get(inside.id)).version == inside.version + 1
    assert await stores.tiers.change(BY, "basic", lambda one: one) == changed
    assert (await stores.keys.get(inside.id)).version == inside.version + 1
    assert (await stores.keys.get(outside.id)).version == outside.version
    (update,) = await stores.entries("tier:basic")
    assert update.before and update.after
    assert (update.before["multiplier"], update.before["limits"], update.after["limits"]["burst"]) == (2, {}, 7)


async def test_a_key_that_comes_into_a_tier_while_it_changes_is_not_forgotten(stores: Stores) -> None:
    """Whichever is first: a version that was read with the old tier is never the last one."""
    await stores.keys.create(BY, record(1), None)
    for round_ in range(20):
        away = None if round_ % 2 else "premium"
        multiplier = 1_000 + round_
        moved, _ = await asyncio.gather(
            stores.keys.change(BY, "key00001", lambda key: replace(key, tier="basic")),
            stores.tiers.change(BY, "basic", lambda tier, m=multiplier: replace(tier, multiplier_milli=m)),  # type: ignore[misc]
        )
        (told,) = await stores.keys.records([moved])
        if told.multiplier_milli != multiplier:  # the key came first, so the tier's change has to have touched it
            assert (await stores.keys.get("key00001")).version > moved.version
        await stores.keys.change(BY, "key00001", lambda key, t=away: replace(key, tier=t))  # type: ignore[misc]


async def test_a_key_cannot_come_into_a_tier_that_is_about_to_change(stores: Stores, migrated_url: str) -> None:
    """It waits for the change, and is then read with it."""
    await stores.keys.create(BY, record(1), None)
    async with stores.postgres.transaction() as connection:
        await connection.execute("UPDATE tiers SET multiplier_milli = 7000 WHERE name = 'basic'")
        moving = asyncio.create_task(stores.keys.change(BY, "key00001", lambda key: replace(key, tier="basic")))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        async with asyncio.timeout(5):
            while not await stores.value(waits):
                await asyncio.sleep(0)
    (told,) = await stores.keys.records([await moving])
    assert told.multiplier_milli == 7_000


async def test_a_tier_with_keys_cannot_be_removed(stores: Stores) -> None:
    await stores.keys.create(BY, record(1, tier="basic"), None)
    with pytest.raises(Conflict, match="keys"):
        await stores.tiers.remove(BY, "basic")
    await stores.keys.change(BY, "key00001", lambda key: replace(key, tier=None))
    await stores.tiers.remove(BY, "basic")
    with pytest.raises(TierNotFound):
        await stores.tiers.remove(BY, "basic")


async def test_keys_of_a_tier_come_in_pages(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "PAGE_ROWS", 2)
    for number in range(5):
        await stores.keys.create(BY, record(number, tier="basic"), None)
    page = await stores.keys.of_tier("basic", None)
    seen = [key.id for key in page.items]
    while page.after:
        page = await stores.keys.of_tier("basic", page.after)
        seen += [key.id for key in page.items]
    assert seen == [record(number).id for number in range(5)]
    assert (await stores.keys.of_tier("gold", None)).items == []
