"""Digests of a prompt's beginnings: equal where prompts begin alike, and for one key and one model only."""

import random
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.core import affinity
from gateway.core.affinity import (
    DIGEST_BYTES,
    HELP_CALLS_MIN,
    HOME_MS_MAX,
    HOME_MS_MIN,
    LOOKUPS_MAX,
    helps,
    home_ms,
    looked_up,
    prefixes,
    recorded,
    saving_ms,
)
from gateway.core.routing import Backend, Rates, Wanted
from gateway.dialects.ollama import ChatRequest, EmbedRequest, Function, GenerateRequest, Message, ToolCall
from gateway.dialects.prompt_parts import BLOCK_BYTES, IMAGE_CHARS

OWNER, M = "key1", "m:latest"
PARTS = st.lists(st.binary(max_size=4), max_size=2 * LOOKUPS_MAX)
SYSTEM = Message(role="system", content="You are kind.")
TOOL = Raw(b'{"type":"function","function":{"name":"f"}}')


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(text: str) -> Message:
    return Message(role="assistant", content=text)


def asked(*messages: Message, tools: tuple[Raw, ...] = ()) -> list[str]:
    return prefixes(OWNER, M, ChatRequest(messages=list(messages), tools=list(tools)).parts())


def found(before: list[str], now: list[str]) -> str | None:
    """What a node that got the prompt `before` is found by for `now`."""
    known = set(recorded(before))
    return next((digest for digest in looked_up(now) if digest in known), None)


