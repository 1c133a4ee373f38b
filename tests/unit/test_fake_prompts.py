"""Which part of a prompt a model of the fake Ollama evaluates."""

from gateway.dev.fake_prompts import Part, PromptCache, parts_of, tokens_of


def said(*texts: str) -> list[Part]:
    """A conversation: user, assistant, user, …"""
    return [Part(("user", "assistant")[n % 2], text, 10) for n, text in enumerate(texts)]


def test_what_a_conversation_adds_is_evaluated_and_nothing_else() -> None:
    cache = PromptCache()
    assert cache.evaluate(said("a"), most=1) == 10
    cache.answered(said("a"), "b", most=1)
    assert cache.evaluate(said("a", "b", "c"), most=1) == 10
    assert cache.evaluate(said("a", "b", "x"), most=1) == 10  # c is not in it
    assert cache.evaluate(said("z", "b", "x"), most=1) == 30


def test_the_same_prompt_again_costs_one_token() -> None:
    cache = PromptCache()
    cache.evaluate(said("a"), most=1)
    assert cache.evaluate(said("a"), most=1) == 1


def test_as_many_conversations_are_kept_as_fit_those_used_last() -> None:
    cache = PromptCache()
    for first in "abc":
        cache.evaluate(said(first), most=2)
    assert cache.evaluate(said("b", "", "more"), most=2) == 20
    assert cache.evaluate(said("c", "", "more"), most=2) == 20
    assert cache.evaluate(said("a", "", "more"), most=2) == 30  # the third has put it out


def test_a_longer_conversation_takes_the_place_of_what_it_continues() -> None:
    cache = PromptCache()
    cache.evaluate(said("other"), most=2)
    for texts in ("a",), ("a", "b", "c"), ("a", "b", "c", "d", "e"):
        cache.evaluate(said(*texts), most=2)
    assert cache.evaluate(said("other"), most=2) == 1


def test_a_message_said_by_another_is_another() -> None:
    cache = PromptCache()
    cache.evaluate([Part("user", "a", 10)], most=1)
    assert cache.evaluate([Part("system", "a", 10)], most=1) == 10


def test_parts_of_each_route() -> None:
    chat = {"messages": [{"role": "system", "content": "a b"}, {"role": "user", "content": "c", "images": ["x"]}]}
    assert [part.tokens for part in parts_of("/api/chat", chat)] == [2 + 19, 1 + 19 + 256]
    generate = {"system": "be kind", "prompt": "one two three"}
    assert tokens_of(parts_of("/api/generate", generate)) == 2 + 3 + 19
    assert tokens_of(parts_of("/api/embed", {"input": ["a b", "", "c"]})) == 3 + 2
    assert tokens_of(parts_of("/api/embeddings", {"prompt": "a b"})) == 3
    assert parts_of("/api/embed", {"input": 5}) == []
