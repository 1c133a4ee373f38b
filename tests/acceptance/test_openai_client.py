"""The issue's first promise: a key, the real `openai` client, exactly one row a call, and a revoked key is refused."""

import pytest
from openai import AuthenticationError

from gateway.dev.fake_ollama import FakeOllama
from tests.world import World, chat, credits_left


async def test_stream_and_whole_chats_make_one_row_each_and_a_revoked_key_is_refused(
    world: World, fake: FakeOllama
) -> None:
    key = await world.create_key(credits=10)
    client = world.openai(key)

    whole = await client.chat.completions.create(**chat())
    assert whole.choices[0].message.content == "Blue light scatters most."
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None

    pieces, usage = [], None
    stream = await client.chat.completions.create(**chat(), stream=True, stream_options={"include_usage": True})
    async for chunk in stream:
        usage = chunk.usage or usage
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(pieces) == "Blue light scatters most."
    assert len([piece for piece in pieces if piece]) == 5  # token by token, not in one lump
    assert usage is not None

    rows = await world.rows(2)
    assert [row["streamed"] for row in rows] == [False, True]
    for row, counted in zip(rows, (whole.usage, usage), strict=True):
        assert (row["prompt_tokens"], row["completion_tokens"]) == (counted.prompt_tokens, counted.completion_tokens)
        assert row["total_tokens"] == counted.total_tokens > 0
        assert (row["status"], row["model"], row["endpoint"]) == ("ok", "llama3.2:3b", "/v1/chat/completions")
        assert not row["estimated"]
        assert row["credits_micro"] == 1_000_000
    assert rows[0]["api_key_id"] == rows[1]["api_key_id"] == key.removeprefix("llm_")[:10]

    left = await world.usage(key)
    assert left["credits"] == credits_left(8, of=10)
    assert left["monthly_tokens"]["spent"] == sum(row["total_tokens"] for row in rows)

    await world.admin("DELETE", f"/admin/api-keys/{rows[0]['api_key_id']}")
    with pytest.raises(AuthenticationError) as refused:
        await client.chat.completions.create(**chat())
    assert refused.value.code == "invalid_api_key"
    assert len(fake.ledger.inference) == 2
    assert len(await world.rows(2)) == 2


async def test_every_place_for_a_key_works_and_two_different_ones_are_refused(world: World) -> None:
    key, other = await world.create_key(), await world.create_key()
    url = f"{world.url}/v1/chat/completions"
    for name, value in (("Authorization", f"Bearer {key}"), ("X-API-Key", key), ("x_api_key", key)):
        assert (await world.http.post(url, headers={name: value}, json=chat())).status_code == 200
    both = {"Authorization": f"Bearer {key}", "X-API-Key": other}
    assert (await world.http.post(url, headers=both, json=chat())).status_code == 400
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {key}"}):
        reply = await world.http.post(url, headers=headers, json=chat())
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
    await world.rows(3)