@given(PARTS, PARTS, PARTS)
def test_prompts_have_the_digests_of_what_they_begin_with_in_common(
    begin: list[bytes], one: list[bytes], other: list[bytes]
) -> None:
    begin = begin[: LOOKUPS_MAX // 2]
    one, other = one[: LOOKUPS_MAX // 2], other[: LOOKUPS_MAX // 2]
    first, second = prefixes(OWNER, M, begin + one), prefixes(OWNER, M, begin + other)
    assert first[: len(begin)] == second[: len(begin)] == prefixes(OWNER, M, begin)
    for at, (left, right) in enumerate(zip(first, second, strict=False)):
        assert (left == right) == ((begin + one)[: at + 1] == (begin + other)[: at + 1])


def test_parts_are_told_apart_however_they_are_cut() -> None:
    cuts = [[b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""], [b"", b"abc"], [b"2:ab", b"c"]]
    assert len({prefixes(OWNER, M, parts)[-1] for parts in cuts}) == len(cuts)


def test_nobody_can_look_for_what_another_key_or_model_was_asked() -> None:
    whose = [(OWNER, M), ("key2", M), (OWNER, "other"), ("key1m:latest", ""), ("", "key1m:latest")]
    assert len({prefixes(owner, model, [b"hi"])[0] for owner, model in whose}) == len(whose)


def test_of_a_long_prompt_the_longest_beginnings_are_kept() -> None:
    parts = [b"%d" % number for number in range(1_000)]
    digests = prefixes(OWNER, M, parts)
    assert len(digests) == len(looked_up(digests)) == LOOKUPS_MAX
    assert digests[-1] == looked_up(digests)[0] == recorded(digests)[0]
    assert digests[-2] == prefixes(OWNER, M, parts[:-1])[-1] == looked_up(digests)[1] == recorded(digests)[1]
    assert all(len(digest) == 2 * DIGEST_BYTES for digest in digests)


def test_nothing_and_little_can_be_looked_up_too() -> None:
    assert looked_up([]) == recorded([]) == prefixes(OWNER, M, []) == []
    assert looked_up(["a"]) == recorded(["a"]) == ["a"]


def test_the_next_turn_of_a_conversation_finds_the_last() -> None:
    said = [SYSTEM, user("hi")]
    for number in range(40):
        last = asked(*said)
        said += [assistant(f"answer {number}"), user(f"question {number}")]
        assert found(last, asked(*said)) == last[-1]


def test_a_question_that_is_asked_otherwise_finds_what_came_before_it() -> None:
    begin = (SYSTEM, user("hi"), assistant("hello"))
    assert found(asked(*begin, user("why")), asked(*begin, user("how"))) == asked(*begin)[-1]


def test_conversations_that_have_only_the_systems_words_in_common_are_strangers() -> None:
    one, other = asked(SYSTEM, SYSTEM, user("hi"), tools=(TOOL,)), asked(SYSTEM, SYSTEM, user("ho"), tools=(TOOL,))
    assert len(one) == len(other) == 1
    assert found(one, other) is None
    assert ChatRequest(messages=[SYSTEM], tools=[TOOL]).parts() == []


def test_what_a_model_reads_makes_a_difference_and_ids_do_not() -> None:
    def call(arguments: bytes, call_id: str = "") -> Message:
        return Message(role="assistant", tool_calls=[ToolCall(Function("f", Raw(arguments)), id=call_id)])

    def image(data: str) -> Message:
        return Message(role="user", images=[data])

    different = [
        (user("hi"),),
        (assistant("hi"),),
        (Message(role="user", thinking="hi"),),
        (Message(role="tool", content="hi", tool_name="f"),),
        (call(b"{}"),),
        (call(b'{"a":1}'),),
        (image("AAAA"),),
        (image("AAAAAAAA"),),
        (image("A" * IMAGE_CHARS + "B"),),
        (image("A" * IMAGE_CHARS + "C"),),
        (SYSTEM, user("hi")),
    ]
    digests = [asked(*messages)[-1] for messages in different] + [asked(user("hi"), tools=(TOOL,))[-1]]
    assert len(set(digests)) == len(digests)
    assert asked(call(b"{}", "one")) == asked(call(b"{}", "two"))


def test_a_prompt_is_cut_into_blocks_and_finds_those_it_begins_with() -> None:
    def prompt(text: str, **more: str) -> list[str]:
        return prefixes(OWNER, M, GenerateRequest(prompt=text, **more).parts())

    text = "".join(random.choices("abcd é", k=5 * BLOCK_BYTES))
    parts = GenerateRequest(prompt=text, system="s").parts()
    assert b"".join(parts) == b"s\0" + text.encode()
    assert max(map(len, parts)) <= BLOCK_BYTES + 2
    assert found(prompt(text), prompt(text + "and more")) == prompt(text)[-2]
    assert found(prompt(text, system="one"), prompt(text, system="two")) is None
    assert GenerateRequest(prompt="", system="s").parts() == []
    different = [
        GenerateRequest(prompt="a"),
        GenerateRequest(prompt="a", images=["AAAA"]),
        GenerateRequest(prompt="a", context=[1]),
    ]
    assert len({request.parts()[0] for request in different}) == len(different)


def test_embeddings_have_no_beginnings() -> None:
    assert EmbedRequest(input=["hi"]).parts() == []


def test_a_conversation_costs_little() -> None:
    said = [SYSTEM] + [message for n in range(20) for message in (user(f"{n} " * 100), assistant(f"{n} " * 150))]
    request = ChatRequest(messages=said[:40], tools=[TOOL])
    took_s = min(timeit.repeat(lambda: prefixes(OWNER, M, request.parts()), number=100, repeat=5)) / 100
    print(f"40 messages of {request.size().text_bytes} bytes: {took_s * 1e6:.0f} us")
    assert len(prefixes(OWNER, M, request.parts())) == LOOKUPS_MAX


@pytest.mark.parametrize(
    ("cached_ms", "cached_calls", "others", "expected"),
    [
        (0.9, HELP_CALLS_MIN, HELP_CALLS_MIN, False),
        (0.9, HELP_CALLS_MIN - 1, 1_000, True),
        (0.9, 1_000, HELP_CALLS_MIN - 1, True),
        (0.8, HELP_CALLS_MIN, HELP_CALLS_MIN, True),
        (0.1, HELP_CALLS_MIN, HELP_CALLS_MIN, True),
        (0.0, 0, 0, True),
    ],
)
def test_it_is_switched_off_where_it_was_seen_not_to_help(
    cached_ms: float, cached_calls: int, others: int, expected: bool
) -> None:
    rates = Rates(
        prompt_token_ms=1.0, cached_token_ms=cached_ms, calls=cached_calls + others, cached_calls=cached_calls
    )
    assert helps(rates) is expected


def test_where_nobody_knows_it_is_on() -> None:
    assert helps(Rates())
    assert helps(Rates(cached_token_ms=1.0, calls=1_000, cached_calls=500)), "a node that tells no durations"
    assert affinity.PARTS_MAX >= affinity.RECORDED


def test_a_call_waits_for_the_node_that_knows_it_no_longer_than_it_would_lose_elsewhere() -> None:
    assert [home_ms(ms) for ms in (0, HOME_MS_MIN - 1, HOME_MS_MIN, 400.7, HOME_MS_MAX, 10**9)] == [
        0, 0, HOME_MS_MIN, 400, HOME_MS_MAX, HOME_MS_MAX,
    ]  # fmt: skip


def test_what_a_known_prompt_saves_is_what_nodes_were_seen_to_save() -> None:
    def node(rates: Rates | None = None) -> Backend:
        return Backend(name="n", url="http://n", healthy=True, models={}, rates={M: rates} if rates else {})

    wanted, slow = Wanted(model=M, prompt_tokens=100), Rates(prompt_token_ms=2.0, calls=9)
    used = Rates(prompt_token_ms=2.0, calls=9, cached_token_ms=0.5, cached_calls=3)
    useless = Rates(prompt_token_ms=2.0, calls=9, cached_token_ms=2.5, cached_calls=3)
    assert saving_ms([node(), node()], wanted) == 100 * 1.0, "nobody knows"
    assert saving_ms([node(slow)], wanted) == 100 * 2.0, "nobody knows how much less"
    assert saving_ms([node(used), node()], wanted) == 100 * 1.5
    assert saving_ms([node(used), node(slow)], wanted) == 100 * 1.75
    assert saving_ms([node(useless)], wanted) == 0
