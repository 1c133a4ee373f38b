"""Prices and the ledger: nothing that was valid changes, a grant is counted once, three sums agree."""

import asyncio
from collections.abc import AsyncIterator
from io import StringIO

import pytest
from msgspec.structs import replace

from gateway.admin import credits as credits_module
from gateway.admin import prices as prices_module
from gateway.admin.credits import Grant, OwnerSums
from gateway.admin.prices import NewPrice
from gateway.core.pricing import CREDITS_MICRO_MAX
from gateway.errors import BadRequest, Conflict, IdempotencyMismatch, KeyNotFound, PriceNotFound, TeamNotFound
from gateway.telemetry.logs import Log
from tests.integration.admin_objects import BY, Stores, by, opened, record, team
from tests.integration.usage_events import MONTH, event
from workers.store import UsageStore
from workers.upkeep import Upkeep

HOUR_MS = 3_600_000


@pytest.fixture
async def stores(migrated_url: str) -> AsyncIterator[Stores]:
    async for one in opened(migrated_url):
        yield one


async def now_ms(stores: Stores) -> int:
    return await stores.keys.now_us() // 1000


async def test_every_call_costs_one_credit_until_somebody_says_otherwise(stores: Stores) -> None:
    listed = await stores.prices.price_list()
    (price,) = listed.prices
    assert (price.model, price.valid_from_ms, price.per_request_micro) == ("*", 0, 1_000_000)


async def test_prices_are_valid_now_or_later_never_earlier(stores: Stores) -> None:
    began = await now_ms(stores)
    first = (await stores.prices.add(BY, NewPrice(model="m:latest", per_1k_prompt_micro=5))).what
    assert began <= first.valid_from_ms <= await now_ms(stores)
    late = (await stores.prices.add(BY, NewPrice(model="m:latest", valid_from_ms=began - 1_000))).what
    assert late.valid_from_ms >= began  # a clock that is a little late still means now
    for past_ms in (began - 10 * HOUR_MS, 1, 0, -1, -HOUR_MS):
        with pytest.raises(BadRequest, match="past"):
            await stores.prices.add(BY, NewPrice(model="m:latest", valid_from_ms=past_ms))
    later = (await stores.prices.add(BY, NewPrice(model="m:latest", valid_from_ms=began + HOUR_MS))).what
    assert later.valid_from_ms == began + HOUR_MS
    with pytest.raises(Conflict, match="from that time on"):
        await stores.prices.add(BY, NewPrice(model="m:latest", valid_from_ms=began + HOUR_MS))
    with pytest.raises(BadRequest, match="prices_range"):
        await stores.prices.add(BY, NewPrice(model="m:latest", per_request_micro=-1))
    with pytest.raises(BadRequest, match="between the years"):
        await stores.prices.add(BY, NewPrice(model="m:latest", valid_from_ms=2**62))


async def test_the_list_has_what_is_valid_now_just_before_and_later_and_a_version(stores: Stores) -> None:
    """Redis' clock may be behind: what was valid a moment ago is valid there still."""
    before = await stores.prices.price_list()
    older = (await stores.prices.add(BY, NewPrice(model="m:latest", per_request_micro=9))).what
    old = (await stores.prices.add(BY, NewPrice(model="m:latest", per_request_micro=1))).what
    new = (await stores.prices.add(BY, NewPrice(model="m:latest", per_request_micro=2))).what
    later = (await stores.prices.add(BY, NewPrice(model="m:latest", valid_from_ms=await now_ms(stores) + HOUR_MS))).what
    listed = await stores.prices.price_list()
    assert listed.version > before.version
    assert set(listed.prices) == {*before.prices, old, new, later}
    assert len(listed.prices) == 4
    assert older in (await stores.prices.page("m:latest", None, 10)).items


async def test_only_a_price_that_is_not_valid_yet_can_be_removed(stores: Stores) -> None:
    valid = (await stores.prices.add(BY, NewPrice(model="m:latest"))).what
    later = (await stores.prices.add(BY, NewPrice(model="m:latest", valid_from_ms=await now_ms(stores) + HOUR_MS))).what
    version = (await stores.prices.price_list()).version
    with pytest.raises(Conflict, match="valid already"):
        await stores.prices.remove(BY, valid.id)
    assert (await stores.prices.price_list()).version == version
    await stores.prices.remove(BY, later.id)
    listed = await stores.prices.price_list()
    assert listed.version > version and later not in listed.prices
    for nothing in (later.id, 0, -1, 2**70):
        with pytest.raises(PriceNotFound):
            await stores.prices.remove(BY, nothing)
    entry = (await stores.entries(f"price:{later.id}"))[-1]
    assert (entry.action, entry.before and entry.before["model"], entry.after) == ("remove", "m:latest", None)


async def test_prices_come_in_pages_the_latest_first(stores: Stores) -> None:
    at = await now_ms(stores) + HOUR_MS
    for number in range(6):
        await stores.prices.add(BY, NewPrice(model=f"m{number % 2}:latest", valid_from_ms=at + number // 2))
    page = await stores.prices.page(None, None, 3)
    seen = page.items
    while page.after:
        page = await stores.prices.page(None, page.after, 3)
        seen += page.items
    assert [price.valid_from_ms for price in seen] == [at + 2, at + 2, at + 1, at + 1, at, at, 0]
    assert len({price.id for price in seen}) == 7
    assert {price.model for price in (await stores.prices.page("m1:latest", None, 10)).items} == {"m1:latest"}


async def test_prices_have_a_bound_that_a_race_does_not_break(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices_module, "PRICES_MAX", 4)
    made = await asyncio.gather(
        *(stores.prices.add(BY, NewPrice(model=f"m{n}:latest")) for n in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Conflict) for one in made) == 5
    assert len((await stores.prices.price_list()).prices) == 4


async def test_a_price_sent_again_is_added_once(stores: Stores) -> None:
    price = NewPrice(model="m:latest", per_request_micro=3)
    made = await asyncio.gather(*(stores.prices.add(by("k"), price) for _ in range(8)))
    assert sorted(one.again for one in made) == [False] + [True] * 7
    assert len({one.what for one in made}) == 1
    (entry,) = await stores.entries()
    assert entry.after and entry.after["per_request"] == 0.000003


async def test_a_grant_is_counted_once_however_often_it_is_sent(stores: Stores) -> None:
    await stores.keys.create(BY, record(1), None)
    grant = Grant(id="invoice-1", key_id="key00001", amount_micro=5_000_000, note="thanks")
    at_once = await asyncio.gather(*(stores.credits.grant(BY, grant) for _ in range(8)))
    replays = [await stores.credits.grant(replace(BY, name="somebody else"), grant) for _ in range(100)]
    assert sorted(made.again for made in at_once) == [False] + [True] * 7
    assert all(made.again for made in replays)
    assert {made.what for made in at_once + replays} == {at_once[0].what}
    key = await stores.keys.get("key00001")
    assert (key.granted_micro, key.metered, key.version) == (5_000_000, True, 2)
    assert [entry.action for entry in await stores.entries("key:key00001")] == ["create", "grant"]
    for other in ({"amount_micro": 6_000_000}, {"note": ""}, {"key_id": "key00002"}, {"key_id": None, "team_id": "t"}):
        with pytest.raises(Conflict, match="another grant"):
            await stores.credits.grant(BY, replace(grant, **other))  # type: ignore[arg-type]


async def test_grants_of_one_key_at_once_all_count(stores: Stores) -> None:
    await stores.keys.create(BY, record(1), 0)
    await stores.teams.create(BY, team(1), 0)
    await asyncio.gather(
        *(stores.credits.grant(BY, Grant(id=f"k{n}", key_id="key00001", amount_micro=n)) for n in range(1, 9)),
        *(stores.credits.grant(BY, Grant(id=f"t{n}", team_id=team(1).id, amount_micro=n)) for n in range(1, 9)),
    )
    assert (await stores.keys.get("key00001")).granted_micro == sum(range(9))
    assert (await stores.teams.get(team(1).id)).granted_micro == sum(range(9))


async def test_an_idempotency_key_and_a_grant_id_do_not_get_in_each_others_way(stores: Stores) -> None:
    await stores.keys.create(BY, record(1), None)
    grant = Grant(id="g", key_id="key00001", amount_micro=1)
    assert not (await stores.credits.grant(by("k"), grant)).again
    assert (await stores.credits.grant(by("k"), grant)).again
    assert (await stores.credits.grant(by("k2"), grant)).again
    with pytest.raises(IdempotencyMismatch):
        await stores.credits.grant(by("k", "other"), replace(grant, id="g2"))
    assert (await stores.keys.get("key00001")).granted_micro == 1


async def test_a_grant_that_cannot_be_leaves_nothing_in_the_ledger(stores: Stores) -> None:
    await stores.keys.create(BY, record(1), 10)
    for grant, error, words in (
        (Grant(id="g", key_id="nobody", amount_micro=1), KeyNotFound, "key"),
        (Grant(id="g", team_id="nobody", amount_micro=1), TeamNotFound, "team"),
        (Grant(id="g", amount_micro=1), BadRequest, "one key or to one team"),
        (Grant(id="g", key_id="a", team_id="b", amount_micro=1), BadRequest, "one key or to one team"),
        (Grant(id="g", key_id="key00001", amount_micro=0), BadRequest, "credit_grants_amount_some"),
        (Grant(id="g h", key_id="key00001", amount_micro=1), BadRequest, "credit_grants_id_form"),
        (Grant(id="g", key_id="key00001", amount_micro=-11), Conflict, "between 0"),
        (Grant(id="g", key_id="key00001", amount_micro=CREDITS_MICRO_MAX), Conflict, "between 0"),
        (Grant(id="g", key_id="key00001", amount_micro=2**62), BadRequest, "credit_grants_amount_range"),
    ):
        with pytest.raises(error, match=words):
            await stores.credits.grant(BY, grant)
    assert [one.id for one in (await stores.credits.page(None, None, None, 10)).items] == ["opening-key00001"]
    assert (await stores.keys.get("key00001")).granted_micro == 10
    taken = (await stores.credits.grant(BY, Grant(id="g", key_id="key00001", amount_micro=-4))).what
    assert (taken.granted_by, (await stores.keys.get("key00001")).granted_micro) == ("admin", 6)
    entry = (await stores.entries("key:key00001"))[-1]
    assert (entry.before, entry.after) == (
        {"credits_granted": 0.00001},
        {"credits_granted": 0.000006, "grant": "g", "amount": -0.000004},
    )


async def test_taking_credits_back_does_not_begin_to_count_calls(stores: Stores) -> None:
    await stores.keys.create(BY, record(1), 10)
    await stores.teams.create(BY, team(1), 10)
    await stores.keys.change(BY, "key00001", lambda one: replace(one, metered=False))
    await stores.teams.change(BY, team(1).id, lambda one: replace(one, metered=False))
    key, shared = {"key_id": "key00001"}, {"team_id": team(1).id}
    for owner, object in ((key, "key:key00001"), (shared, f"team:{team(1).id}")):
        for number, (amount, metered) in enumerate([(-4, False), (3, True), (-2, True)]):
            grant = Grant(id=f"{object}-{number}", amount_micro=amount, **owner)
            await stores.credits.grant(BY, grant)
            found = await (stores.keys.get("key00001") if owner is key else stores.teams.get(team(1).id))
            assert found.metered is metered
        told = [(one.before or {}, one.after or {}) for one in await stores.entries(object) if one.action == "grant"]
        assert [(before.get("metered"), after.get("metered")) for before, after in told] == [
            (None, None),
            (False, True),
            (None, None),
        ]


async def test_an_opening_balance_is_in_the_ledger_or_the_key_is_not_made(stores: Stores) -> None:
    await stores.keys.create(BY, record(1), None)
    await stores.credits.grant(BY, Grant(id="opening-key00002", key_id="key00001", amount_micro=1))
    with pytest.raises(Conflict, match="opening balance"):
        await stores.keys.create(BY, record(2), 5)
    with pytest.raises(KeyNotFound):
        await stores.keys.get("key00002")
    with pytest.raises(BadRequest, match="credits_granted_range"):
        await stores.keys.create(BY, record(3), -5)


async def test_grants_come_in_pages_newest_first(stores: Stores) -> None:
    await stores.keys.create(BY, record(1), None)
    await stores.keys.create(BY, record(2), 7)
    for number in range(5):
        await stores.credits.grant(BY, Grant(id=f"a b {number}".replace(" ", "/"), key_id="key00001", amount_micro=1))
    page = await stores.credits.page("key00001", None, None, 2)
    seen = [one.id for one in page.items]
    while page.after:
        page = await stores.credits.page("key00001", None, page.after, 2)
        seen += [one.id for one in page.items]
    assert seen == [f"a/b/{number}" for number in reversed(range(5))]
    assert len((await stores.credits.page(None, None, None, 10)).items) == 6


async def test_ledger_record_and_rows_are_added_up_for_every_owner(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credits_module, "SUMS_ROWS", 2)
    await stores.keys.create(BY, record(1), 10)
    await stores.keys.create(BY, record(2), None)
    await stores.teams.create(BY, team(1), 20)
    await stores.credits.grant(BY, Grant(id="g", key_id="key00001", amount_micro=5))
    await UsageStore(stores.postgres).insert([
        event(1, key_id="key00001", credits_micro=4, team_id=team(1).id, team_credits_micro=6),
        event(2, key_id="key00002", credits_micro=0, team_id=team(1).id, team_credits_micro=1),
    ])  # fmt: skip
    page = await stores.credits.sums(None, MONTH)
    seen = page.items
    while page.after:
        page = await stores.credits.sums(page.after, MONTH)
        seen += page.items
    owner = {"metered": True, "team_id": None, "key_id": None}
    assert seen == [
        OwnerSums(**owner | {"key_id": "key00001"}, ledger_micro=15, granted_micro=15, charged_micro=4, tokens=33),  # type: ignore[arg-type]
        OwnerSums(
            **owner | {"key_id": "key00002", "metered": False},  # type: ignore[arg-type]
            ledger_micro=0,
            granted_micro=0,
            charged_micro=0,
            tokens=33,
        ),
        OwnerSums(**owner | {"team_id": team(1).id}, ledger_micro=20, granted_micro=20, charged_micro=7, tokens=66),  # type: ignore[arg-type]
    ]


async def test_the_audit_log_can_be_searched(stores: Stores) -> None:
    somebody = replace(BY, name="somebody")
    for number in range(4):
        await stores.keys.create(somebody if number % 2 else BY, record(number), None)
    await stores.keys.revoke(somebody, "key00000")
    page = stores.audit.page
    assert [e.object for e in (await page(None, "create", "somebody", None, 10)).items] == [
        "key:key00003",
        "key:key00001",
    ]
    assert [e.action for e in (await page("key:key00000", None, None, None, 10)).items] == ["revoke", "create"]
    first = await page(None, None, None, None, 3)
    rest = await page(None, None, None, first.after, 3)
    assert [e.id for e in first.items + rest.items] == sorted((e.id for e in first.items + rest.items), reverse=True)
    assert (len(first.items), len(rest.items), rest.after) == (3, 2, None)
    entry = rest.items[-1]
    assert (entry.request_id, entry.actor) == ("request-1", "admin")
    assert abs(entry.at_ms - await now_ms(stores)) < HOUR_MS


async def test_requests_are_forgotten_after_a_day(stores: Stores) -> None:
    await stores.keys.create(by("old"), record(1), None)
    await stores.keys.create(by("new"), record(2), None)
    async with stores.postgres.transaction() as connection:
        await connection.execute(
            "UPDATE admin_requests SET created_at = now() - interval '25 hours' WHERE idempotency_key = 'old'"
        )
    await Upkeep(stores.postgres, Log(lambda: 0.0, StringIO())).run_once()
    assert (await stores.keys.create(by("new"), record(3), None)).again
    assert not (await stores.keys.create(by("old"), record(4), None)).again
